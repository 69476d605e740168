//! The colour steps, each over a block of pixels that lies in the first-level cache: one slice a band, of integers'
//! values scaled to 0..1, of floats' as they are. NaN stands for no data and stays NaN.
//!
//! No branch and no call stands in a loop over pixels, so that all of them become vector instructions.

use crate::color::COLOR_PARAMS;

/// Weights of red, green and blue in the gray value: ITU-R 601, as torchvision and Pillow round them.
const LUMA: [f32; 3] = [0.2989, 0.587, 0.114];
/// Sums run in this many lanes, whatever the machine's vectors are, so that every machine adds in the same order.
const LANES: usize = 16;

/// One colour change, with its factor or shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    Brightness(f32),
    Contrast(f32),
    Saturation(f32),
    Hue(f32),
    Gray,
    /// Takes a pixel's data away where one of its bands has none.
    Unite,
}

/// The range that integers are kept in.
pub const UNIT: (f32, f32) = (0.0, 1.0);
/// The range of floats.
pub const ALL: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// The steps of one view in their order. Images of other than three bands have neither hue nor gray value. If
/// `masked`, there may be samples without data, and so no colour where any of the three bands is without.
pub fn plan(color: &[f32; COLOR_PARAMS], bands: usize, masked: bool) -> Vec<Step> {
    let [order, brightness, contrast, saturation, hue, gray, _] = *color;
    let mut steps = Vec::with_capacity(6);
    if order >= 0.0 {
        let mut left =
            vec![Step::Brightness(brightness), Step::Contrast(contrast), Step::Saturation(saturation), Step::Hue(hue)];
        // The digits of the order's number, in factorials, pick the steps of the lexicographic permutation.
        let mut number = order as usize;
        for places in [6, 2, 1, 1] {
            steps.push(left.remove((number / places).min(left.len() - 1)));
            number %= places;
        }
    }
    if gray > 0.0 {
        steps.push(Step::Gray);
    }
    let alone = |step: &Step| matches!(step, Step::Brightness(_) | Step::Contrast(_));
    steps.retain(|step| bands == 3 || alone(step));
    if let (true, Some(mixes)) = (masked, steps.iter().position(|step| !alone(step))) {
        steps.insert(mixes, Step::Unite);
    }
    steps
}

/// What contrast changes a band about, given the mean of each: the mean gray value, or the band's own mean.
pub fn centers(means: &[f32]) -> Vec<f32> {
    match *means {
        [red, green, blue] => vec![luma(red, green, blue); 3],
        _ => means.to_vec(),
    }
}

/// Applies the steps to a block, in place. `block` has one slice a band, all of one length; values are kept in `range`.
#[inline(always)]
#[allow(clippy::inline_always)] // the caller is compiled once for each kind of machine, with all that it calls
pub fn apply(steps: &[Step], centers: &[f32], range: (f32, f32), block: &mut [&mut [f32]]) {
    let (least, most) = range;
    for &step in steps {
        match step {
            Step::Brightness(factor) => {
                for values in block.iter_mut() {
                    multiply(values, factor, range);
                }
            }
            Step::Contrast(factor) => {
                for (values, center) in block.iter_mut().zip(centers) {
                    let rest = center * (1.0 - factor);
                    values.iter_mut().for_each(|v| *v = (*v * factor + rest).clamp(least, most));
                }
            }
            Step::Saturation(factor) => pixels(block, |rgb| {
                let rest = luma(rgb[0], rgb[1], rgb[2]) * (1.0 - factor);
                rgb.map(|v| (v * factor + rest).clamp(least, most))
            }),
            Step::Hue(shift) => {
                let sixths = 6.0 * (shift - shift.floor());
                pixels(block, |rgb| turn_hue(rgb, sixths));
            }
            Step::Gray => pixels(block, |rgb| [luma(rgb[0], rgb[1], rgb[2]); 3]),
            Step::Unite => {
                pixels(block, |rgb| if rgb.iter().any(|v| v.is_nan()) { [f32::NAN; 3] } else { rgb });
            }
        }
    }
}

/// Multiplies values by a factor.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
pub fn multiply(values: &mut [f32], factor: f32, (least, most): (f32, f32)) {
    for v in values {
        *v = (*v * factor).clamp(least, most);
    }
}

/// Sum and number of a block's values, of those with data if `masked`.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
pub fn sum(values: &[f32], masked: bool) -> (f64, usize) {
    if masked {
        let lacking = values.iter().map(|v| u32::from(v.is_nan())).sum::<u32>();
        (sum_of(values, |v| if v.is_nan() { 0.0 } else { v }), values.len() - lacking as usize)
    } else {
        (sum_of(values, |v| v), values.len())
    }
}

#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn sum_of(values: &[f32], value: impl Fn(f32) -> f32) -> f64 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += value(*v);
        }
    }
    lanes.into_iter().chain(rest.iter().map(|v| value(*v))).map(f64::from).sum()
}

/// `change` of every pixel of a block of three bands.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn pixels(block: &mut [&mut [f32]], change: impl Fn([f32; 3]) -> [f32; 3]) {
    let [red, green, blue] = block else { return };
    for ((r, g), b) in red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut()) {
        [*r, *g, *b] = change([*r, *g, *b]);
    }
}

#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn luma(red: f32, green: f32, blue: f32) -> f32 {
    red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]
}

/// Turns the hue by `sixths` of the circle, 0 to 6, in the hue-saturation-value model. A gray pixel stays as it is.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
#[allow(clippy::float_cmp)] // the greatest is one of the three, to the bit
fn turn_hue([red, green, blue]: [f32; 3], sixths: f32) -> [f32; 3] {
    let value = larger(larger(red, green), blue);
    let least = smaller(smaller(red, green), blue);
    let chroma = value - least;
    // The hue in sixths of the circle (0 is red, 2 green, 4 blue) times the chroma: so nothing is divided.
    let hue = if green == value { 2.0 * chroma + blue - red } else { 4.0 * chroma + red - green };
    let hue = if red == value { green - blue } else { hue };
    let hue = hue + sixths * chroma;
    let hue = if hue < 0.0 { hue + 6.0 * chroma } else { hue };
    let hue = if hue >= 6.0 * chroma { hue - 6.0 * chroma } else { hue };
    // Each band's part of the chroma, a trapezium over the circle.
    let parts = [
        (hue - 3.0 * chroma).abs() - chroma,
        2.0 * chroma - (hue - 2.0 * chroma).abs(),
        2.0 * chroma - (hue - 4.0 * chroma).abs(),
    ];
    parts.map(|part| smaller(larger(part, 0.0), chroma) + least)
}

// Not `f32::max` and `f32::min`, which take care of NaN in several instructions: there is none here.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_the_lexicographic_permutations() {
        let color = |order: usize| [order as f32, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0];
        let [b, c, s, h] = [Step::Brightness(1.0), Step::Contrast(2.0), Step::Saturation(3.0), Step::Hue(4.0)];
        for (order, expected) in [
            (0, [b, c, s, h]),
            (1, [b, c, h, s]),
            (6, [c, b, s, h]),
            (9, [c, s, h, b]),
            (22, [h, s, b, c]),
            (23, [h, s, c, b]),
        ] {
            assert_eq!(plan(&color(order), 3, false), expected);
        }
        assert_eq!(plan(&color(23), 4, true), [c, b]);
        assert!(plan(&crate::color::UNCHANGED, 3, true).is_empty());
        assert_eq!(plan(&[-1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0], 3, false), [Step::Gray]);
        assert_eq!(plan(&color(0), 3, true), [b, c, Step::Unite, s, h]);
    }

    #[test]
    fn known_turns_of_the_hue() {
        let (red, green, blue, yellow) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]);
        for (from, shift, to) in [
            (red, 1.0 / 3.0, green),
            (green, 1.0 / 3.0, blue),
            (blue, 1.0 / 3.0, red),
            (red, 1.0 / 6.0, yellow),
            (green, -1.0 / 3.0, red),
            (yellow, 0.5, blue),
            ([0.3, 0.3, 0.3], 0.4, [0.3, 0.3, 0.3]),
            ([0.5, 0.25, 0.25], 1.0 / 3.0, [0.25, 0.5, 0.25]),
        ] {
            let mut planes = from.map(|v| [v]);
            let [r, g, b] = &mut planes;
            apply(&[Step::Hue(shift)], &[], UNIT, &mut [r, g, b]);
            for (got, want) in planes.iter().zip(to) {
                assert!((got[0] - want).abs() < 1e-6, "{from:?} by {shift}: {planes:?}, not {to:?}");
            }
        }
    }
}
