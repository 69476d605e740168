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
    /// Each band's own factor lies in 1 - b to 1 + b, in images of other than three bands.
    pub band_jitter: f64,
    /// Probability that a band is dropped.
    pub band_dropout: f64,
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

/// The factor of each band of one view: 0 where the image lacks the band or it is dropped. Of the present bands at
/// least one stays. Without a spec, no band changes.
pub fn gains(spec: Option<&ColorSpec>, present: &[bool], draws: &mut Draws) -> Vec<f32> {
    let there = |present: bool| f32::from(u8::from(present));
    let Some(spec) = spec else { return present.iter().map(|&p| there(p)).collect() };
    // Every value is drawn, used or not, as in `draw`.
    let spared = draws.unit();
    let drawn: Vec<(f64, bool)> = present
        .iter()
        .map(|_| {
            let factor = draws.uniform((1.0 - spec.band_jitter).max(0.0), 1.0 + spec.band_jitter);
            (factor, draws.chance(spec.band_dropout))
        })
        .collect();
    let held: Vec<usize> = (0..present.len()).filter(|&band| present[band]).collect();
    let stays = held.iter().any(|&band| !drawn[band].1);
    let spared = if stays { None } else { held.get((spared * held.len() as f64) as usize) };
    let factor = |(band, (factor, dropped)): (usize, (f64, bool))| match (present[band], dropped) {
        (false, _) => 0.0,
        (true, true) if spared != Some(&band) => 0.0,
        // Three bands are a colour, whose balance is hue's and saturation's to change.
        (true, _) => {
            if present.len() == 3 {
                1.0
            } else {
                factor as f32
            }
        }
    };
    drawn.into_iter().enumerate().map(factor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stage;

    fn spec() -> ColorSpec {
        ColorSpec {
            jitter_p: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
            gray_p: 0.2,
            blur_p: 0.5,
            blur_sigma: (0.1, 2.0),
            band_jitter: 0.1,
            band_dropout: 0.25,
        }
    }

    #[test]
    fn bands_have_factors_of_their_own_and_are_dropped_as_often_as_asked() {
        let present = [true, true, false, true, true];
        let n = 4000;
        let all: Vec<_> =
            (0..n).map(|s| gains(Some(&spec()), &present, &mut Draws::new(9, 1, s, 0, Stage::Bands))).collect();
        for band in [0, 1, 3, 4] {
            let kept: Vec<f32> = all.iter().map(|g| g[band]).filter(|&g| g > 0.0).collect();
            // All four are dropped in 1 of 256 views, and one of them then stays.
            assert!((kept.len() as f64 / n as f64 - 0.75 - 0.25_f64.powi(4) / 4.0).abs() < 0.025);
            assert!(kept.iter().all(|g| (0.9..=1.1).contains(g)));
            let mean = kept.iter().map(|&g| f64::from(g)).sum::<f64>() / kept.len() as f64;
            assert!((mean - 1.0).abs() < 0.005);
        }
        assert!(all.iter().all(|g| g[2] == 0.0 && g.iter().any(|&g| g > 0.0)));
    }

    #[test]
    fn the_last_band_stays_whichever_it_is() {
        let spec = ColorSpec { band_dropout: 1.0, band_jitter: 0.0, ..spec() };
        let mut counts = [0; 4];
        for sample in 0..1000 {
            let got = gains(Some(&spec), &[true, false, true, true], &mut Draws::new(1, 0, sample, 0, Stage::Bands));
            let kept: Vec<usize> = (0..4).filter(|&band| got[band] > 0.0).collect();
            assert!(kept.len() == 1 && got[kept[0]].to_bits() == 1.0_f32.to_bits());
            counts[kept[0]] += 1;
        }
        assert!(counts[1] == 0 && [0, 2, 3].iter().all(|&band| counts[band] > 280), "{counts:?}");
        let none = gains(Some(&spec), &[false; 3], &mut Draws::new(1, 0, 0, 0, Stage::Bands));
        assert_eq!(none, [0.0; 3]);
    }

    #[test]
    fn the_bands_of_a_colour_have_no_factors_and_nothing_changes_unasked() {
        let draws = &mut Draws::new(1, 0, 0, 0, Stage::Bands);
        let spec = ColorSpec { band_dropout: 0.0, ..spec() };
        assert_eq!(gains(Some(&spec), &[true; 3], draws), [1.0; 3]);
        assert!(gains(Some(&spec), &[true; 4], draws).iter().all(|&g| (g - 1.0).abs() > 0.0));
        assert_eq!(gains(None, &[true, false, true, true], draws), [1.0, 0.0, 1.0, 1.0]);
        // A changed probability leaves the factors as they were.
        let view = || Draws::new(1, 0, 7, 0, Stage::Bands);
        let (few, many) =
            (gains(Some(&spec), &[true; 8], &mut view()), gains(Some(&self::spec()), &[true; 8], &mut view()));
        assert!(few.iter().zip(&many).all(|(a, b)| *b == 0.0 || a.to_bits() == b.to_bits()));
    }

    #[test]
    fn draws_have_the_asked_frequencies_and_ranges() {
        let spec = spec();
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
