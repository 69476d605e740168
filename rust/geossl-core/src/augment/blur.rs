//! Gaussian blur, separable, row after row. Both directions are sums of lines at growing distance from the middle one.

/// Pixels that are summed at a time: enough vectors to keep the processor busy, few enough for its registers.
const WIDE: usize = 32;

/// The length of a buffer for a line of `size` pixels, which is worked on in whole `WIDE`s.
pub fn wide(size: usize) -> usize {
    size.next_multiple_of(WIDE)
}

/// A kernel and the line it works on, kept from view to view.
#[derive(Default)]
pub struct Blur {
    /// Weight of the two pixels at distance 0, 1, .. on either side, and so half of the middle one's at first.
    weights: Vec<f32>,
    /// Where the two lines at each distance start: rows of the plane, or `padded` moved to either side.
    rows: Vec<[usize; 2]>,
    moved: Vec<[usize; 2]>,
    /// One row blurred downwards, with as many pixels more on each side as the kernel reaches.
    padded: Vec<f32>,
    /// Likewise the weight of the samples with data in that row.
    shares: Vec<f32>,
    /// And along it.
    across: Vec<f32>,
}

impl Blur {
    /// Gets ready for images of `size` pixels a side. The kernel reaches 3 sigma, rounded up.
    pub fn prepare(&mut self, sigma: f32, size: usize) {
        let radius = (3.0 * sigma).ceil() as usize;
        let weight = |distance: usize| (-0.5 * (distance as f64 / f64::from(sigma)).powi(2)).exp();
        let total = weight(0) + 2.0 * (1..=radius).map(weight).sum::<f64>();
        self.weights.clear();
        self.weights.extend((0..=radius).map(|distance| (weight(distance) / total) as f32));
        self.weights[0] /= 2.0;
        self.moved.clear();
        self.moved.extend((0..=radius).map(|distance| [radius - distance, radius + distance]));
        self.padded.resize(wide(size) + 2 * radius, 0.0);
        self.shares.resize(wide(size) + 2 * radius, 0.0);
    }

    /// Blurs row `y` of a plane of `size` pixels a side into the first `size` values of `out`, which is `wide(size)`
    /// long; the plane's buffer goes on for that much behind the start of its last row. The image is reflected at
    /// its borders.
    #[inline(always)]
    #[allow(clippy::inline_always)] // the caller is compiled once for each kind of machine, with all that it calls
    pub fn row(&mut self, plane: &[f32], size: usize, y: usize, out: &mut [f32]) {
        self.reach(size, y);
        let radius = self.weights.len() - 1;
        weigh(&self.weights, &self.rows, plane, &mut self.padded[radius..][..out.len()]);
        pad(&mut self.padded, radius, size);
        weigh(&self.weights, &self.moved, &self.padded, out);
    }

    /// The same of a plane where samples without data are NaN: these have no part in the others, and stay NaN.
    #[inline(always)]
    #[allow(clippy::inline_always)] // as above
    pub fn row_valid(&mut self, plane: &[f32], size: usize, y: usize, out: &mut [f32]) {
        self.reach(size, y);
        let radius = self.weights.len() - 1;
        let line = radius..radius + out.len();
        weigh_by(
            &self.weights,
            &self.rows,
            plane,
            &mut self.padded[line.clone()],
            |v| if v.is_nan() { 0.0 } else { v },
        );
        weigh_by(&self.weights, &self.rows, plane, &mut self.shares[line], |v| if v.is_nan() { 0.0 } else { 1.0 });
        pad(&mut self.padded, radius, size);
        pad(&mut self.shares, radius, size);
        weigh(&self.weights, &self.moved, &self.padded, out);
        self.across.resize(out.len(), 0.0);
        weigh(&self.weights, &self.moved, &self.shares, &mut self.across);
        for ((v, share), center) in out.iter_mut().zip(&self.across).zip(&plane[y * size..][..size]) {
            *v = if center.is_nan() { f32::NAN } else { *v / share };
        }
    }

    /// Finds the rows that row `y` is made of.
    fn reach(&mut self, size: usize, y: usize) {
        let radius = self.weights.len() - 1;
        let row = |y: isize| reflect(y, size) * size;
        self.rows.clear();
        self.rows
            .extend((0..=radius as isize).map(|distance| [row(y as isize - distance), row(y as isize + distance)]));
    }
}

/// Mirrors a line of `size` values, which starts at `radius`, to both sides.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn pad(line: &mut [f32], radius: usize, size: usize) {
    for i in 0..radius {
        line[radius - 1 - i] = line[radius + reflect(-1 - i as isize, size)];
        line[radius + size + i] = line[radius + reflect((size + i) as isize, size)];
    }
}

/// The pixel that stands at `i` of a line of `size` that goes on mirrored about its first and last pixel.
fn reflect(i: isize, size: usize) -> usize {
    let i = i.unsigned_abs();
    if i < size {
        return i;
    }
    let period = (2 * (size - 1)).max(1);
    let i = i % period;
    i.min(period - i).min(size - 1)
}

/// Sums the lines of `source` that start at each pair of places, by the pair's weight.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn weigh(weights: &[f32], starts: &[[usize; 2]], source: &[f32], out: &mut [f32]) {
    weigh_by(weights, starts, source, out, |v| v);
}

/// The same of what `value` makes of the samples.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn weigh_by(weights: &[f32], starts: &[[usize; 2]], source: &[f32], out: &mut [f32], value: impl Fn(f32) -> f32) {
    for (chunk, out) in out.as_chunks_mut::<WIDE>().0.iter_mut().enumerate() {
        let mut sums = [0.0; WIDE];
        for (weight, [one, other]) in weights.iter().zip(starts) {
            let (one, other) = (&source[one + chunk * WIDE..][..WIDE], &source[other + chunk * WIDE..][..WIDE]);
            for ((sum, a), b) in sums.iter_mut().zip(one).zip(other) {
                *sum += weight * (value(*a) + value(*b));
            }
        }
        *out = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blurred(plane: &[f32], size: usize, sigma: f32) -> Vec<f32> {
        let mut blur = Blur::default();
        blur.prepare(sigma, size);
        // What lies behind the plane must not show.
        let plane = [plane, &[f32::NAN; WIDE]].concat();
        let mut row = vec![0.0; wide(size)];
        let line = |y| {
            blur.row(&plane, size, y, &mut row);
            row[..size].to_vec()
        };
        (0..size).flat_map(line).collect()
    }

    fn blurred_valid(plane: &[f32], size: usize, sigma: f32) -> Vec<f32> {
        let mut blur = Blur::default();
        blur.prepare(sigma, size);
        let plane = [plane, &[0.5; WIDE]].concat();
        let mut row = vec![0.0; wide(size)];
        let line = |y| {
            blur.row_valid(&plane, size, y, &mut row);
            row[..size].to_vec()
        };
        (0..size).flat_map(line).collect()
    }

    #[test]
    fn samples_without_data_have_no_part_and_stay() {
        for (size, sigma) in [(1, 2.0), (9, 0.6), (40, 2.0), (33, 30.0)] {
            let lacks = |i: usize| (i * 7919 % 11 < 4 && i > 0) || (i / size > 20 && i % size > 15);
            let value = |i: usize| (i * 31 % 17) as f32 * 0.05;
            let made = |f: &dyn Fn(usize) -> f32| (0..size * size).map(f).collect::<Vec<f32>>();
            let got = blurred_valid(&made(&|i| if lacks(i) { f32::NAN } else { value(i) }), size, sigma);
            let sums = blurred(&made(&|i| if lacks(i) { 0.0 } else { value(i) }), size, sigma);
            let shares = blurred(&made(&|i| if lacks(i) { 0.0 } else { 1.0 }), size, sigma);
            for i in 0..size * size {
                if lacks(i) {
                    assert!(got[i].is_nan());
                } else {
                    assert!((got[i] - sums[i] / shares[i]).abs() < 1e-5);
                }
            }
            // Where all have data, as ever.
            let (plain, whole) = (blurred(&made(&value), size, sigma), blurred_valid(&made(&value), size, sigma));
            assert!(plain.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn reflection_repeats_no_border_pixel() {
        let seen: Vec<usize> = (-5..9).map(|i| reflect(i, 4)).collect();
        assert_eq!(seen, [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]);
        assert!((-3..3).all(|i| reflect(i, 1) == 0));
    }

    #[test]
    fn a_constant_image_stays_constant_even_under_a_kernel_wider_than_it() {
        for (size, sigma) in [(1, 2.0), (2, 1.0), (7, 0.1), (7, 4.0), (33, 2.0)] {
            assert!(blurred(&vec![0.75; size * size], size, sigma).iter().all(|v| (v - 0.75).abs() < 1e-6));
        }
    }

    #[test]
    fn a_point_becomes_the_kernel() {
        let (size, sigma) = (25, 1.5_f32);
        let mut plane = vec![0.0; size * size];
        plane[12 * size + 12] = 1.0;
        let weight = |d: usize| if d > 5 { 0.0 } else { (-0.5 * (d as f64 / 1.5).powi(2)).exp() };
        let total: f64 = weight(0) + 2.0 * (1..=5).map(weight).sum::<f64>();
        for (i, v) in blurred(&plane, size, sigma).iter().enumerate() {
            let want = weight((i / size).abs_diff(12)) * weight((i % size).abs_diff(12)) / (total * total);
            assert!((f64::from(*v) - want).abs() < 1e-7);
        }
    }
}
