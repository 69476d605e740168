//! How samples without data are told from the others in integers: they get a value that no other sample has.

use super::Samples;

/// Unsigned samples.
pub trait Integer: Copy + PartialEq {
    /// That value, or the largest that there is.
    fn of(value: u16) -> Self;
    /// The value next to this one: one more, of the largest one less.
    #[must_use]
    fn neighbour(self) -> Self;
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Integer for $type {
            fn of(value: u16) -> Self {
                Self::try_from(value).unwrap_or(Self::MAX)
            }

            fn neighbour(self) -> Self {
                if self == Self::MAX { self - 1 } else { self + 1 }
            }
        }
    )*};
}

integer!(u8, u16, u32);

/// `want` where there is no data; else the sample, which makes way if it has that value.
pub fn mark<T: Integer>(sample: T, no_data: bool, want: T) -> T {
    if no_data {
        want
    } else if sample == want {
        want.neighbour()
    } else {
        sample
    }
}

/// Marks the samples that have the image's own value for no data.
pub fn mark_value<T: Integer>(samples: &mut [T], own: T, want: T) {
    for sample in samples {
        *sample = mark(*sample, *sample == own, want);
    }
}

/// Makes the samples of an image that has data everywhere tell from those of other images without.
pub fn make_way(samples: &mut Samples, want: u16) {
    fn all<T: Integer>(samples: &mut [T], want: T) {
        for sample in samples {
            *sample = mark(*sample, false, want);
        }
    }
    match samples {
        Samples::U8(samples) => all(samples, u8::of(want)),
        Samples::U16(samples) => all(samples, want),
        Samples::F32(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_samples_make_way() {
        let mut samples = [0u8, 1, 7, 255];
        mark_value(&mut samples, 7, 0);
        assert_eq!(samples, [1, 1, 0, 255]);
        let mut samples = [0u16, 65_535, 65_534];
        mark_value(&mut samples, 0, 65_535);
        assert_eq!(samples, [65_535, 65_534, 65_534]);
        let mut samples = [0u16, 5];
        mark_value(&mut samples, 5, 5);
        assert_eq!(samples, [0, 5]);
        assert_eq!(u8::of(300), 255);
    }
}
