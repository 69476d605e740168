//! Parameters of the colour changes, drawn per view; the changes themselves run where the batch is used.

use crate::rng::Draws;

/// Length of one view's parameters.
pub const COLOR_PARAMS: usize = 7;

/// Probabilities and ranges of MoCo-v2's colour changes.
#[derive(Debug, Clone)]
pub struct ColorSpec {
    /// Probability of the jitter.
    pub jitter_p: f64,
    /// Factors lie in 1 - b to 1 + b.
    pub brightness: f64,
    /// Factors lie in 1 - c to 1 + c.
    pub contrast: f64,
    /// Factors lie in 1 - s to 1 + s.
    pub saturation: f64,
    /// Shifts lie in -h to h, shares of the circle.
    pub hue: f64,
    /// Probability of grayscale.
    pub gray_p: f64,
    /// Probability of blur.
    pub blur_p: f64,
    /// Standard deviation of the blur, pixels of the output, from and to.
    pub blur_sigma: (f64, f64),
}

/// Parameters that change nothing.
pub const UNCHANGED: [f32; COLOR_PARAMS] = [-1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];

/// [order, brightness, contrast, saturation, hue, gray, sigma] of one view. `order` numbers the 24 orders of the four
/// jitters lexicographically and is -1 where there is no jitter; gray is 0 or 1; sigma is 0 where there is no blur.
pub fn draw(spec: &ColorSpec, draws: &mut Draws) -> [f32; COLOR_PARAMS] {
    let mut out = UNCHANGED;
    // Every value is drawn, used or not, so that a changed probability leaves the other draws as they were.
    let jitter = draws.chance(spec.jitter_p);
    let order = draws.below(24);
    let mut factor = |by: f64| draws.uniform((1.0 - by).max(0.0), 1.0 + by) as f32;
    let factors = [factor(spec.brightness), factor(spec.contrast), factor(spec.saturation)];
    let hue = draws.uniform(-spec.hue, spec.hue) as f32;
    let gray = draws.chance(spec.gray_p);
    let blur = draws.chance(spec.blur_p);
    let sigma = draws.uniform(spec.blur_sigma.0, spec.blur_sigma.1) as f32;
    if jitter {
        out[0] = order as f32;
        out[1..4].copy_from_slice(&factors);
        out[4] = hue;
    }
    out[5] = f32::from(u8::from(gray));
    out[6] = if blur { sigma } else { 0.0 };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stage;

    #[test]
    fn draws_have_the_asked_frequencies_and_ranges() {
        let spec = ColorSpec {
            jitter_p: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
            gray_p: 0.2,
            blur_p: 0.5,
            blur_sigma: (0.1, 2.0),
        };
        let n = 5000;
        let all: Vec<_> = (0..n).map(|s| draw(&spec, &mut Draws::new(9, 1, s, 0, Stage::Color))).collect();
        let share = |f: &dyn Fn(&[f32; COLOR_PARAMS]) -> bool| all.iter().filter(|p| f(p)).count() as f64 / n as f64;
        assert!((share(&|p| p[0] >= 0.0) - 0.8).abs() < 0.03);
        assert!((share(&|p| p[5] > 0.0) - 0.2).abs() < 0.03);
        assert!((share(&|p| p[6] > 0.0) - 0.5).abs() < 0.03);
        for p in &all {
            assert!(p[1..4].iter().all(|f| (0.6..=1.4).contains(f)) && p[4].abs() <= 0.1 && p[6] <= 2.0);
        }
        for order in 0..24 {
            assert!((share(&|p| p[0] as i32 == order) - 0.8 / 24.0).abs() < 0.012);
        }
    }
}
