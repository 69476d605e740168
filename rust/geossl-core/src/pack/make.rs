//! From an image to its record, and a record beside its image.

use std::path::Path;

use super::blocks;
use super::record::{Codec, Record};
use super::segments::Transcoder;
use super::whole::Whole;
use super::write::{Form, Item, Job};
use crate::crop;
use crate::decode::markers::Markers;
use crate::decode::{self, Decoders, Encoded, Input, Raster, Samples, Want};
use crate::resize::Resampler;
use crate::{Error, Result};

/// Every so many images of a lossy pack the loss is measured.
const MEASURED: u64 = 16;

/// What a thread keeps from image to image.
#[derive(Default)]
pub struct Scratch {
    decoders: Decoders,
    transcoder: Transcoder,
    resampler: Resampler,
    file: Vec<u8>,
}

/// A record, the bytes of its file, and the loss, where it was measured.
pub struct Made {
    /// The record.
    pub record: Vec<u8>,
    /// Bytes of the file.
    pub read: u64,
    /// Sum of squared differences, and samples.
    pub loss: (f64, u64),
}

/// The record of an image.
pub fn make(job: &Job, number: u64, scratch: &mut Scratch) -> Result<Made> {
    let item = &job.items[number as usize];
    let path = &item.path;
    let (image, read) = open(job, number, &mut scratch.file, &mut scratch.decoders)?;
    let made = |record| Ok(Made { record, read, loss: (0.0, 0) });
    let Form::Sized { short_side, quality, context } = job.form else {
        if let Some(jpeg) = image.jpeg()
            && let Some(record) = scratch.transcoder.transcode(path, jpeg)?
        {
            // A decoder smooths a progressive image that lacks its last scans, which its coefficients do not tell.
            let same = !Markers::read(jpeg).progressive || {
                let whole = image.decode(Want::all(image.rect()), &mut scratch.decoders)?;
                let packed = read_back(path, &Record::parse(path, &record)?, None, &mut scratch.decoders)?;
                differ(&packed, &whole).is_none()
            };
            if same {
                return made(record);
            }
        }
        return made(blocks::pack(&Whole::decode(&image, &mut scratch.decoders)?, Codec::Tiles)?);
    };
    let kept = resized(&image, item, (short_side, context), &mut scratch.decoders, &mut scratch.resampler)?;
    let size = (kept.rect.width, kept.rect.height);
    match (quality, rgb(&kept)) {
        (Some(quality), Some(pixels)) => {
            let record = scratch.transcoder.compress(path, pixels, size, quality)?;
            let mut loss = (0.0, 0);
            if number.is_multiple_of(MEASURED) {
                let packed = read_back(path, &Record::parse(path, &record)?, None, &mut scratch.decoders)?;
                loss = squares(path, &packed, &kept)?;
            }
            Ok(Made { record, read, loss })
        }
        (Some(_), None) => made(blocks::pack(&Whole::marked(kept), Codec::Tiles)?),
        (None, _) => made(blocks::pack(&Whole::marked(kept), Codec::Raw)?),
    }
}

/// Compares a record with its file: the bytes of the file, and the loss. Fails where a record that should have all
/// that is kept of the file differs from it.
pub fn compare(job: &Job, number: u64, record: &Record<'_>, scratch: &mut Scratch) -> Result<(u64, f64, u64)> {
    let item = &job.items[number as usize];
    let path = &item.path;
    let decoders = &mut scratch.decoders;
    let (image, read) = open(job, number, &mut scratch.file, decoders)?;
    let same = |packed: &Raster, kept: &Raster| differ(packed, kept).map_or(Ok(()), |e| Err(Error::data(path, e)));
    let Form::Sized { short_side, quality, context } = job.form else {
        // Once as the samples are, and once with those marked that have no data.
        for nodata in [None, Some(0)] {
            let whole = image.decode(Want { nodata, ..Want::all(image.rect()) }, decoders)?;
            same(&read_back(path, record, nodata, decoders)?, &whole)?;
        }
        return Ok((read, 0.0, 0));
    };
    let kept = resized(&image, item, (short_side, context), decoders, &mut scratch.resampler)?;
    if quality.is_some() && rgb(&kept).is_some() {
        let packed = read_back(path, record, None, decoders)?;
        let (squared, samples) = squares(path, &packed, &kept)?;
        return Ok((read, squared, samples));
    }
    let packed = read_back(path, record, kept.nodata.map(|value| value as u16), decoders)?;
    same(&packed, &kept)?;
    Ok((read, 0.0, 0))
}

/// An image of the job, and the bytes of its file.
fn open<'a>(job: &'a Job, number: u64, file: &'a mut Vec<u8>, decoders: &mut Decoders) -> Result<(Encoded<'a>, u64)> {
    let path = &job.items[number as usize].path;
    let limit = job.max_image_bytes;
    if let Some((reader, size)) = job.foreign.as_ref().and_then(|foreign| foreign.get(number as usize)) {
        return Ok((decode::foreign(path, size, reader, limit)?, 0));
    }
    let input = Input::open(path, file, limit)?;
    let length = input.len().map_err(|e| Error::io(path, &e))?;
    Ok((decode::open(path, input, decoders, limit)?, length))
}

/// The samples of an image that becomes a JPEG: of 8-bit RGB, unless some lack data, which a JPEG cannot tell.
fn rgb(kept: &Raster) -> Option<&[u8]> {
    match &kept.samples {
        Samples::U8(samples) if kept.bands == 3 && kept.nodata.is_none() => Some(samples),
        _ => None,
    }
}

/// The pixels that a sized pack is to keep of an image; samples without data are 0, of floats NaN.
fn resized(
    image: &Encoded<'_>,
    item: &Item,
    (short_side, context): (u32, bool),
    decoders: &mut Decoders,
    resampler: &mut Resampler,
) -> Result<Raster> {
    let region = image.region(item.bounds, context)?;
    let want = Want::all(region);
    let mut raster = image.decode(Want { nodata: image.has_nodata.then_some(0), ..want }, decoders)?;
    if image.has_nodata && raster.nodata.is_none() {
        // It has data everywhere, and its zeros need not make way.
        raster = image.decode(want, decoders)?;
    }
    let size = if region.width.min(region.height) > short_side {
        crop::resized(region.width, region.height, short_side)
    } else {
        (region.width, region.height)
    };
    let kept = resampler.whole(&raster, region, size)?;
    decoders.recycle(raster);
    Ok(kept)
}

/// All of a packed image.
fn read_back(path: &Path, record: &Record<'_>, nodata: Option<u16>, decoders: &mut Decoders) -> Result<Raster> {
    let image = decode::packed(path, *record, u64::MAX)?;
    image.decode(Want { nodata, ..Want::all(image.rect()) }, decoders)
}

/// What is different between two images, to the bit.
fn differ(packed: &Raster, kept: &Raster) -> Option<&'static str> {
    let size = |raster: &Raster| (raster.rect.width, raster.rect.height, raster.bands);
    if size(packed) != size(kept) {
        return Some("its size in the pack is another than the file's");
    }
    let same = match (&packed.samples, &kept.samples) {
        (Samples::U8(a), Samples::U8(b)) => a == b,
        (Samples::U16(a), Samples::U16(b)) => a == b,
        (Samples::F32(a), Samples::F32(b)) => a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits())),
        _ => return Some("its samples in the pack are of another kind than the file's"),
    };
    (!same || packed.nodata.is_some() != kept.nodata.is_some())
        .then_some("its pixels in the pack differ from the file's")
}

/// (sum of squared differences, samples) between a record of 8 bits and what it should show.
fn squares(path: &Path, packed: &Raster, kept: &Raster) -> Result<(f64, u64)> {
    match (&packed.samples, &kept.samples) {
        (Samples::U8(a), Samples::U8(b)) if packed.bands == kept.bands && a.len() == b.len() => {
            Ok((a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum(), a.len() as u64))
        }
        _ => Err(Error::data(path, differ(packed, kept).unwrap_or("its pixels in the pack differ from the file's"))),
    }
}
