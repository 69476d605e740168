//! Samples in tiles, for what is not a JPEG: compressed without loss, or as they are.

use std::path::Path;

use super::record::{Codec, Kind, Record, Units};
use crate::crop::Rect;
use crate::decode::{Raster, Samples};
use crate::{Error, Result};

/// Side of a compressed tile, pixels.
const TILE: u32 = 128;
/// Rows of a raw band; it is as wide as the image, so that a crop's rows are read in one run.
const RAW_ROWS: u32 = 16;
/// Level of Zstandard: higher ones gain little on differences and cost much.
const LEVEL: i32 = 3;

/// Zstandard's state and buffers of a thread.
#[derive(Default)]
pub struct Unpacker {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    planes: Vec<u8>,
    bytes: Vec<u8>,
}

/// The record of a whole raster, in compressed tiles or as it is.
pub fn pack(raster: &Raster, codec: Codec) -> Result<Vec<u8>> {
    let (size, bands) = ((raster.rect.width, raster.rect.height), raster.bands);
    let (samples, bits) = match &raster.samples {
        Samples::U8(values) => (values.clone(), 8),
        Samples::U16(values) => (values.iter().flat_map(|v| v.to_le_bytes()).collect(), 16),
        Samples::F32(_) => return Err(Error::Argument("floats cannot be packed".into())),
    };
    let unit = if codec == Codec::Raw { (size.0, RAW_ROWS) } else { (TILE, TILE) };
    let kind = Kind { codec, size, unit, bands, bits, orientation: 1 };
    let (columns, rows) = kind.grid();
    let pixel = usize::from(bands) * usize::from(bits / 8);
    let mut zstd = zstd::bulk::Compressor::new(LEVEL).map_err(|e| Error::Internal(format!("Zstandard: {e}")))?;
    let mut units = Vec::with_capacity(columns as usize * rows as usize);
    for row in 0..rows {
        for column in 0..columns {
            let rect = kind.rect(Units { columns: (column, column + 1), rows: (row, row + 1) });
            let mut tile = Vec::with_capacity(rect.width as usize * rect.height as usize * pixel);
            for y in rect.y..rect.y + rect.height {
                let start = (y as usize * size.0 as usize + rect.x as usize) * pixel;
                tile.extend(&samples[start..start + rect.width as usize * pixel]);
            }
            if codec == Codec::Zstd {
                let planes = differences(&tile, rect.width as usize * pixel, usize::from(bands), bits);
                tile = zstd.compress(&planes).map_err(|e| Error::Internal(format!("Zstandard: {e}")))?;
            }
            units.push(tile);
        }
    }
    super::record::encode(&kind, &[], &units)
}

/// Each sample less the same band's to its left; of 16 bits the low bytes first, then the high ones.
fn differences(tile: &[u8], line: usize, bands: usize, bits: u8) -> Vec<u8> {
    if bits == 8 {
        let of_line = |line: &[u8]| -> Vec<u8> {
            (0..line.len()).map(|i| line[i].wrapping_sub(if i < bands { 0 } else { line[i - bands] })).collect()
        };
        return tile.chunks(line).flat_map(of_line).collect();
    }
    let of_line = |line: &[u8]| -> Vec<u16> {
        let values: Vec<u16> = line.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        (0..values.len()).map(|i| values[i].wrapping_sub(if i < bands { 0 } else { values[i - bands] })).collect()
    };
    let values: Vec<u16> = tile.chunks(line).flat_map(of_line).collect();
    values.iter().map(|v| *v as u8).chain(values.iter().map(|v| (v >> 8) as u8)).collect()
}

impl Unpacker {
    /// The pixels under `rect`, exactly, and the bytes that were looked at.
    pub fn decode(&mut self, path: &Path, record: &Record<'_>, rect: Rect) -> Result<(Raster, u64)> {
        let kind = record.kind;
        let count = rect.width as usize * rect.height as usize * usize::from(kind.bands);
        let pixel = usize::from(kind.bands) * usize::from(kind.bits / 8);
        let mut out = vec![0u8; count * usize::from(kind.bits / 8)];
        let line = rect.width as usize * pixel;
        let looked_at = record.each(path, kind.covering(rect, 0), |column, row, unit| {
            let tile = kind.rect(Units { columns: (column, column + 1), rows: (row, row + 1) });
            let need = tile.width as usize * tile.height as usize * pixel;
            let bytes =
                if kind.codec == Codec::Zstd { self.unpack(path, unit, &kind, tile.width, need)? } else { unit };
            if bytes.len() != need {
                return Err(Error::data(path, "a tile in the pack has another size than its place"));
            }
            let (x0, x1) = (rect.x.max(tile.x), (rect.x + rect.width).min(tile.x + tile.width));
            for y in rect.y.max(tile.y)..(rect.y + rect.height).min(tile.y + tile.height) {
                let from = ((y - tile.y) as usize * tile.width as usize + (x0 - tile.x) as usize) * pixel;
                let to = (y - rect.y) as usize * line + (x0 - rect.x) as usize * pixel;
                let run = (x1 - x0) as usize * pixel;
                out[to..to + run].copy_from_slice(&bytes[from..from + run]);
            }
            Ok(())
        })?;
        let samples = if kind.bits == 16 {
            Samples::U16(out.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())
        } else {
            Samples::U8(out)
        };
        Ok((Raster::new(rect, kind.bands, samples), looked_at))
    }

    /// The bytes of a compressed tile.
    fn unpack(&mut self, path: &Path, unit: &[u8], kind: &Kind, width: u32, need: usize) -> Result<&[u8]> {
        let bad = |e: std::io::Error| Error::data(path, format!("a tile in the pack is damaged: {e}"));
        let zstd = match self.zstd.take() {
            Some(zstd) => zstd,
            None => zstd::bulk::Decompressor::new().map_err(bad)?,
        };
        let zstd = self.zstd.insert(zstd);
        self.planes.clear();
        self.planes.reserve(need);
        zstd.decompress_to_buffer(unit, &mut self.planes).map_err(bad)?;
        if self.planes.len() != need {
            return Err(Error::data(path, "a tile in the pack has another size than its place"));
        }
        let bands = usize::from(kind.bands);
        if kind.bits == 8 {
            for line in self.planes.chunks_exact_mut(width as usize * bands) {
                for i in bands..line.len() {
                    line[i] = line[i].wrapping_add(line[i - bands]);
                }
            }
            return Ok(&self.planes);
        }
        let (low, high) = self.planes.split_at(need / 2);
        self.bytes.resize(need, 0);
        for (line, (low, high)) in self
            .bytes
            .chunks_exact_mut(width as usize * bands * 2)
            .zip(low.chunks_exact(width as usize * bands).zip(high.chunks_exact(width as usize * bands)))
        {
            for i in 0..low.len() {
                let left =
                    if i < bands { 0 } else { u16::from_le_bytes([line[(i - bands) * 2], line[(i - bands) * 2 + 1]]) };
                let value = u16::from_le_bytes([low[i], high[i]]).wrapping_add(left);
                line[i * 2..i * 2 + 2].copy_from_slice(&value.to_le_bytes());
            }
        }
        Ok(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raster(width: u32, height: u32, bands: u16, bits: u8) -> Raster {
        let n = width as usize * height as usize * usize::from(bands);
        let value = |i: usize| (i * 40_503) >> 3;
        let samples = if bits == 8 {
            Samples::U8((0..n).map(|i| value(i) as u8).collect())
        } else {
            Samples::U16((0..n).map(|i| value(i) as u16).collect())
        };
        Raster::new(Rect { x: 0, y: 0, width, height }, bands, samples)
    }

    #[test]
    fn every_window_comes_back() {
        for (bands, bits) in [(3, 8), (1, 8), (8, 16), (4, 16)] {
            let image = raster(300, 150, bands, bits);
            for codec in [Codec::Zstd, Codec::Raw] {
                let bytes = pack(&image, codec).unwrap();
                let record = Record::parse(Path::new("x"), &bytes).unwrap();
                let mut unpacker = Unpacker::default();
                for (x, y, width, height) in
                    [(0, 0, 300, 150), (127, 127, 2, 2), (299, 149, 1, 1), (5, 16, 250, 1), (128, 0, 128, 128)]
                {
                    let rect = Rect { x, y, width, height };
                    let (part, _) = unpacker.decode(Path::new("x"), &record, rect).unwrap();
                    let at = |r: &Raster, px: u32, py: u32, band: usize| {
                        let i = ((py - r.rect.y) as usize * r.rect.width as usize + (px - r.rect.x) as usize)
                            * usize::from(bands)
                            + band;
                        match &r.samples {
                            Samples::U8(v) => u16::from(v[i]),
                            Samples::U16(v) => v[i],
                            Samples::F32(_) => unreachable!(),
                        }
                    };
                    for py in y..y + height {
                        for px in x..x + width {
                            for band in 0..usize::from(bands) {
                                assert_eq!(at(&part, px, py, band), at(&image, px, py, band));
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let image = raster(40, 40, 3, 8);
        for codec in [Codec::Zstd, Codec::Raw] {
            let bytes = pack(&image, codec).unwrap();
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << (at % 8);
                let read = Record::parse(Path::new("x"), &bad)
                    .and_then(|record| Unpacker::default().decode(Path::new("x"), &record, image.rect));
                assert!(read.is_err(), "byte {at} of {}", bytes.len());
            }
        }
    }
}
