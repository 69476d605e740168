//! The weights of an antialiased bilinear resize along one side, as Pillow and torchvision define them.

use std::ops::Range;

/// Which samples of a line make each sample of the resized line, and by what weight.
#[derive(Default)]
pub struct Taps {
    /// First sample of each and the place of its weights, which end where the next one's start.
    firsts: Vec<(usize, usize)>,
    weights: Vec<f32>,
}

impl Taps {
    /// Gets ready to resize `part` (start and length, in samples) of a line of `size` samples to `target`, mirrored if
    /// `flip`. Returns the samples that any weight is for: `at` counts from the first of these.
    ///
    /// A triangle about the sample's centre, as wide as two samples of the coarser line; what reaches over the line's
    /// ends is cut off and the rest scaled to a sum of 1.
    pub fn prepare(&mut self, size: u32, part: (f64, f64), target: u32, flip: bool) -> Range<usize> {
        self.firsts.clear();
        self.weights.clear();
        let scale = part.1 / f64::from(target);
        let reach = scale.max(1.0);
        let mut used = size as usize..0;
        for i in 0..target {
            let place = if flip { target - 1 - i } else { i };
            let center = part.0 + (f64::from(place) + 0.5) * scale;
            let weight = |sample: u32| (1.0 - ((f64::from(sample) + 0.5 - center) / reach).abs()).max(0.0);
            let mut from = (center - reach).floor().max(0.0) as u32;
            let mut to = ((center + reach).ceil() as u32).min(size);
            // A weight of 0 would make an infinite value NaN.
            while from + 1 < to && weight(from) == 0.0 {
                from += 1;
            }
            while from + 1 < to && weight(to - 1) == 0.0 {
                to -= 1;
            }
            let total: f64 = (from..to).map(weight).sum();
            self.firsts.push((from as usize, self.weights.len()));
            self.weights.extend((from..to).map(|sample| (weight(sample) / total) as f32));
            used = used.start.min(from as usize)..used.end.max(to as usize);
        }
        self.firsts.push((0, self.weights.len()));
        self.firsts.iter_mut().for_each(|(first, _)| *first = first.saturating_sub(used.start));
        used
    }

    /// The first sample of the resized line's sample `i`, and the weights from there.
    #[inline(always)]
    #[allow(clippy::inline_always)] // the caller is compiled once for each kind of machine, with all that it calls
    pub fn at(&self, i: usize) -> (usize, &[f32]) {
        let (first, start) = self.firsts[i];
        (first, &self.weights[start..self.firsts[i + 1].1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_pillow() {
        // From Pillow's definition: halved, an inner sample is made of four by 1, 3, 3 and 1 eighths.
        let mut taps = Taps::default();
        assert_eq!(taps.prepare(8, (0.0, 8.0), 4, false), 0..8);
        assert_eq!(taps.at(1), (1, [0.125, 0.375, 0.375, 0.125].as_slice()));
        assert_eq!(taps.at(0).0, 0);
        assert!(taps.at(0).1.iter().zip([3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0]).all(|(a, b)| (a - b).abs() < 1e-7));
        // Doubled, of two by quarters; the border's is the border.
        assert_eq!(taps.prepare(4, (0.0, 4.0), 8, false), 0..4);
        assert_eq!(taps.at(3), (1, [0.75, 0.25].as_slice()));
        assert_eq!(taps.at(0), (0, [1.0].as_slice()));
    }

    #[test]
    fn a_part_sees_what_lies_around_it_and_counts_from_there() {
        let mut taps = Taps::default();
        assert_eq!(taps.prepare(100, (10.0, 20.0), 10, false), 9..31);
        assert_eq!(taps.at(0), (0, [0.125, 0.375, 0.375, 0.125].as_slice()));
        assert_eq!(taps.prepare(9, (2.5, 4.0), 4, false), 2..7);
        assert_eq!(taps.at(1), (1, [0.5, 0.5].as_slice()));
    }

    #[test]
    fn the_same_size_takes_each_sample_as_it_is_and_a_flip_the_other_way() {
        let mut taps = Taps::default();
        taps.prepare(5, (0.0, 5.0), 5, false);
        assert!((0..5).all(|i| taps.at(i) == (i, [1.0].as_slice())));
        taps.prepare(5, (0.0, 5.0), 5, true);
        assert!((0..5).all(|i| taps.at(i) == (4 - i, [1.0].as_slice())));
    }
}
