//! From an image's box to the rectangle that a view shows.

use crate::rng::Draws;

/// A rectangle of whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

impl Rect {
    /// The smallest rectangle that holds both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// This rectangle, whose origin is relative to `origin`'s, in the coordinates that `origin` is in.
    #[must_use]
    pub fn within(self, origin: Self) -> Self {
        Self { x: self.x + origin.x, y: self.y + origin.y, ..self }
    }

    /// Width and height at 1 / `shrink` of the size, a rest counted as one.
    #[must_use]
    pub fn shrunk(self, shrink: u32) -> (u32, u32) {
        (self.width.div_ceil(shrink), self.height.div_ceil(shrink))
    }
}

/// How views are cut.
#[derive(Debug, Clone)]
pub struct CropSpec {
    /// Side of the output, pixels.
    pub size: u32,
    /// Resize the short side to this first.
    pub resize: Option<u32>,
    /// Then keep the central square.
    pub center: bool,
    /// Share of the area, from and to.
    pub scale: (f64, f64),
    /// Width over height, from and to.
    pub ratio: (f64, f64),
    /// Probability of a horizontal flip.
    pub flip: f64,
    /// Widen boxes by fMoW's context.
    pub context: bool,
    /// Decode a JPEG at 1/2, 1/4 or 1/8 of its size, or a TIFF's overview, where the view is that much smaller.
    pub scaled: bool,
    /// Share of a random crop's pixels that must have data: crops with less are drawn again.
    pub min_valid: f64,
}

impl CropSpec {
    /// MoCo-v2's `RandomResizedCrop` to `size` pixels a side, and a flip.
    pub fn new(size: u32) -> Self {
        Self {
            size,
            resize: None,
            center: false,
            scale: (0.2, 1.0),
            ratio: (0.75, 4.0 / 3.0),
            flip: 0.5,
            context: true,
            scaled: false,
            min_valid: 0.5,
        }
    }
}

/// Which part of a region a view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// `RandomResizedCrop` and a random flip, for training.
    RandomResized,
    /// `Resize(size)` of the short side and `RandomCrop(size)`, as the linear protocol trains.
    Random,
    /// `Resize(size)` of the short side and `CenterCrop(size)`, for evaluation.
    Center,
}

/// What one view shows: an optional resize of the whole region, a window in it, and a flip. The window is then
/// resized to the output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Size that the region is resized to first, if it is.
    pub resized: Option<(u32, u32)>,
    /// The window, in pixels of the resized region, or of the region where there is no resize.
    pub window: Rect,
    /// Left, top, width and height of the part of the window that is shown, in the same pixels, where it is not of
    /// whole pixels; the window is then the whole pixels around it. Only where there is no resize.
    pub exact: Option<[f64; 4]>,
    /// Whether the output is mirrored left to right.
    pub flip: bool,
}

impl Geometry {
    /// How many times smaller a region may be decoded, so that it has at least the pixels of what it is resized to
    /// first: `resized`, or the output of `size` pixels a side.
    pub fn shrink(&self, region: (u32, u32), size: u32) -> u32 {
        let window = (self.window.width, self.window.height);
        let exact = |[_, _, width, height]: [f64; 4]| (width as u32, height as u32);
        let (from, to) = if let Some(full) = self.resized {
            (region, full)
        } else {
            (self.exact.map_or(window, exact), (size, size))
        };
        (from.0 / to.0.max(1)).min(from.1 / to.1.max(1)).max(1)
    }

    /// The same view of its window alone, where nothing else of the region is at hand.
    #[must_use]
    pub fn of_window(self) -> Self {
        let (x, y) = (f64::from(self.window.x), f64::from(self.window.y));
        let exact = self.exact.map(|[left, top, width, height]| [left - x, top - y, width, height]);
        Self { window: Rect { x: 0, y: 0, ..self.window }, exact, ..self }
    }
}

/// The region of an image that a box stands for: the box clipped to the image, widened by fMoW's context.
///
/// Rule of the fMoW baseline, side by side: the box grows by 0.15 of its side; by 0.2 where side / image is in
/// [0.4, 0.5), 0.3 in [0.3, 0.4), 0.5 in [0.2, 0.3), 1 in [0.1, 0.2), 2 under 0.1; half on each side, whole pixels,
/// clipped. (The baseline compares the width with the image's height and the reverse; here each with its own.)
///
/// None where the box lies outside the image.
pub fn region(bounds: [i32; 4], image: (u32, u32), context: bool) -> Option<Rect> {
    let (x, width) = side(bounds[0], bounds[2], image.0, context)?;
    let (y, height) = side(bounds[1], bounds[3], image.1, context)?;
    Some(Rect { x, y, width, height })
}

fn side(start: i32, length: i32, image: u32, context: bool) -> Option<(u32, u32)> {
    let (start, length, image) = (i64::from(start), i64::from(length), i64::from(image));
    let share = length as f64 / image as f64;
    let grow = match share {
        _ if !context => 0.0,
        s if s < 0.1 => 2.0,
        s if s < 0.2 => 1.0,
        s if s < 0.3 => 0.5,
        s if s < 0.4 => 0.3,
        s if s < 0.5 => 0.2,
        _ => 0.15,
    };
    let buffer = (length as f64 * grow / 2.0) as i64;
    let from = (start - buffer).max(0);
    let to = (start + length + buffer).min(image);
    (length > 0 && from < to && start < image && start + length > 0).then_some((from as u32, (to - from) as u32))
}

/// Size after torchvision's `Resize(short)`: the short side becomes `short`, the long one is truncated.
pub fn resized(width: u32, height: u32, short: u32) -> (u32, u32) {
    let long = |a: u32, b: u32| ((u64::from(short) * u64::from(a)) / u64::from(b)) as u32;
    if width <= height { (short, long(height, width)) } else { (long(width, height), short) }
}

/// The view of a region that a cut shows, as torchvision's transforms of these names have it.
pub fn geometry(cut: Cut, spec: &CropSpec, region: (u32, u32), draws: &mut Draws) -> Geometry {
    match cut {
        Cut::RandomResized => random_resized(spec, region, draws),
        Cut::Random | Cut::Center => {
            let (width, height) = resized(region.0, region.1, spec.size);
            let mut window = central(Rect { x: 0, y: 0, width, height }, spec.size, spec.size);
            if cut == Cut::Random {
                window.y = draws.below((height - window.height + 1) as usize) as u32;
                window.x = draws.below((width - window.width + 1) as usize) as u32;
            }
            Geometry { resized: Some((width, height)), window, exact: None, flip: false }
        }
    }
}

fn random_resized(spec: &CropSpec, region: (u32, u32), draws: &mut Draws) -> Geometry {
    let full = spec.resize.map(|short| resized(region.0, region.1, short));
    let mut frame = Rect { x: 0, y: 0, width: full.unwrap_or(region).0, height: full.unwrap_or(region).1 };
    if let (Some(short), true) = (spec.resize, spec.center) {
        frame = central(frame, short, short);
    }
    let window = random_resized_crop(frame, spec, draws);
    Geometry { resized: full, window, exact: None, flip: draws.chance(spec.flip) }
}

fn central(frame: Rect, width: u32, height: u32) -> Rect {
    let (width, height) = (width.min(frame.width), height.min(frame.height));
    // torchvision rounds half to even, as Python does.
    let half = |gap: u32| (f64::from(gap) / 2.0).round_ties_even() as u32;
    Rect { x: frame.x + half(frame.width - width), y: frame.y + half(frame.height - height), width, height }
}

fn random_resized_crop(frame: Rect, spec: &CropSpec, draws: &mut Draws) -> Rect {
    let area = f64::from(frame.width) * f64::from(frame.height);
    let (low, high) = (spec.ratio.0.ln(), spec.ratio.1.ln());
    for _ in 0..10 {
        let target = area * draws.uniform(spec.scale.0, spec.scale.1);
        let ratio = draws.uniform(low, high).exp();
        let width = (target * ratio).sqrt().round_ties_even() as u32;
        let height = (target / ratio).sqrt().round_ties_even() as u32;
        if (1..=frame.width).contains(&width) && (1..=frame.height).contains(&height) {
            let y = draws.below((frame.height - height + 1) as usize) as u32;
            let x = draws.below((frame.width - width + 1) as usize) as u32;
            return Rect { x: frame.x + x, y: frame.y + y, width, height };
        }
    }
    // No crop of the wanted shape fits: the largest central one of an allowed ratio.
    let ratio = f64::from(frame.width) / f64::from(frame.height);
    let (width, height) = if ratio < spec.ratio.0 {
        (frame.width, (f64::from(frame.width) / spec.ratio.0).round_ties_even() as u32)
    } else if ratio > spec.ratio.1 {
        ((f64::from(frame.height) * spec.ratio.1).round_ties_even() as u32, frame.height)
    } else {
        (frame.width, frame.height)
    };
    let (width, height) = (width.clamp(1, frame.width), height.clamp(1, frame.height));
    let (x, y) = ((frame.width - width) / 2, (frame.height - height) / 2);
    Rect { x: frame.x + x, y: frame.y + y, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stage;
    use proptest::prelude::*;

    #[test]
    fn context_follows_the_fmow_baseline() {
        // box side, image side, expected growth on each side (int(side * share / 2)).
        for (length, image, buffer) in
            [(50, 1000, 50), (150, 1000, 75), (250, 1000, 62), (350, 1000, 52), (450, 1000, 45), (600, 1000, 45)]
        {
            let got = region([300, 300, length, length], (image, image), true).unwrap();
            assert_eq!((got.x, got.width), (300 - buffer, (length as u32) + 2 * buffer));
        }
        let clipped = region([0, 990, 100, 100], (1000, 1000), true).unwrap();
        assert_eq!((clipped.x, clipped.width, clipped.y, clipped.height), (0, 150, 940, 60));
        assert_eq!(region([10, 20, 30, 40], (1000, 1000), false), Some(Rect { x: 10, y: 20, width: 30, height: 40 }));
        assert!(region([1000, 0, 10, 10], (1000, 1000), true).is_none());
        assert!(region([0, 0, 0, 10], (1000, 1000), true).is_none());
    }

    fn spec() -> CropSpec {
        CropSpec { scale: (0.08, 1.0), ..CropSpec::new(224) }
    }

    #[test]
    fn crops_have_the_asked_area_and_shape() {
        let (mut shares, mut flips) = (0.0, 0);
        for sample in 0..4000 {
            let g = geometry(Cut::RandomResized, &spec(), (1000, 1000), &mut Draws::new(0, 0, sample, 0, Stage::Crop));
            let share = f64::from(g.window.width) * f64::from(g.window.height) / 1e6;
            let ratio = f64::from(g.window.width) / f64::from(g.window.height);
            assert!((0.079..=1.0).contains(&share) && (0.74..1.35).contains(&ratio));
            shares += share;
            flips += u32::from(g.flip);
        }
        assert!((1800..2200).contains(&flips));
        // Uniform in 0.08..1 but for the largest, which do not always fit: torchvision's mean on 1000 x 1000 is 0.49.
        assert!((shares / 4000.0 - 0.49).abs() < 0.02, "{}", shares / 4000.0);
    }

    #[test]
    fn published_temporal_crop_stays_in_the_central_square() {
        let spec = CropSpec { resize: Some(448), center: true, ..spec() };
        for sample in 0..100 {
            let g = geometry(Cut::RandomResized, &spec, (1000, 600), &mut Draws::new(0, 0, sample, 0, Stage::Crop));
            assert_eq!(g.resized, Some((746, 448))); // int(448 * 1000 / 600)
            assert!(g.window.x >= 149 && g.window.x + g.window.width <= 149 + 448 && g.window.width <= 448);
        }
    }

    #[test]
    fn a_shrunk_region_has_the_pixels_of_the_output() {
        let window = |width, height| {
            let window = Rect { x: 5, y: 5, width, height };
            Geometry { resized: None, window, exact: None, flip: false }
        };
        for (width, height, shrink) in [
            (447, 800, 1),
            (448, 448, 2),
            (900, 895, 3),
            (896, 896, 4),
            (4000, 1700, 7),
            (20_000, 20_000, 89),
            (30, 30, 1),
        ] {
            assert_eq!(window(width, height).shrink((30_000, 30_000), 224), shrink);
        }
        // Of a window between pixels, what is shown counts.
        let exact = Geometry { exact: Some([5.5, 5.5, 447.5, 448.0]), ..window(449, 449) };
        assert_eq!((exact.shrink((900, 900), 224), window(449, 449).shrink((900, 900), 224)), (1, 2));
        assert_eq!(exact.of_window().exact, Some([0.5, 0.5, 447.5, 448.0]));
        // The first resize is what counts, however small the window.
        let resized = Geometry { resized: Some((600, 448)), ..window(100, 100) };
        assert_eq!(resized.shrink((1199, 900), 32), 1);
        assert_eq!(resized.shrink((1200, 900), 32), 2);
    }

    proptest! {
        #[test]
        fn windows_lie_inside(w in 1u32..3000, h in 1u32..3000, sample in 0u64..50, resize in prop::option::of(16u32..500)) {
            let spec = CropSpec { resize, ..spec() };
            for cut in [Cut::RandomResized, Cut::Random, Cut::Center] {
                let g = geometry(cut, &spec, (w, h), &mut Draws::new(0, 0, sample, 0, Stage::Crop));
                let frame = g.resized.unwrap_or((w, h));
                prop_assert!(g.window.width >= 1 && g.window.height >= 1);
                prop_assert!(g.window.x + g.window.width <= frame.0 && g.window.y + g.window.height <= frame.1);
            }
        }
    }
}
