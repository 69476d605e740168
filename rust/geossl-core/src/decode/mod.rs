//! From a file's bytes to pixels: JPEG, PNG and TIFF, any number of bands.
//!
//! Eight and sixteen unsigned bits stay what they are; every other type of sample becomes a float of 32 bits.

mod dtype;
pub(crate) mod exif;
pub mod foreign;
pub(crate) mod input;
pub(crate) mod jpeg;
pub(crate) mod markers;
pub(crate) mod nodata;
mod png;
pub(crate) mod tiff;
pub(crate) mod turbo;
mod valid;

use std::ops::Range;
use std::path::Path;

pub use self::dtype::Dtype;
use self::exif::Turn;
use self::foreign::{Foreign, Size};
pub use self::input::Input;
pub use self::tiff::GeoHeader;
use crate::crop::{self, Rect};
use crate::pack::blocks::Unpacker;
use crate::pack::record::{Codec, Kind, NoData, Record};
use crate::pack::segments;
use crate::{Error, Result};

/// Memory that a thread may take besides its file and what decoding an image is allowed: libjpeg-turbo's rows of a
/// widest image, lists of a TIFF's tiles, the resampler's rows, bytes that the allocator keeps.
pub const OVERHEAD_BYTES: u64 = 64 << 20;

/// Samples of an image, pixel after pixel, bands within the pixel.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// Eight bits.
    U8(Vec<u8>),
    /// Sixteen bits.
    U16(Vec<u16>),
    /// All other types, as floats; where there is no data, NaN.
    F32(Vec<f32>),
}

/// Bytes of the pixels that are decoded at once where all of a large image is looked at.
const PART_BYTES: u64 = 128 << 20;
/// Fewest rows of such a part: those of a usual tile, which is then not decoded for several parts.
const PART_ROWS: u64 = 512;
/// Largest memory of 16 bits or floats that is kept for the next image, bytes.
const SPARE_BYTES: usize = OVERHEAD_BYTES as usize / 4;

impl Samples {
    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::U8(values) => values.capacity(),
            Self::U16(values) => 2 * values.capacity(),
            Self::F32(values) => 4 * values.capacity(),
        }
    }

    /// Bits of a sample.
    pub fn bits(&self) -> u8 {
        match self {
            Self::U8(_) => 8,
            Self::U16(_) => 16,
            Self::F32(_) => 32,
        }
    }
}

/// What is wanted of an image.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// The part, which lies within the image.
    pub rect: Rect,
    /// How many pixels of the image, across and down, a decoded pixel may stand for, where the format makes that
    /// cheaper: a JPEG gives 2, 4 or 8, a TIFF with overviews what these are. 1: the image's own pixels.
    pub shrink: u32,
    /// Bands by their number from 0, in the wanted order; None in it is a band that the image lacks, which becomes
    /// zeros. None: all bands as they come.
    pub bands: Option<&'a [Option<u16>]>,
    /// The value that samples without data get, where the image says which these are; valid samples of this value
    /// get the one next to it, in all images. Floats without data are NaN, whatever this says. None: the image's nodata is not
    /// looked at.
    pub nodata: Option<u16>,
}

impl Want<'_> {
    /// The pixels of `rect` as they are, all bands.
    pub fn all(rect: Rect) -> Self {
        Self { rect, shrink: 1, bands: None, nodata: None }
    }
}

/// Decoded pixels: at least the part of the image that was asked for.
#[derive(Debug, Clone)]
pub struct Raster {
    /// The part of the image that `samples` holds, in pixels of the image.
    pub rect: Rect,
    /// How many pixels of the image, across and down, one pixel of `samples` stands for: 1, or 2, 4 or 8 in a JPEG
    /// that was decoded smaller, or what a TIFF's overview has. `samples` has `rect.shrunk(shrink)` pixels.
    pub shrink: u32,
    /// How far the first column and row reach over the left and upper edge of `rect`, pixels of the image, under
    /// `shrink`.
    pub ahead: (u32, u32),
    /// Bands of a pixel.
    pub bands: u16,
    /// The pixels, row after row.
    pub samples: Samples,
    /// The value of samples without data, if there may be any; of floats it is NaN.
    pub nodata: Option<f32>,
}

impl Raster {
    /// The pixels of `rect`, one for one.
    pub fn new(rect: Rect, bands: u16, samples: Samples) -> Self {
        let nodata = matches!(samples, Samples::F32(_)).then_some(f32::NAN);
        Self { rect, shrink: 1, ahead: (0, 0), bands, samples, nodata }
    }

    /// Where the rows of `rect`, which lies within the raster's, are among the samples of a raster of the image's own
    /// pixels.
    pub fn lines(&self, rect: Rect) -> impl Iterator<Item = Range<usize>> + Clone + use<> {
        let (bands, width) = (usize::from(self.bands), self.rect.width as usize);
        let (left, top) = ((rect.x - self.rect.x) as usize, (rect.y - self.rect.y) as usize);
        (top..top + rect.height as usize).map(move |y| {
            let start = (y * width + left) * bands;
            start..start + rect.width as usize * bands
        })
    }
}

enum Format<'a> {
    Jpeg(&'a [u8]),
    Png(&'a [u8]),
    Tiff(Box<tiff::Tiff<'a>>),
    Packed(Record<'a>),
    Foreign(&'a dyn Foreign),
}

/// An encoded image in memory whose header has been read and found within the limits.
pub struct Encoded<'a> {
    path: &'a Path,
    format: Format<'a>,
    max_bytes: u64,
    /// How the stored pixels stand upright.
    turn: Turn,
    /// Width, pixels, of the upright image, as everything here is.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Bands as decoded: JPEG and 8-bit PNG give three, alpha is dropped.
    pub bands: u16,
    /// Bits of a sample as decoded: 8 or 16, unsigned, or 32, a float.
    pub bits: u8,
    /// Whether samples may be without data.
    pub has_nodata: bool,
}

/// Decoders and buffers that a thread keeps.
#[derive(Default)]
pub struct Decoders {
    jpeg: jpeg::Jpeg,
    unpacker: Unpacker,
    stitched: Vec<u8>,
    tiff: tiff::Blocks,
    /// Memory of an earlier image of 16 bits or floats, for the next one.
    spare: Option<Samples>,
    /// Bytes of packs that were looked at so far, and bytes of TIFFs that were read.
    pub bytes_read: u64,
}

/// What a header says.
pub(crate) struct Header {
    width: u32,
    height: u32,
    bands: u16,
    bits: u8,
    /// Bytes that decoding the whole image takes at once, as far as the header tells.
    bytes: u64,
    turn: Turn,
}

/// Reads the header of an image. Nothing of the image's size is allocated.
///
/// Fails if it is none of the known formats, is broken, or if decoding the whole of it would take more than
/// `max_bytes`: the pixels and whatever is held beside them. A progressive JPEG's coefficients are held against the rest
/// of it when a part is decoded. Of a TIFF only the wanted part is ever held in memory, so the limit is for that.
pub fn open<'a>(path: &'a Path, input: Input<'a>, decoders: &mut Decoders, max_bytes: u64) -> Result<Encoded<'a>> {
    let bytes = match input {
        Input::Bytes(bytes) if !input::is_tiff(bytes) => bytes,
        input => {
            let tiff = tiff::Tiff::open(path, input)?;
            decoders.bytes_read += tiff.bytes_read;
            let (width, height, bands, bits) = (tiff.width(), tiff.height(), tiff.bands(), tiff.dtype().bits());
            let header = Header { width, height, bands, bits, bytes: 0, turn: Turn::of(1) };
            let has_nodata = tiff.has_nodata();
            let format = Format::Tiff(Box::new(tiff));
            return Ok(Encoded { has_nodata, ..encoded(path, format, &header, max_bytes)? });
        }
    };
    let (format, header) = match bytes {
        [0xFF, 0xD8, ..] => (Format::Jpeg(bytes), decoders.jpeg.header(path, bytes)?),
        [0x89, b'P', b'N', b'G', ..] => (Format::Png(bytes), png::header(path, bytes)?),
        [] => return Err(Error::data(path, "the file is empty")),
        _ => return Err(Error::data(path, "not a JPEG, PNG or TIFF image")),
    };
    encoded(path, format, &header, max_bytes)
}

/// Opens the image at `path` as `open` does; or as `reader`, which is told its size, reads it. Its bytes may come to lie
/// in `file`.
pub fn open_file<'a>(
    path: &'a Path,
    reader: Option<(&'a dyn Foreign, Size)>,
    file: &'a mut Vec<u8>,
    decoders: &mut Decoders,
    max_bytes: u64,
) -> Result<Encoded<'a>> {
    match reader {
        Some((reader, size)) => foreign(path, size, reader, max_bytes),
        None => open(path, Input::open(path, file, max_bytes)?, decoders, max_bytes),
    }
}

/// A packed image. Fails if decoding the whole of it would take more than `max_bytes`.
pub fn packed<'a>(path: &'a Path, record: Record<'a>, max_bytes: u64) -> Result<Encoded<'a>> {
    let Kind { size: (width, height), bands, bits, .. } = record.kind;
    let turn = Turn::of(record.kind.orientation);
    let bytes = sample_bytes(width, height, bands, bits) * if turn.is_none() { 1 } else { 2 };
    let has_nodata = bits == 32 || record.kind.nodata != NoData::Unsaid;
    let header = Header { width, height, bands, bits, bytes, turn };
    Ok(Encoded { has_nodata, ..encoded(path, Format::Packed(record), &header, max_bytes)? })
}

/// An image that another library reads; `size` is what the index says of it.
pub fn foreign<'a>(path: &'a Path, size: Size, reader: &'a dyn Foreign, max_bytes: u64) -> Result<Encoded<'a>> {
    let Size { width, height, bands, bits } = size;
    let header = Header { width, height, bands, bits, bytes: 0, turn: Turn::of(1) };
    // Reading it tells.
    Ok(Encoded { has_nodata: true, ..encoded(path, Format::Foreign(reader), &header, max_bytes)? })
}

fn encoded<'a>(path: &'a Path, format: Format<'a>, header: &Header, max_bytes: u64) -> Result<Encoded<'a>> {
    let Header { width, height, bands, bits, bytes, turn } = *header;
    if width == 0 || height == 0 || bands == 0 {
        return Err(Error::data(path, format!("claims a size of {width} x {height} x {bands}")));
    }
    if bytes > max_bytes {
        return Err(Error::data(
            path,
            format!(
                "claims {width} x {height} pixels of {bands} bands, {} MiB to decode, over the limit of {} MiB",
                bytes >> 20,
                max_bytes >> 20
            ),
        ));
    }
    let (width, height) = turn.size((width, height));
    Ok(Encoded { path, format, max_bytes, turn, width, height, bands, bits, has_nodata: false })
}

/// Bytes of an image's samples.
fn sample_bytes(width: u32, height: u32, bands: u16, bits: u8) -> u64 {
    let pixels = u64::from(width) * u64::from(height);
    pixels.saturating_mul(u64::from(bands) * u64::from(bits / 8))
}

impl Decoders {
    /// Memory for samples of so many bits.
    fn take_spare(&mut self, bits: u8) -> Samples {
        if bits == 8 {
            return Samples::U8(std::mem::take(&mut self.jpeg.spare));
        }
        self.spare.take().unwrap_or(Samples::U8(Vec::new()))
    }

    /// Takes back the memory of a raster that is no longer needed, for the next image.
    pub fn recycle(&mut self, raster: Raster) {
        match raster.samples {
            Samples::U8(memory) => self.jpeg.spare = memory,
            samples => self.spare = Some(samples).filter(|samples| samples.bytes() <= SPARE_BYTES),
        }
    }
}

impl<'a> Encoded<'a> {
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

    /// Number of the band that says which pixels have data, where it is not wanted itself.
    pub(crate) fn alpha(&self) -> Option<u16> {
        if let Format::Tiff(tiff) = &self.format { tiff.alpha() } else { None }
    }

    /// Type of the samples in the file, where it is read here.
    pub fn dtype(&self) -> Option<Dtype> {
        match &self.format {
            Format::Jpeg(_) => Some(Dtype::Uint8),
            Format::Png(_) => Some(if self.bits == 16 { Dtype::Uint16 } else { Dtype::Uint8 }),
            Format::Tiff(tiff) => Some(tiff.dtype()),
            Format::Packed(_) | Format::Foreign(_) => None,
        }
    }

    /// Parts that cover the image and can each be decoded within the limit of memory, where the format allows parts.
    pub fn parts(&self) -> impl Iterator<Item = Rect> + use<> {
        let line = sample_bytes(self.width, 1, self.bands, self.bits).max(1);
        let rows = match &self.format {
            Format::Jpeg(_) | Format::Png(_) => u64::from(self.height),
            _ => (PART_BYTES / line).max(PART_ROWS).min(self.max_bytes / 2 / line).max(1),
        };
        // Whole tiles, where these are of a usual size.
        let rows = if rows > PART_ROWS { rows - rows % PART_ROWS } else { rows };
        let whole = self.rect();
        let starts = (0..whole.height).step_by(rows.min(u64::from(whole.height)).max(1) as usize);
        starts.map(move |y| Rect { y, height: (whole.height - y).min(rows as u32), ..whole })
    }

    /// The file's bytes, if it is a JPEG file.
    pub fn jpeg(&self) -> Option<&'a [u8]> {
        if let Format::Jpeg(bytes) = self.format { Some(bytes) } else { None }
    }

    /// Decodes at least what is wanted.
    pub fn decode(&self, want: Want<'_>, decoders: &mut Decoders) -> Result<Raster> {
        let Want { rect, shrink, .. } = want;
        let (path, stored) = (self.path, self.turn.size((self.width, self.height)));
        let rect = self.turn.stored_from_upright(rect, stored);
        decoders.jpeg.max_bytes = self.max_bytes;
        let raster = match &self.format {
            Format::Jpeg(bytes) => decoders.jpeg.decode(path, bytes, stored, rect, jpeg::scale(shrink))?,
            Format::Png(bytes) => png::decode(path, bytes, self.bands)?,
            Format::Tiff(tiff) => {
                let spare = decoders.take_spare(self.bits);
                let raster = tiff.decode(&Want { rect, ..want }, &mut decoders.tiff, spare, self.max_bytes)?;
                decoders.bytes_read += std::mem::take(&mut decoders.tiff.read);
                raster
            }
            Format::Foreign(reader) => {
                self.check_bytes(rect)?;
                reader.read(path, Want { rect, ..want })?
            }
            Format::Packed(record) => self.unpack(record, Want { rect, ..want }, decoders)?,
        };
        // Of other formats the wanted bands alone have been decoded.
        let all = match &self.format {
            Format::Jpeg(_) | Format::Png(_) => true,
            Format::Packed(record) => record.kind.codec == Codec::Jpeg,
            Format::Tiff(_) | Format::Foreign(_) => false,
        };
        let raster = if self.turn.is_none() {
            raster
        } else {
            let (raster, memory) = self.turn.upright(raster, stored);
            decoders.jpeg.spare = memory;
            raster
        };
        if !all {
            return Ok(raster);
        }
        let mut raster = raster;
        if let Some(value) = want.nodata {
            nodata::make_way(&mut raster.samples, value);
        }
        Ok(chosen(raster, want.bands))
    }

    /// Fails where the pixels of `rect` take more than the limit.
    pub(crate) fn check_bytes(&self, rect: Rect) -> Result<()> {
        let bytes = sample_bytes(rect.width, rect.height, self.bands, self.bits);
        if bytes <= self.max_bytes {
            return Ok(());
        }
        let mib = |bytes: u64| bytes >> 20;
        let limit = mib(self.max_bytes);
        Err(Error::data(self.path, format!("{} MiB to decode, over the limit of {limit} MiB", mib(bytes))))
    }

    fn unpack(&self, record: &Record<'_>, want: Want<'_>, decoders: &mut Decoders) -> Result<Raster> {
        if record.kind.codec != Codec::Jpeg {
            let spare = decoders.take_spare(self.bits);
            let (raster, bytes) = decoders.unpacker.decode(self.path, record, want, spare)?;
            decoders.bytes_read += bytes;
            return Ok(raster);
        }
        let (rect, shrink) = (want.rect, jpeg::scale(want.shrink));
        // A JPEG of the segments around the rectangle, which is decoded like a file.
        let units = record.kind.covering(rect, jpeg::MARGIN * shrink);
        let part = record.kind.rect(units);
        decoders.bytes_read += segments::stitch(self.path, record, units, &mut decoders.stitched)?;
        let inner = Rect { x: rect.x - part.x, y: rect.y - part.y, ..rect };
        let size = (part.width, part.height);
        let mut raster = decoders.jpeg.decode(self.path, &decoders.stitched, size, inner, shrink)?;
        raster.rect = raster.rect.within(part);
        Ok(raster)
    }
}

/// The wanted bands of a raster that has them all.
fn chosen(raster: Raster, bands: Option<&[Option<u16>]>) -> Raster {
    fn pick<T: Copy + Default>(samples: &[T], has: usize, bands: &[Option<u16>]) -> Vec<T> {
        let of = |pixel: &[T], band: &Option<u16>| band.map_or_else(T::default, |band| pixel[usize::from(band)]);
        samples.chunks_exact(has).flat_map(|pixel| bands.iter().map(move |band| of(pixel, band))).collect()
    }
    let Some(bands) = bands else { return raster };
    let has = usize::from(raster.bands);
    let samples = match &raster.samples {
        Samples::U8(samples) => Samples::U8(pick(samples, has, bands)),
        Samples::U16(samples) => Samples::U16(pick(samples, has, bands)),
        Samples::F32(samples) => Samples::F32(pick(samples, has, bands)),
    };
    Raster { bands: bands.len() as u16, samples, ..raster }
}
