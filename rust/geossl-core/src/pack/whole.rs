//! An image as a pack keeps it: its samples as they are, and which of them have no data.

use super::record::NoData;
use crate::decode::nodata::Integer;
use crate::decode::{Decoders, Encoded, Raster, Samples, Want};
use crate::{Error, Result};

/// All samples of an image as they are, and which have no data.
#[derive(Debug, Clone)]
pub struct Whole {
    /// The samples.
    pub raster: Raster,
    /// How it is said which have no data.
    pub nodata: NoData,
    /// With `NoData::Mask`, whether each pixel has data.
    pub mask: Vec<bool>,
}

impl Whole {
    /// Decodes all of an image.
    pub fn decode(image: &Encoded<'_>, decoders: &mut Decoders) -> Result<Self> {
        let want = Want::all(image.rect());
        let raster = image.decode(want, decoders)?;
        let unsaid = |raster| Ok(Self { raster, nodata: NoData::Unsaid, mask: Vec::new() });
        if !image.has_nodata || image.bits == 32 {
            return unsaid(raster);
        }
        if let Some(band) = image.alpha() {
            return Ok(Self { raster, nodata: NoData::Alpha(band), mask: Vec::new() });
        }
        let marked = image.decode(Want { nodata: Some(0), ..want }, decoders)?;
        if marked.nodata.is_none() {
            return unsaid(raster);
        }
        let bands = usize::from(raster.bands);
        let (nodata, mask) = match (&raster.samples, &marked.samples) {
            (Samples::U8(own), Samples::U8(marked)) => without_data(own, marked, bands),
            (Samples::U16(own), Samples::U16(marked)) => without_data(own, marked, bands),
            _ => None,
        }
        .ok_or_else(|| Error::Internal("samples without data that are neither a value nor a mask".into()))?;
        Ok(Self { raster, nodata, mask })
    }

    /// Samples without data have the raster's value for it, if it has one.
    pub fn marked(raster: Raster) -> Self {
        let nodata = match raster.nodata {
            Some(value) if !value.is_nan() => NoData::Value(value as u16),
            _ => NoData::Unsaid,
        };
        Self { raster, nodata, mask: Vec::new() }
    }
}

/// How to say which samples have no data, where those of `marked` are 0; a mask for `NoData::Mask`.
fn without_data<T: Integer + Into<u16>>(own: &[T], marked: &[T], bands: usize) -> Option<(NoData, Vec<bool>)> {
    let zero = T::of(0);
    let Some(first) = marked.iter().position(|value| *value == zero) else {
        return Some((NoData::Nowhere, Vec::new()));
    };
    if own.iter().zip(marked).all(|(sample, marked)| (*sample == own[first]) == (*marked == zero)) {
        return Some((NoData::Value(own[first].into()), Vec::new()));
    }
    let pixels = || marked.chunks_exact(bands);
    let alike = pixels().all(|pixel| pixel.iter().all(|value| (*value == zero) == (pixel[0] == zero)));
    alike.then(|| (NoData::Mask, pixels().map(|pixel| pixel[0] != zero).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_samples_without_data_are_told() {
        let said = |own: &[u8], marked: &[u8]| without_data(own, marked, 2);
        assert_eq!(said(&[9, 8, 7, 6], &[9, 8, 7, 6]), Some((NoData::Nowhere, vec![])));
        assert_eq!(said(&[9, 8, 7, 9], &[0, 8, 7, 0]), Some((NoData::Value(9), vec![])));
        assert_eq!(said(&[9, 8, 7, 9], &[0, 0, 7, 9]), Some((NoData::Mask, vec![false, true])));
        assert_eq!(said(&[9, 8, 7, 9], &[0, 8, 7, 9]), None);
    }
}
