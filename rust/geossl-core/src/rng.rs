//! Counter-based randomness: every draw is a pure function of (seed, epoch, sample, view, stage).
//!
//! Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). No state
//! is kept between samples, so any thread, rank or restart draws the same values.

/// What a stream of draws is for; streams of different stages are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The epoch's permutation.
    Order = 1,
    /// The partner date of a temporal pair.
    Partner = 2,
    /// Crop rectangle and flip.
    Crop = 3,
    /// Colour jitter, grayscale and blur.
    Color = 4,
    /// What replaces an unreadable image.
    Substitute = 5,
    /// Seeding of k-means.
    Cluster = 6,
    /// Factors and dropout of bands.
    Bands = 7,
}

/// A stream of draws.
#[derive(Debug, Clone)]
pub struct Draws {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Draws {
    /// The stream of one (seed, epoch, sample, view, stage). `epoch` counts modulo 2^32.
    pub fn new(seed: u64, epoch: u64, sample: u64, view: u8, stage: Stage) -> Self {
        let purpose = (u32::from(view) << 8 | u32::from(stage as u8)) << 16;
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [purpose, epoch as u32, sample as u32, (sample >> 32) as u32],
            block: [0; 4],
            used: 4,
        }
    }

    /// 32 random bits. A stream has 2^18 of them, far more than any sample draws.
    pub fn bits(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] += 1; // the low 16 bits count blocks
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        let (high, low) = (u64::from(self.bits()), u64::from(self.bits()));
        ((high << 21) | (low >> 11)) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [from, to).
    pub fn uniform(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform in 0..n, for n up to 2^32 with a bias under 2^-32 (multiply-shift on 64 bits).
    pub fn below(&mut self, n: usize) -> usize {
        let bits = u64::from(self.bits()) << 32 | u64::from(self.bits());
        ((u128::from(bits) * n as u128) >> 64) as usize
    }
}

/// One block of Philox4x32 with ten rounds.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_vectors() {
        // Known-answer tests of the Random123 distribution.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_differ_in_every_coordinate() {
        let first = |seed, epoch, sample, view, stage| Draws::new(seed, epoch, sample, view, stage).bits();
        let base = first(1, 2, 3, 0, Stage::Crop);
        assert_eq!(base, first(1, 2, 3, 0, Stage::Crop));
        for other in [
            first(2, 2, 3, 0, Stage::Crop),
            first(1 << 40, 2, 3, 0, Stage::Crop),
            first(1, 3, 3, 0, Stage::Crop),
            first(1, 2, 4, 0, Stage::Crop),
            first(1, 2, 3 + (1 << 40), 0, Stage::Crop),
            first(1, 2, 3, 1, Stage::Crop),
            first(1, 2, 3, 0, Stage::Color),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn draws_are_uniform() {
        let mut counts = [0u32; 7];
        let mut sum = 0.0;
        for sample in 0..10_000 {
            let mut draws = Draws::new(5, 0, sample, 0, Stage::Partner);
            counts[draws.below(7)] += 1;
            sum += draws.unit();
        }
        let expected = 10_000.0 / 7.0;
        let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        assert!(chi2 < 22.5, "{counts:?}"); // 99.9 % point of chi-squared with 6 degrees of freedom
        assert!((sum / 10_000.0 - 0.5).abs() < 0.01);
    }
}
