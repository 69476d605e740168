//! The order of an epoch: a keyed permutation of 0..n that needs no array, so seeking is O(1).

use crate::rng::philox;

const ROUNDS: u32 = 8;

/// A pseudo-random permutation of 0..n: a balanced Feistel network over the next power of four, with
/// cycle-walking back into the range (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
#[derive(Debug, Clone)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    seed: u64,
    epoch: u64,
}

impl Permutation {
    /// The permutation of `epoch` under `seed`.
    pub fn new(n: u64, seed: u64, epoch: u64) -> Self {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Self { n, half_bits: bits.div_ceil(2).max(1), seed, epoch }
    }

    /// The element at `position` (< n). Takes four rounds trips on average at most, as the domain is under 4 n.
    pub fn get(&self, position: u64) -> u64 {
        assert!(position < self.n, "position {position} of a permutation of {}", self.n);
        let mut x = position;
        loop {
            x = self.encrypt(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn encrypt(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        for round in 0..ROUNDS {
            // The stage in the counter's first word keeps this stream apart from every sample's draws.
            let purpose = (crate::rng::Stage::Order as u32) << 16 | round;
            let bits = philox([purpose, self.epoch as u32, right as u32, (right >> 32) as u32], key);
            let mixed = u64::from(bits[0]) | u64::from(bits[1]) << 32;
            (left, right) = (right, (left ^ mixed) & mask);
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_permutation() {
        for n in [1u64, 2, 3, 4, 5, 63, 64, 65, 1000, 4097] {
            let order = Permutation::new(n, 7, 3);
            let mut seen: Vec<u64> = (0..n).map(|i| order.get(i)).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..n), "n = {n}");
        }
    }

    #[test]
    fn changes_with_seed_and_epoch() {
        let list = |seed, epoch| (0..100).map(|i| Permutation::new(100, seed, epoch).get(i)).collect::<Vec<_>>();
        assert_eq!(list(1, 1), list(1, 1));
        assert_ne!(list(1, 1), list(1, 2));
        assert_ne!(list(1, 1), list(2, 1));
    }

    #[test]
    fn every_element_is_as_likely_at_the_first_place() {
        let n = 12;
        let mut counts = vec![0u32; n as usize];
        for epoch in 0..6000 {
            counts[Permutation::new(n, 11, epoch).get(0) as usize] += 1;
        }
        let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - 500.0).powi(2) / 500.0).sum();
        assert!(chi2 < 31.3, "{counts:?}"); // 99.9 % point, 11 degrees of freedom
    }
}
