//! From a file's bytes to pixels: JPEG, PNG and TIFF, eight or sixteen bits, any number of bands.

pub(crate) mod jpeg;
mod png;
mod tiff;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::crop::{self, Rect};
use crate::pack::blocks::Unpacker;
use crate::pack::record::{Codec, Record};
use crate::pack::segments;
use crate::{Error, Result};

/// Samples of an image, pixel after pixel, bands within the pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Samples {
    /// Eight bits.
    U8(Vec<u8>),
    /// Sixteen bits.
    U16(Vec<u16>),
}

/// Decoded pixels: at least the part of the image that was asked for.
#[derive(Debug, Clone)]
pub struct Raster {
    /// The part of the image that `samples` holds.
    pub rect: Rect,
    /// Bands of a pixel.
    pub bands: u16,
    /// The pixels, row after row.
    pub samples: Samples,
}

enum Format<'a> {
    Jpeg(&'a [u8]),
    Png(&'a [u8]),
    Tiff(&'a [u8]),
    Packed(Record<'a>),
}

/// An encoded image in memory whose header has been read and found within the limits.
pub struct Encoded<'a> {
    path: &'a Path,
    format: Format<'a>,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Bands as decoded: JPEG and 8-bit PNG give three, alpha is dropped.
    pub bands: u16,
    /// Bits of a sample as decoded, 8 or 16.
    pub bits: u8,
}

/// Decoders and buffers that a thread keeps.
#[derive(Default)]
pub struct Decoders {
    jpeg: jpeg::Jpeg,
    unpacker: Unpacker,
    stitched: Vec<u8>,
    /// Bytes of packs that were looked at so far.
    pub packed_bytes: u64,
}

/// Reads a whole regular file into `buffer`. Fails on anything larger than `max_bytes`.
pub fn read_file(path: &Path, buffer: &mut Vec<u8>, max_bytes: u64) -> Result<()> {
    let io = |e: std::io::Error| Error::io(path, &e);
    // Opening a FIFO would block, so the kind is looked at first.
    let meta = std::fs::metadata(path).map_err(io)?;
    if !meta.is_file() {
        return Err(Error::data(path, "not a regular file"));
    }
    if meta.len() > max_bytes {
        return Err(Error::data(path, format!("{} bytes, over the limit of {max_bytes}", meta.len())));
    }
    buffer.clear();
    buffer.reserve(meta.len() as usize + 1);
    File::open(path).and_then(|f| f.take(max_bytes + 1).read_to_end(buffer)).map_err(io)?;
    if buffer.len() as u64 > max_bytes {
        return Err(Error::data(path, format!("grew over the limit of {max_bytes} bytes while it was read")));
    }
    Ok(())
}

/// Reads the header of an image in memory. Nothing of the image's size is allocated.
/// Fails if it is none of the known formats, is broken, or would need more than `max_bytes` decoded.
pub fn open<'a>(path: &'a Path, bytes: &'a [u8], decoders: &mut Decoders, max_bytes: u64) -> Result<Encoded<'a>> {
    let (format, (width, height, bands, bits)) = match bytes {
        [0xFF, 0xD8, ..] => (Format::Jpeg(bytes), decoders.jpeg.header(path, bytes)?),
        [0x89, b'P', b'N', b'G', ..] => (Format::Png(bytes), png::header(path, bytes)?),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => {
            (Format::Tiff(bytes), tiff::header(path, bytes)?)
        }
        [] => return Err(Error::data(path, "the file is empty")),
        _ => return Err(Error::data(path, "not a JPEG, PNG or TIFF image")),
    };
    let image = Encoded { path, format, width, height, bands, bits };
    image.within(max_bytes)?;
    Ok(image)
}

/// A packed image. Fails if it would need more than `max_bytes` decoded.
pub fn packed<'a>(path: &'a Path, record: Record<'a>, max_bytes: u64) -> Result<Encoded<'a>> {
    let kind = record.kind;
    let (width, height) = kind.size;
    let image = Encoded { path, format: Format::Packed(record), width, height, bands: kind.bands, bits: kind.bits };
    image.within(max_bytes)?;
    Ok(image)
}

impl Decoders {
    /// Takes back the memory of a raster that is no longer needed, for the next image.
    pub fn recycle(&mut self, raster: Raster) {
        if let Samples::U8(memory) = raster.samples {
            self.jpeg.spare = memory;
        }
    }
}

impl<'a> Encoded<'a> {
    /// Fails if the image has no pixels, or would need more than `max_bytes` decoded.
    fn within(&self, max_bytes: u64) -> Result<()> {
        let Self { path, width, height, bands, bits, .. } = *self;
        if width == 0 || height == 0 || bands == 0 {
            return Err(Error::data(path, format!("claims a size of {width} x {height} x {bands}")));
        }
        let decoded = u64::from(width) * u64::from(height) * u64::from(bands) * u64::from(bits / 8);
        if decoded > max_bytes {
            return Err(Error::data(
                path,
                format!(
                    "claims {width} x {height} pixels of {bands} bands, {} MiB decoded, over the limit of {} MiB",
                    decoded >> 20,
                    max_bytes >> 20
                ),
            ));
        }
        Ok(())
    }

    /// All of the image.
    pub fn rect(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// The part that a box stands for, with fMoW's context if `context`; the whole image where there is no box.
    pub fn region(&self, bounds: Option<[i32; 4]>, context: bool) -> Result<Rect> {
        let Some(bounds) = bounds else { return Ok(self.rect()) };
        let (width, height) = (self.width, self.height);
        crop::region(bounds, (width, height), context)
            .ok_or_else(|| Error::data(self.path, format!("box {bounds:?} lies outside the {width} x {height} pixels")))
    }

    /// The file's bytes, if it is a JPEG file.
    pub fn jpeg(&self) -> Option<&'a [u8]> {
        if let Format::Jpeg(bytes) = self.format { Some(bytes) } else { None }
    }

    /// Decodes at least `rect`, which lies within the image.
    pub fn decode(&self, rect: Rect, decoders: &mut Decoders) -> Result<Raster> {
        match &self.format {
            Format::Jpeg(bytes) => decoders.jpeg.decode(self.path, bytes, (self.width, self.height), rect),
            Format::Png(bytes) => png::decode(self.path, bytes, self.bands),
            Format::Tiff(bytes) => tiff::decode(self.path, bytes, rect, self.bands),
            Format::Packed(record) => self.unpack(record, rect, decoders),
        }
    }

    fn unpack(&self, record: &Record<'_>, rect: Rect, decoders: &mut Decoders) -> Result<Raster> {
        if record.kind.codec != Codec::Jpeg {
            let (raster, bytes) = decoders.unpacker.decode(self.path, record, rect)?;
            decoders.packed_bytes += bytes;
            return Ok(raster);
        }
        // A JPEG of the segments around the rectangle, which is decoded like a file.
        let units = record.kind.covering(rect, segments::MARGIN);
        let part = record.kind.rect(units);
        decoders.packed_bytes += segments::stitch(self.path, record, units, &mut decoders.stitched)?;
        let inner = Rect { x: rect.x - part.x, y: rect.y - part.y, ..rect };
        let size = (part.width, part.height);
        let mut raster = decoders.jpeg.decode(self.path, &decoders.stitched, size, inner)?;
        raster.rect = raster.rect.within(part);
        Ok(raster)
    }
}
