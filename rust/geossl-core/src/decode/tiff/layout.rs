//! How a directory's image lies in the file: kind of samples, strips or tiles, compression.

use super::ifd::{Directory, Entry, Reader, Window};
use crate::Result;
use crate::decode::dtype::Dtype;

mod tag {
    pub const WIDTH: u16 = 256;
    pub const HEIGHT: u16 = 257;
    pub const BITS: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const SAMPLES: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_COUNTS: u16 = 279;
    pub const PLANAR: u16 = 284;
    pub const PREDICTOR: u16 = 317;
    pub const COLOR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_HEIGHT: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_COUNTS: u16 = 325;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
}

/// `PhotometricInterpretation`: numbers into a table of colours.
const PALETTE: u16 = 3;
const YCBCR: u16 = 6;
/// Colours of a palette of eight bits.
const COLORS: u64 = 256;
/// Longest JPEG tables, bytes.
const MAX_TABLES: u64 = 1 << 16;

/// How blocks are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    PackBits,
    Lzw,
    Deflate,
    Zstd,
    Jpeg,
}

/// What is stored in place of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predictor {
    None,
    /// The difference to the pixel on the left.
    Horizontal,
    /// Differences of the bytes of a row, most significant ones first.
    Float,
}

/// How an image lies in the file.
#[derive(Debug, Clone)]
pub struct Layout {
    pub width: u32,
    pub height: u32,
    /// Samples of a pixel, with alpha.
    pub samples: u16,
    /// None: single bits, of a mask.
    pub dtype: Option<Dtype>,
    /// Each band by itself.
    pub planar: bool,
    /// Width and height of a tile; a strip is as wide as the image.
    pub block: (u32, u32),
    pub tiled: bool,
    /// Blocks across and down.
    pub grid: (u32, u32),
    pub compression: Compression,
    pub predictor: Predictor,
    /// The bits of the stored bytes are in reverse order.
    pub reversed: bool,
    pub photometric: u16,
    pub palette: Option<Entry>,
    pub jpeg_tables: Option<Entry>,
    offsets: Entry,
    counts: Option<Entry>,
}

impl Layout {
    /// Reads a directory. Nothing that a broken one may claim is allocated.
    pub fn read(reader: &Reader<'_>, window: &mut Window, directory: &Directory) -> Result<Self> {
        for side in [tag::WIDTH, tag::HEIGHT] {
            if directory.get(side).is_some_and(|entry| entry.count != 1) {
                return Err(reader.bad("a broken TIFF: a width or height of several values"));
            }
        }
        let mut first = |tag, missing| reader.first(window, directory, tag, missing);
        let (width, height) = (first(tag::WIDTH, 0)?, first(tag::HEIGHT, 0)?);
        let samples = first(tag::SAMPLES, 1)?;
        let side = |length: u64| u32::try_from(length).ok().filter(|&side| side > 0 && i32::try_from(side).is_ok());
        let sides =
            (side(width), side(height), u16::try_from(samples).ok().filter(|&n| n > 0 && i16::try_from(n).is_ok()));
        let (Some(width), Some(height), Some(samples)) = sides else {
            return Err(reader.bad(format!("impossible size: {width} x {height} x {samples}")));
        };
        let compression = compression(reader, first(tag::COMPRESSION, 1)?)?;
        let predictor = match first(tag::PREDICTOR, 1)? {
            _ if matches!(compression, Compression::None | Compression::PackBits | Compression::Jpeg) => {
                Predictor::None
            }
            0 | 1 => Predictor::None,
            2 => Predictor::Horizontal,
            3 => Predictor::Float,
            other => return Err(reader.bad(format!("a broken TIFF: predictor {other}"))),
        };
        let photometric = first(tag::PHOTOMETRIC, 1)? as u16;
        let planar = samples > 1 && first(tag::PLANAR, 1)? == 2;
        let reversed = compression != Compression::Jpeg && first(tag::FILL_ORDER, 1)? == 2;

        let tiled = directory.get(tag::TILE_OFFSETS).is_some();
        let block = if tiled {
            (first(tag::TILE_WIDTH, 0)?, first(tag::TILE_HEIGHT, 0)?)
        } else {
            (u64::from(width), first(tag::ROWS_PER_STRIP, u64::from(height))?.min(u64::from(height)))
        };
        let (Some(block_w), Some(block_h)) = (side(block.0), side(block.1)) else {
            return Err(reader.bad(format!("a broken TIFF: strips or tiles of {} x {} pixels", block.0, block.1)));
        };
        let (offsets, counts) =
            if tiled { (tag::TILE_OFFSETS, tag::TILE_COUNTS) } else { (tag::STRIP_OFFSETS, tag::STRIP_COUNTS) };
        let Some(offsets) = directory.get(offsets) else {
            return Err(reader.bad("a TIFF without strips or tiles (StripOffsets or TileOffsets is missing)"));
        };
        let layout = Self {
            width,
            height,
            samples,
            dtype: dtype(reader, window, directory, samples)?,
            planar,
            block: (block_w, block_h),
            tiled,
            grid: (width.div_ceil(block_w), height.div_ceil(block_h)),
            compression,
            predictor,
            reversed,
            photometric,
            palette: directory.get(tag::COLOR_MAP).filter(|_| photometric == PALETTE),
            jpeg_tables: directory.get(tag::JPEG_TABLES).filter(|_| compression == Compression::Jpeg),
            offsets,
            counts: directory.get(counts),
        };
        layout.check(reader)?;
        Ok(layout)
    }

    /// What does not go together, or is not read.
    fn check(&self, reader: &Reader<'_>) -> Result<()> {
        let jpeg = self.compression == Compression::Jpeg;
        let kind = self.dtype.map_or("bit", Dtype::name);
        if jpeg && (self.dtype != Some(Dtype::Uint8) || !self.planar && !matches!(self.samples, 1 | 3 | 4)) {
            return Err(reader.bad(format!("not read here: JPEG compression of {} bands of {kind}", self.samples)));
        }
        match self.photometric {
            0..=2 | 4 => {}
            5 => return Err(reader.bad("not read here: CMYK")),
            PALETTE if self.samples == 1 && self.dtype == Some(Dtype::Uint8) => {
                if self.palette.is_none_or(|map| map.count != 3 * COLORS || map.size() != 2) {
                    return Err(reader.bad("a broken TIFF: a palette without its colours"));
                }
            }
            PALETTE => {
                return Err(reader.bad(format!("not read here: a palette with {} bands of {kind}", self.samples)));
            }
            YCBCR if jpeg && self.samples == 3 && !self.planar => {}
            YCBCR => return Err(reader.bad("not read here: YCbCr that is not a JPEG's")),
            other => return Err(reader.bad(format!("not read here: photometric interpretation {other}"))),
        }
        let integers = self.dtype.is_some_and(|dtype| !dtype.is_float());
        let fits = match self.predictor {
            Predictor::None => true,
            Predictor::Horizontal => self.dtype.is_some(),
            Predictor::Float => self.dtype.is_some() && !integers,
        };
        if !fits {
            return Err(reader.bad(format!("a broken TIFF: a predictor that does not go with {kind} samples")));
        }
        if self.jpeg_tables.is_some_and(|tables| tables.count > MAX_TABLES || tables.size() != 1) {
            return Err(reader.bad("a broken TIFF: JPEG tables of an impossible length"));
        }
        let blocks = self.blocks();
        if self.counts.is_none() && self.compression != Compression::None {
            return Err(reader.bad("a broken TIFF: the lengths of its strips or tiles are missing"));
        }
        for list in std::iter::once(self.offsets).chain(self.counts) {
            let end = list.count.checked_mul(list.size()).and_then(|bytes| list.at.checked_add(bytes));
            if list.count < blocks || end.is_none_or(|end| end > reader.len()) {
                return Err(reader.bad(format!(
                    "a broken TIFF: {} strips or tiles, where its list claims {} and lies at {} of {} bytes",
                    blocks,
                    list.count,
                    list.at,
                    reader.len()
                )));
            }
        }
        Ok(())
    }

    /// Planes of blocks: one, or each band's.
    pub fn planes(&self) -> u16 {
        if self.planar { self.samples } else { 1 }
    }

    /// Samples of a pixel within a block.
    pub fn samples_per_block(&self) -> usize {
        if self.planar { 1 } else { usize::from(self.samples) }
    }

    /// Whether colours have to be made of YCbCr.
    pub fn ycbcr(&self) -> bool {
        self.photometric == YCBCR
    }

    /// Bytes of a row of a block.
    pub fn row_bytes(&self) -> u64 {
        let samples = u64::from(self.block.0) * self.samples_per_block() as u64;
        self.dtype.map_or(samples.div_ceil(8), |dtype| samples * dtype.bytes() as u64)
    }

    /// Rows that block row `row` holds: a last strip may be short, a tile never is.
    pub fn rows(&self, row: u32) -> u32 {
        let (height, rows) = (self.height, self.block.1);
        if self.tiled { rows } else { rows.min(height - row * rows) }
    }

    /// Bytes of an unpacked block; none where its rows are read as they are.
    pub fn unpacked_bytes(&self) -> u64 {
        let packed = self.compression != Compression::None;
        if packed { self.row_bytes().saturating_mul(self.block.1.into()) } else { 0 }
    }

    fn blocks(&self) -> u64 {
        u64::from(self.grid.0) * u64::from(self.grid.1) * u64::from(self.planes())
    }

    /// Where a block's bytes lie and how many they are; None where it is left out. Without a list of lengths they are
    /// what the samples take.
    pub fn place(&self, reader: &Reader<'_>, windows: &mut [Window; 2], number: u64) -> Result<Option<(u64, u64)>> {
        let [offsets, counts] = windows;
        let at = reader.number(offsets, self.offsets, number)?;
        let count = match self.counts {
            Some(list) => reader.number(counts, list, number)?,
            None => u64::MAX,
        };
        Ok((count != 0 && (at != 0 || self.counts.is_some())).then_some((at, count)))
    }
}

fn compression(reader: &Reader<'_>, number: u64) -> Result<Compression> {
    let name = match number {
        1 => return Ok(Compression::None),
        5 => return Ok(Compression::Lzw),
        7 => return Ok(Compression::Jpeg),
        8 | 32946 => return Ok(Compression::Deflate),
        32773 => return Ok(Compression::PackBits),
        50000 => return Ok(Compression::Zstd),
        2..=4 => "CCITT compression",
        6 => "old-style JPEG compression",
        33003 | 33004 | 33005 | 34712 => "JPEG 2000 compression",
        34887 => "LERC compression",
        34925 => "LZMA compression",
        50001 => "WebP compression",
        50002 | 52546 => "JPEG XL compression",
        _ => return Err(reader.bad(format!("not read here: compression {number}"))),
    };
    Err(reader.bad(format!("not read here: {name}")))
}

/// The kind of the samples, which all have to be of.
fn dtype(reader: &Reader<'_>, window: &mut Window, directory: &Directory, samples: u16) -> Result<Option<Dtype>> {
    let mut same = |tag, missing| -> Result<Option<u64>> {
        let Some(entry) = directory.get(tag) else { return Ok(Some(missing)) };
        let first = reader.number(window, entry, 0)?;
        for n in 1..entry.count.min(samples.into()) {
            if reader.number(window, entry, n)? != first {
                return Ok(None);
            }
        }
        Ok(Some(first))
    };
    let (Some(bits), Some(format)) = (same(tag::BITS, 1)?, same(tag::SAMPLE_FORMAT, 1)?) else {
        return Err(reader.bad("not read here: bands of several types"));
    };
    let name = match (format, bits) {
        (1 | 4, 1) => return Ok(None),
        (1 | 4, 8) => return Ok(Some(Dtype::Uint8)),
        (1 | 4, 16) => return Ok(Some(Dtype::Uint16)),
        (1 | 4, 32) => return Ok(Some(Dtype::Uint32)),
        (2, 8) => return Ok(Some(Dtype::Int8)),
        (2, 16) => return Ok(Some(Dtype::Int16)),
        (2, 32) => return Ok(Some(Dtype::Int32)),
        (3, 16) => return Ok(Some(Dtype::Float16)),
        (3, 32) => return Ok(Some(Dtype::Float32)),
        (3, 64) => return Ok(Some(Dtype::Float64)),
        (1 | 4, _) => "uint",
        (2, _) => "int",
        (3, _) => "float",
        (5 | 6, _) => "complex",
        _ => return Err(reader.bad(format!("a broken TIFF: sample format {format}"))),
    };
    Err(reader.bad(format!("not read here: {name}{bits} samples")))
}
