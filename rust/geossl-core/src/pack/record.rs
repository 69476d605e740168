//! One packed image: a head that says what it is and where its units lie, then the units.
//!
//! An image is a grid of units, each coded by itself, row after row. All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | CRC-32 of the head's other bytes |
//! | 4..8 | length of the head |
//! | 8..16 | length of the units together |
//! | 16..32 | width and height of the image, width and height of a unit, pixels, 4 bytes each |
//! | 32..36 | bands (2 bytes), bits of a sample, codec |
//! | 36 | EXIF orientation, 1 to 8; width, height and units are those of the image as stored |
//! | 37 | which samples have no data: see `NoData` |
//! | 38..40 | their value |
//! | 40..44 | length of the tables |
//! | 48.. | tables: of a JPEG, its markers up to the scan |
//! | then | for each row of units: end among the units' bytes, CRC-32 of the row, 4 bytes each |
//! | then | for each unit its length: 2 bytes in a JPEG, else 4 |

use std::path::Path;

use crate::crop::Rect;
use crate::{Error, Result};

const FIXED: usize = 48;

/// How units are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Segments of a JPEG's scan between restart markers, without the markers.
    Jpeg = 1,
    /// Tiles made smaller without loss; see `tile`.
    Tiles = 2,
    /// Samples as they are.
    Raw = 3,
}

/// How an image of integers says which of its samples have no data; of floats, NaN says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoData {
    /// Not at all.
    Unsaid,
    /// All have data, though others of its kind may not.
    Nowhere,
    /// Those of this value.
    Value(u16),
    /// Those of the pixels where one more band, stored after the others, is 0.
    Mask,
    /// Those of the pixels where this band is 0, if it is not wanted itself.
    Alpha(u16),
}

/// What a packed image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// How units are coded.
    pub codec: Codec,
    /// (width, height) of the image as stored, pixels.
    pub size: (u32, u32),
    /// (width, height) of a unit, pixels; the last of a row or column may show less.
    pub unit: (u32, u32),
    /// Bands as decoded.
    pub bands: u16,
    /// Bits of a sample.
    pub bits: u8,
    /// Which samples have no data.
    pub nodata: NoData,
    /// EXIF orientation.
    pub orientation: u8,
}

/// A packed image in memory whose head has been checked.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// What it is.
    pub kind: Kind,
    /// Of a JPEG, its markers up to the scan.
    pub tables: &'a [u8],
    rows: &'a [u8],
    lengths: &'a [u8],
    units: &'a [u8],
}

/// Units from `columns.0` to before `columns.1` of the rows from `rows.0` to before `rows.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Columns, from and to.
    pub columns: (u32, u32),
    /// Rows, from and to.
    pub rows: (u32, u32),
}

impl Kind {
    /// (columns, rows) of units.
    pub fn grid(&self) -> (u32, u32) {
        (self.size.0.div_ceil(self.unit.0), self.size.1.div_ceil(self.unit.1))
    }

    /// The units under `rect` and `margin` pixels around it.
    pub fn covering(&self, rect: Rect, margin: u32) -> Units {
        let axis = |start: u32, length: u32, unit: u32, side: u32| {
            let to = (start + length).saturating_add(margin).min(side);
            (start.saturating_sub(margin) / unit, to.div_ceil(unit))
        };
        Units {
            columns: axis(rect.x, rect.width, self.unit.0, self.size.0),
            rows: axis(rect.y, rect.height, self.unit.1, self.size.1),
        }
    }

    /// The pixels that `units` show.
    pub fn rect(&self, units: Units) -> Rect {
        let axis = |(from, to): (u32, u32), unit: u32, side: u32| {
            let (start, end) = (from * unit, to.saturating_mul(unit).min(side));
            (start, end - start)
        };
        let (x, width) = axis(units.columns, self.unit.0, self.size.0);
        let (y, height) = axis(units.rows, self.unit.1, self.size.1);
        Rect { x, y, width, height }
    }

    /// Bands as stored: those of the image, and its mask.
    pub fn stored_bands(&self) -> usize {
        usize::from(self.bands) + usize::from(self.nodata == NoData::Mask)
    }

    fn length_bytes(&self) -> usize {
        if self.codec == Codec::Jpeg { 2 } else { 4 }
    }
}

/// The bytes of a record. `units` are all of the grid's, row after row.
/// Fails where a unit or the image is too large for the format.
pub fn encode(kind: &Kind, tables: &[u8], units: &[impl AsRef<[u8]>]) -> Result<Vec<u8>> {
    let (columns, rows) = kind.grid();
    let too_large = || Error::Argument("an image too large for a pack".into());
    if units.len() as u64 != u64::from(columns) * u64::from(rows) {
        return Err(Error::Internal(format!("{} units for a grid of {columns} x {rows}", units.len())));
    }
    let head_len = FIXED + tables.len() + rows as usize * 8 + units.len() * kind.length_bytes();
    let payload: usize = units.iter().map(|unit| unit.as_ref().len()).sum();
    u32::try_from(payload.max(head_len)).map_err(|_| too_large())?;
    let mut out = Vec::with_capacity(head_len + payload);
    out.extend([0; 4]);
    out.extend((head_len as u32).to_le_bytes());
    out.extend((payload as u64).to_le_bytes());
    for side in [kind.size.0, kind.size.1, kind.unit.0, kind.unit.1] {
        out.extend(side.to_le_bytes());
    }
    out.extend(kind.bands.to_le_bytes());
    let (said, value) = match kind.nodata {
        NoData::Unsaid => (0, 0),
        NoData::Nowhere => (1, 0),
        NoData::Value(value) => (2, value),
        NoData::Mask => (3, 0),
        NoData::Alpha(band) => (4, band),
    };
    out.extend([kind.bits, kind.codec as u8, kind.orientation, said]);
    out.extend(value.to_le_bytes());
    out.extend((tables.len() as u32).to_le_bytes());
    out.extend([0; 4]);
    out.extend(tables);
    let mut end = 0;
    for row in units.chunks(columns.max(1) as usize) {
        let mut crc = crc32fast::Hasher::new();
        for unit in row {
            crc.update(unit.as_ref());
            end += unit.as_ref().len() as u32;
        }
        out.extend(end.to_le_bytes());
        out.extend(crc.finalize().to_le_bytes());
    }
    for unit in units {
        let length = unit.as_ref().len();
        if kind.length_bytes() == 2 {
            out.extend(u16::try_from(length).map_err(|_| too_large())?.to_le_bytes());
        } else {
            out.extend((length as u32).to_le_bytes());
        }
    }
    let crc = crc32fast::hash(&out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    for unit in units {
        out.extend(unit.as_ref());
    }
    Ok(out)
}

impl<'a> Record<'a> {
    /// Checks the head of the record that `bytes` starts with.
    pub fn parse(path: &Path, bytes: &'a [u8]) -> Result<Self> {
        Self::checked(bytes).ok_or_else(|| Error::data(path, "its head in the pack is damaged (checksum)"))
    }

    fn checked(bytes: &'a [u8]) -> Option<Self> {
        let u32_at = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let head = bytes.get(..u32_at(4)? as usize).filter(|head| head.len() >= FIXED)?;
        if crc32fast::hash(&head[4..]) != u32_at(0)? {
            return None;
        }
        let codec = match head[35] {
            1 => Codec::Jpeg,
            2 => Codec::Tiles,
            3 => Codec::Raw,
            _ => return None,
        };
        let nodata = match head[37] {
            0 => NoData::Unsaid,
            1 => NoData::Nowhere,
            2 => NoData::Value(u16::from_le_bytes([head[38], head[39]])),
            3 => NoData::Mask,
            4 => NoData::Alpha(u16::from_le_bytes([head[38], head[39]])),
            _ => return None,
        };
        let kind = Kind {
            codec,
            size: (u32_at(16)?, u32_at(20)?),
            unit: (u32_at(24)?, u32_at(28)?),
            bands: u16::from_le_bytes([head[32], head[33]]),
            bits: head[34],
            nodata,
            orientation: head[36],
        };
        let sides = [kind.size.0, kind.size.1, kind.unit.0, kind.unit.1];
        let there = |nodata| !matches!(nodata, NoData::Alpha(band) if band >= kind.bands);
        if sides.contains(&0) || kind.bands == 0 || !matches!(kind.bits, 8 | 16 | 32) || !there(kind.nodata) {
            return None;
        }
        let (columns, rows) = kind.grid();
        let count = (columns as usize).checked_mul(rows as usize)?.checked_mul(kind.length_bytes())?;
        let (tables, rest) = head[FIXED..].split_at_checked(u32_at(40)? as usize)?;
        let (rows, lengths) = rest.split_at_checked((rows as usize).checked_mul(8)?)?;
        let payload = u32_at(8)? as usize; // never more than 32 bits
        let units = bytes[head.len()..].get(..payload)?;
        (lengths.len() == count).then_some(Self { kind, tables, rows, lengths, units })
    }

    /// Bytes of a row of units, checked.
    fn row(&self, path: &Path, row: u32) -> Result<&'a [u8]> {
        let entry = |row: u32, at: usize| {
            let start = row as usize * 8 + at;
            self.rows.get(start..start + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        };
        let start = if row == 0 { 0 } else { entry(row - 1, 0) };
        let bytes = self.units.get(start as usize..entry(row, 0) as usize).unwrap_or_default();
        if crc32fast::hash(bytes) == entry(row, 4) {
            Ok(bytes)
        } else {
            Err(Error::data(path, "its pixels in the pack are damaged (checksum)"))
        }
    }

    /// Gives each unit that is wanted, with its column and row; a row's checksum is looked at before its first.
    /// Returns the bytes that were looked at.
    pub fn each(
        &self,
        path: &Path,
        wanted: Units,
        mut take: impl FnMut(u32, u32, &'a [u8]) -> Result<()>,
    ) -> Result<u64> {
        let (columns, _) = self.kind.grid();
        let size = self.kind.length_bytes();
        let mut looked_at = 0;
        for row in wanted.rows.0..wanted.rows.1 {
            let mut bytes = self.row(path, row)?;
            looked_at += bytes.len() as u64;
            let first = row as usize * columns as usize * size;
            let lengths = &self.lengths[first..first + columns as usize * size];
            for (column, length) in (0..wanted.columns.1).zip(lengths.chunks_exact(size)) {
                let length = length.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                let (unit, rest) = bytes
                    .split_at_checked(length)
                    .ok_or_else(|| Error::data(path, "its units in the pack are longer than their row"))?;
                bytes = rest;
                if column >= wanted.columns.0 {
                    take(column, row, unit)?;
                }
            }
        }
        Ok(looked_at)
    }
}
