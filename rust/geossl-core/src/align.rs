//! Crops of several dates of a place at the same ground, whatever the grids, sizes and resolutions of their images.

use crate::crop::{Geometry, Rect};
use crate::rng::Draws;

/// Least share of each side of an image that the other dates must cover; with less, crops are drawn one by one.
const LEAST_SHARE: f64 = 0.25;

/// Where images lie on the ground.
#[derive(Debug, Clone)]
pub struct Align {
    /// Of each row (a, b, c, d, e, f): pixel (x, y) lies at (a x + b y + c, d x + e y + f) on the ground of its place,
    /// in a frame that all dates of the place share. NaN where that is not known.
    pub frames: Vec<[f64; 6]>,
    /// (width, height) of each row's image, pixels.
    pub sizes: Vec<(u32, u32)>,
    /// Furthest that a crop of a later view is moved, a share of its sides.
    pub jitter: f64,
}

/// Left, top, width and height, pixels of an image.
pub type Window = [f64; 4];

impl Align {
    /// The part of `region` of `row`'s image that the regions of all of `others` show too; None where that is too
    /// little, or nothing is known of the ground.
    pub fn shared(&self, row: usize, region: Rect, others: impl Iterator<Item = (usize, Rect)>) -> Option<Rect> {
        let (mut left, mut top) = (f64::from(region.x), f64::from(region.y));
        let (mut right, mut bottom) = (left + f64::from(region.width), top + f64::from(region.height));
        for (other, its) in others {
            let [x, y, width, height] = self.map(other, window(its), row)?;
            (left, top) = (left.max(x), top.max(y));
            (right, bottom) = (right.min(x + width), bottom.min(y + height));
        }
        // What a rounding error away from a whole pixel is that pixel.
        let (left, top) = ((left - 1e-6).ceil(), (top - 1e-6).ceil());
        let (width, height) = ((right + 1e-6).floor() - left, (bottom + 1e-6).floor() - top);
        let enough = |side: f64, of: u32| side >= (LEAST_SHARE * f64::from(of)).max(1.0);
        (enough(width, region.width) && enough(height, region.height)).then_some(Rect {
            x: left as u32,
            y: top as u32,
            width: width as u32,
            height: height as u32,
        })
    }

    /// The view of `region` of `row`'s image that shows the ground of `shown`, pixels of the image of `first`, moved
    /// by the jitter, and flipped with the probability `flip`. None where nothing is known of the ground.
    pub fn follow(
        &self,
        (first, shown): (usize, Window),
        (row, region): (usize, Rect),
        flip: f64,
        draws: &mut Draws,
    ) -> Option<Geometry> {
        let [x, y, width, height] = self.map(first, shown, row)?;
        let mut axis = |start: f64, length: f64, from: u32, side: u32| {
            let side = f64::from(side);
            let length = length.min(side);
            let start = start + draws.uniform(-self.jitter, self.jitter) * length - f64::from(from);
            (start.clamp(0.0, side - length), length)
        };
        let (x, width) = axis(x, width, region.x, region.width);
        let (y, height) = axis(y, height, region.y, region.height);
        let flip = draws.chance(flip);
        if width < 1.0 || height < 1.0 {
            return None;
        }
        let outer = |start: f64, length: f64, side: u32| {
            let from = (start.floor() as u32).min(side - 1);
            (from, ((start + length).ceil() as u32).clamp(from + 1, side) - from)
        };
        let (left, columns) = outer(x, width, region.width);
        let (top, rows) = outer(y, height, region.height);
        let window = Rect { x: left, y: top, width: columns, height: rows };
        // The sum must not round to more than there is.
        let (width, height) = (width.min(f64::from(left + columns) - x), height.min(f64::from(top + rows) - y));
        Some(Geometry { resized: None, window, exact: Some([x, y, width, height]), flip })
    }

    /// The pixels of `to`'s image around those that show the ground of `window` of `from`'s.
    fn map(&self, from: usize, window: Window, to: usize) -> Option<Window> {
        let ([a, b, c, d, e, f], [p, q, r, s, t, u]) = (self.frames[from], self.frames[to]);
        let determinant = p * t - q * s;
        let [x, y, width, height] = window;
        let (x, y) = (x + width / 2.0, y + height / 2.0);
        let (x, y) = (a * x + b * y + c - r, d * x + e * y + f - u);
        let (x, y) = ((t * x - q * y) / determinant, (p * y - s * x) / determinant);
        // How far the sides reach along each of the other image's.
        let along = |m: f64, n: f64| m.abs() * width + n.abs() * height;
        let wide = along((t * a - q * d) / determinant, (t * b - q * e) / determinant);
        let high = along((p * d - s * a) / determinant, (p * e - s * b) / determinant);
        let mapped = [x - wide / 2.0, y - high / 2.0, wide, high];
        mapped.iter().all(|v| v.is_finite()).then_some(mapped)
    }
}

/// The whole pixels of a rectangle.
fn window(rect: Rect) -> Window {
    [f64::from(rect.x), f64::from(rect.y), f64::from(rect.width), f64::from(rect.height)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stage;

    /// Ten-metre pixels from (0, 1000) on; five-metre pixels that start 12.5 m to the right and 20 m lower.
    fn align(jitter: f64) -> Align {
        let frames = vec![
            [10.0, 0.0, 0.0, 0.0, -10.0, 1000.0],
            [5.0, 0.0, 12.5, 0.0, -5.0, 980.0],
            [10.0, 0.0, 90_000.0, 0.0, -10.0, 1000.0],
            [f64::NAN; 6],
        ];
        Align { frames, sizes: vec![(100, 100), (180, 200), (100, 100), (100, 100)], jitter }
    }

    fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect { x, y, width, height }
    }

    fn draws(sample: u64) -> Draws {
        Draws::new(1, 0, sample, 1, Stage::Crop)
    }

    #[test]
    fn the_shared_part_lies_in_both() {
        let align = align(0.0);
        let others = |row: usize, r: Rect| std::iter::once((row, r));
        // The second image shows 12.5 to 912.5 m and 20 to 1020 m down: whole pixels 2 to 91 and 2 to 100 of the first.
        assert_eq!(align.shared(0, rect(0, 0, 100, 100), others(1, rect(0, 0, 180, 200))), Some(rect(2, 2, 89, 98)));
        assert_eq!(align.shared(0, rect(10, 10, 20, 20), others(1, rect(0, 0, 180, 200))), Some(rect(10, 10, 20, 20)));
        assert_eq!(align.shared(0, rect(0, 0, 100, 100), others(2, rect(0, 0, 100, 100))), None, "far away");
        assert_eq!(align.shared(0, rect(0, 0, 100, 100), others(3, rect(0, 0, 100, 100))), None, "not known");
    }

    #[test]
    fn a_view_follows_the_ground() {
        let region = rect(0, 0, 180, 200);
        let got = align(0.0).follow((0, [10.0, 20.0, 30.0, 40.0]), (1, region), 0.0, &mut draws(0)).unwrap();
        // 100 to 400 m across, 200 to 600 m down.
        assert_eq!(got.exact, Some([17.5, 36.0, 60.0, 80.0]));
        assert_eq!(got.window, rect(17, 36, 61, 80));
        assert!(align(0.0).follow((0, [10.0, 20.0, 30.0, 40.0]), (3, region), 0.0, &mut draws(0)).is_none());
        let inner = rect(10, 30, 100, 100);
        let got = align(0.0).follow((0, [10.0, 20.0, 30.0, 40.0]), (1, inner), 1.0, &mut draws(0)).unwrap();
        assert_eq!((got.exact, got.flip), (Some([7.5, 6.0, 60.0, 80.0]), true));
    }

    #[test]
    fn the_jitter_is_bounded_and_stays_inside() {
        let region = rect(0, 0, 180, 200);
        let mut moved = 0.0_f64;
        for sample in 0..200 {
            let shown = [2.0 + (sample % 50) as f64, 3.0, 30.0, 40.0];
            let got = align(0.1).follow((0, shown), (1, region), 0.5, &mut draws(sample)).unwrap();
            let plain = align(0.0).follow((0, shown), (1, region), 0.5, &mut draws(sample)).unwrap();
            let ([x, y, w, h], [px, py, ..]) = (got.exact.unwrap(), plain.exact.unwrap());
            assert!((x - px).abs() <= 0.1 * 60.0 + 1e-9 && (y - py).abs() <= 0.1 * 80.0 + 1e-9);
            assert!(x >= 0.0 && y >= 0.0 && x + w <= 180.0 && y + h <= 200.0);
            moved = moved.max((x - px).abs());
        }
        assert!(moved > 4.0, "{moved}");
    }

    #[test]
    fn turned_images_are_followed_by_the_rectangle_around() {
        // A quarter turn: x on the ground is y in the image.
        let frames = vec![[1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]];
        let align = Align { frames, sizes: vec![(50, 40), (40, 50)], jitter: 0.0 };
        let got = align.follow((0, [10.0, 5.0, 20.0, 8.0]), (1, rect(0, 0, 40, 50)), 0.0, &mut draws(0)).unwrap();
        assert_eq!(got.exact, Some([5.0, 10.0, 8.0, 20.0]));
    }
}
