//! The colour steps, each over a block of pixels that lies in the first-level cache: one slice a band, values 0..1.
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
}

/// The steps of one view in their order. Images of other than three bands have neither hue nor gray value.
pub fn plan(color: &[f32; COLOR_PARAMS], bands: usize) -> Vec<Step> {
    let [order, brightness, contrast, saturation, hue, gray, _] = *color;
    let mut steps = Vec::with_capacity(5);
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
    steps.retain(|step| bands == 3 || matches!(step, Step::Brightness(_) | Step::Contrast(_)));
    steps
}

/// What contrast changes a band about, given the mean of each: the mean gray value, or the band's own mean.
pub fn centers(means: &[f32]) -> Vec<f32> {
    match *means {
        [red, green, blue] => vec![luma(red, green, blue); 3],
        _ => means.to_vec(),
    }
}

/// Applies the steps to a block, in place. `block` has one slice a band, all of one length.
#[inline(always)]
#[allow(clippy::inline_always)] // the caller is compiled once for each kind of machine, with all that it calls
pub fn apply(steps: &[Step], centers: &[f32], block: &mut [&mut [f32]]) {
    for &step in steps {
        match step {
            Step::Brightness(factor) => {
                for values in block.iter_mut() {
                    values.iter_mut().for_each(|v| *v = (*v * factor).clamp(0.0, 1.0));
                }
            }
            Step::Contrast(factor) => {
                for (values, center) in block.iter_mut().zip(centers) {
                    let rest = center * (1.0 - factor);
                    values.iter_mut().for_each(|v| *v = (*v * factor + rest).clamp(0.0, 1.0));
                }
            }
            Step::Saturation(factor) => pixels(block, |rgb| {
                let rest = luma(rgb[0], rgb[1], rgb[2]) * (1.0 - factor);
                rgb.map(|v| (v * factor + rest).clamp(0.0, 1.0))
            }),
            Step::Hue(shift) => {
                let sixths = 6.0 * (shift - shift.floor());
                pixels(block, |rgb| turn_hue(rgb, sixths));
            }
            Step::Gray => pixels(block, |rgb| [luma(rgb[0], rgb[1], rgb[2]); 3]),
        }
    }
}

/// Sum of a block's values.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
pub fn sum(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += v;
        }
    }
    lanes.iter().chain(rest).map(|&v| f64::from(v)).sum()
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
            assert_eq!(plan(&color(order), 3), expected);
        }
        assert_eq!(plan(&color(23), 4), [c, b]);
        assert!(plan(&crate::color::UNCHANGED, 3).is_empty());
        assert_eq!(plan(&[-1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0], 3), [Step::Gray]);
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
            apply(&[Step::Hue(shift)], &[], &mut [r, g, b]);
            for (got, want) in planes.iter().zip(to) {
                assert!((got[0] - want).abs() < 1e-6, "{from:?} by {shift}: {planes:?}, not {to:?}");
            }
        }
    }
}
