//! From a file's bytes to pixels: JPEG, PNG and TIFF, eight or sixteen bits, any number of bands.

mod jpeg;
mod png;
mod tiff;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::crop::Rect;
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
    Tiff,
}

/// An image file in memory whose header has been read and found within the limits.
pub struct Encoded<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    format: Format,
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
        [0xFF, 0xD8, ..] => (Format::Jpeg, decoders.jpeg.header(path, bytes)?),
        [0x89, b'P', b'N', b'G', ..] => (Format::Png, png::header(path, bytes)?),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => (Format::Tiff, tiff::header(path, bytes)?),
        [] => return Err(Error::data(path, "the file is empty")),
        _ => return Err(Error::data(path, "not a JPEG, PNG or TIFF image")),
    };
    let decoded = u64::from(width) * u64::from(height) * u64::from(bands) * u64::from(bits / 8);
    if width == 0 || height == 0 || bands == 0 {
        return Err(Error::data(path, format!("claims a size of {width} x {height} x {bands}")));
    }
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
    Ok(Encoded { path, bytes, format, width, height, bands, bits })
}

impl Decoders {
    /// Takes back the memory of a raster that is no longer needed, for the next image.
    pub fn recycle(&mut self, raster: Raster) {
        if let Samples::U8(memory) = raster.samples {
            self.jpeg.spare = memory;
        }
    }
}

impl Encoded<'_> {
    /// Decodes at least `rect`, which lies within the image.
    pub fn decode(&self, rect: Rect, decoders: &mut Decoders) -> Result<Raster> {
        match self.format {
            Format::Jpeg => decoders.jpeg.decode(self.path, self.bytes, (self.width, self.height), rect),
            Format::Png => png::decode(self.path, self.bytes, self.bands),
            Format::Tiff => tiff::decode(self.path, self.bytes, rect, self.bands),
        }
    }
}
