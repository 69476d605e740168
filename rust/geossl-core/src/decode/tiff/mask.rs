//! Samples without data, and bands that an image lacks, in decoded pixels.

use crate::decode::Samples;
use crate::decode::nodata::{self, Integer};

/// Which samples are data.
pub enum Valid<'a> {
    /// All.
    All,
    /// All but those of this value.
    Not(f64),
    /// Those of the pixels that are not 0 here.
    Mask(&'a [u8]),
}

/// Gives samples without data the value `wanted`, and valid ones of that value the next one. Where nothing is wanted, they
/// stay what they are. Floats become NaN under a mask. Returns the value, if integers have one.
pub fn mark(samples: &mut Samples, bands: usize, valid: &Valid<'_>, wanted: Option<u16>) -> Option<f32> {
    match (samples, valid) {
        (Samples::F32(values), Valid::Mask(mask)) => {
            for (pixel, &valid) in values.chunks_exact_mut(bands.max(1)).zip(*mask) {
                if valid == 0 {
                    pixel.fill(f32::NAN);
                }
            }
            None
        }
        // What has the value of no data became NaN as it was converted.
        (Samples::F32(_), _) => None,
        (Samples::U8(values), _) => {
            let wanted = u8::try_from(wanted?).unwrap_or(u8::MAX);
            integers(values, bands, valid, wanted);
            Some(f32::from(wanted))
        }
        (Samples::U16(values), _) => {
            integers(values, bands, valid, wanted?);
            wanted.map(f32::from)
        }
    }
}

fn integers<T: Integer>(values: &mut [T], bands: usize, valid: &Valid<'_>, wanted: T) {
    match valid {
        Valid::All => values.iter_mut().for_each(|value| *value = nodata::mark(*value, false, wanted)),
        // A value that the samples can have.
        Valid::Not(own) => nodata::mark_value(values, T::of(*own as u16), wanted),
        Valid::Mask(mask) => {
            for (pixel, &valid) in values.chunks_exact_mut(bands.max(1)).zip(*mask) {
                for value in pixel {
                    *value = nodata::mark(*value, valid == 0, wanted);
                }
            }
        }
    }
}

/// Zeros in the bands that the image lacks.
pub fn clear(samples: &mut Samples, bands: Option<&[Option<u16>]>) {
    fn zeros<T: Default + Clone>(values: &mut [T], bands: &[Option<u16>]) {
        for (band, _) in bands.iter().enumerate().filter(|(_, band)| band.is_none()) {
            values[band..].iter_mut().step_by(bands.len()).for_each(|value| *value = T::default());
        }
    }
    let Some(bands) = bands.filter(|bands| bands.contains(&None)) else { return };
    match samples {
        Samples::U8(values) => zeros(values, bands),
        Samples::U16(values) => zeros(values, bands),
        Samples::F32(values) => zeros(values, bands),
    }
}

/// A palette's colours of 16 bits as ones of 8, by the factor that GDAL sees in them.
pub fn colors(colors: &[u16]) -> Vec<u8> {
    let factor = match colors.iter().max() {
        Some(1..=255) => 1,
        _ if colors.iter().all(|color| color % 256 == 0) => 256,
        _ => 257,
    };
    colors.iter().map(|color| (color / factor) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_marked() {
        let marked = |valid: &Valid<'_>, wanted| {
            let mut samples = Samples::U8(vec![0, 1, 254, 255]);
            let value = mark(&mut samples, 2, valid, wanted);
            let Samples::U8(values) = samples else { panic!() };
            (values, value)
        };
        assert_eq!(marked(&Valid::All, None), (vec![0, 1, 254, 255], None));
        assert_eq!(marked(&Valid::All, Some(0)), (vec![1, 1, 254, 255], Some(0.0)));
        assert_eq!(marked(&Valid::Not(255.0), Some(0)), (vec![1, 1, 254, 0], Some(0.0)));
        assert_eq!(marked(&Valid::Not(0.0), Some(0)), (vec![0, 1, 254, 255], Some(0.0)));
        assert_eq!(marked(&Valid::Mask(&[1, 0]), Some(255)), (vec![0, 1, 255, 255], Some(255.0)));
        assert_eq!(marked(&Valid::Mask(&[0, 1]), Some(300)), (vec![255, 255, 254, 254], Some(255.0)));
    }

    #[test]
    fn bands_that_are_lacking() {
        let mut samples = Samples::F32(vec![f32::NAN, 1.0, 2.0, 3.0]);
        clear(&mut samples, Some(&[None, Some(0)]));
        assert_eq!(samples, Samples::F32(vec![0.0, 1.0, 0.0, 3.0]));
    }
}
