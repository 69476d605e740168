//! Samples in tiles, for what is not a JPEG: made smaller without loss, or as they are.

use std::path::Path;

use super::record::{Codec, Kind, NoData, Record, Units};
use super::tile::{self, Sample, Zstd};
use super::whole::Whole;
use crate::decode::nodata::{Integer, mark, mark_value};
use crate::decode::{Raster, Samples, Want};
use crate::{Error, Result};

/// Side of a tile that is made smaller, pixels.
const TILE: u32 = 128;
/// Rows of a raw band; it is as wide as the image, so that a crop's rows are read in one run.
const RAW_ROWS: u32 = 16;

/// The record of a whole image, in tiles made smaller or as it is.
pub fn pack(whole: &Whole, codec: Codec) -> Result<Vec<u8>> {
    let (rect, bits) = (whole.raster.rect, whole.raster.samples.bits());
    let unit = if codec == Codec::Raw { (rect.width, RAW_ROWS) } else { (TILE, TILE) };
    let size = (rect.width, rect.height);
    let kind = Kind { codec, size, unit, bands: whole.raster.bands, bits, nodata: whole.nodata, orientation: 1 };
    let units = match &whole.raster.samples {
        Samples::U8(values) => units(&kind, values, &whole.mask),
        Samples::U16(values) => units(&kind, values, &whole.mask),
        Samples::F32(values) => {
            let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            units(&kind, &bits, &whole.mask)
        }
    };
    super::record::encode(&kind, &[], &units.map_err(|e| Error::Internal(format!("Zstandard: {e}")))?)
}

fn units<T: Sample + Integer>(kind: &Kind, samples: &[T], mask: &[bool]) -> std::io::Result<Vec<Vec<u8>>> {
    let (columns, rows) = kind.grid();
    let bands = usize::from(kind.bands);
    let mut units = Vec::with_capacity(columns as usize * rows as usize);
    for row in 0..rows {
        for column in 0..columns {
            let rect = kind.rect(Units { columns: (column, column + 1), rows: (row, row + 1) });
            let mut tile = Vec::with_capacity(rect.width as usize * rect.height as usize * kind.stored_bands());
            for y in rect.y..rect.y + rect.height {
                let first = y as usize * kind.size.0 as usize + rect.x as usize;
                let pixels = first..first + rect.width as usize;
                if kind.nodata == NoData::Mask {
                    for i in pixels {
                        tile.extend(&samples[i * bands..][..bands]);
                        tile.push(T::of(u16::from(mask[i])));
                    }
                } else {
                    tile.extend(&samples[pixels.start * bands..pixels.end * bands]);
                }
            }
            units.push(if kind.codec == Codec::Raw {
                let mut bytes = Vec::with_capacity(tile.len() * T::BYTES);
                for sample in tile {
                    sample.put(&mut bytes);
                }
                bytes
            } else {
                tile::pack(&tile, rect.width as usize * kind.stored_bands(), kind.stored_bands())?
            });
        }
    }
    Ok(units)
}

/// What a thread keeps to read records.
#[derive(Default)]
pub struct Unpacker {
    zstd: Zstd,
    of8: tile::Unpacker<u8>,
    of16: tile::Unpacker<u16>,
    of32: tile::Unpacker<u32>,
}

impl Unpacker {
    /// What is wanted of an image, exactly but for `shrink`, and the bytes that were looked at. The memory of `spare`
    /// is used again, where its samples are of the image's kind.
    pub fn decode(
        &mut self,
        path: &Path,
        record: &Record<'_>,
        want: Want<'_>,
        spare: Samples,
    ) -> Result<(Raster, u64)> {
        let kind = &record.kind;
        let bands = want.bands.map_or(usize::from(kind.bands), <[_]>::len);
        if let Some(band) = want.bands.into_iter().flatten().flatten().find(|band| **band >= kind.bands) {
            return Err(Error::data(path, format!("band {band} is wanted, and it has {} (from 0)", kind.bands)));
        }
        let Self { zstd, of8, of16, of32 } = self;
        let (samples, looked_at) = match kind.bits {
            8 => {
                let mut out = if let Samples::U8(memory) = spare { memory } else { Vec::new() };
                let looked_at = decode(path, record, want, bands, of8, zstd, &mut out)?;
                (Samples::U8(out), looked_at)
            }
            16 => {
                let mut out = if let Samples::U16(memory) = spare { memory } else { Vec::new() };
                let looked_at = decode(path, record, want, bands, of16, zstd, &mut out)?;
                (Samples::U16(out), looked_at)
            }
            _ => {
                let mut out = match spare {
                    // The memory stays the same.
                    Samples::F32(memory) => memory.into_iter().map(f32::to_bits).collect(),
                    _ => Vec::new(),
                };
                let looked_at = decode(path, record, want, bands, of32, zstd, &mut out)?;
                (Samples::F32(out.into_iter().map(f32::from_bits).collect()), looked_at)
            }
        };
        let mut raster = Raster::new(want.rect, bands as u16, samples);
        if kind.bits < 32 && said(kind.nodata, &want) != NoData::Unsaid {
            raster.nodata = want.nodata.map(f32::from);
        }
        Ok((raster, looked_at))
    }
}

/// What says which samples have no data; an alpha band that is wanted itself does not.
fn said(nodata: NoData, want: &Want<'_>) -> NoData {
    match nodata {
        NoData::Alpha(band) if want.bands.is_none_or(|bands| bands.contains(&Some(band))) => NoData::Unsaid,
        other => other,
    }
}

/// Writes what is wanted to `out`.
fn decode<T: Sample + Integer>(
    path: &Path,
    record: &Record<'_>,
    want: Want<'_>,
    bands: usize,
    unpacker: &mut tile::Unpacker<T>,
    zstd: &mut Zstd,
    out: &mut Vec<T>,
) -> Result<u64> {
    let (kind, rect, stored) = (&record.kind, want.rect, record.kind.stored_bands());
    let view = Choice {
        bands: want.bands,
        own: usize::from(kind.bands),
        stored,
        // Floats are marked by NaN.
        nodata: want.nodata.filter(|_| kind.bits < 32).map(|value| (said(kind.nodata, &want), T::of(value))),
    };
    // All of it is written below.
    out.resize(rect.width as usize * rect.height as usize * bands, T::default());
    record.each(path, kind.covering(rect, 0), |column, row, unit| {
        let tile = kind.rect(Units { columns: (column, column + 1), rows: (row, row + 1) });
        let (left, right) = (rect.x.max(tile.x), (rect.x + rect.width).min(tile.x + tile.width));
        let bottom = (rect.y + rect.height).min(tile.y + tile.height);
        let pixels = (left - tile.x) as usize * stored..(right - tile.x) as usize * stored;
        let line = tile.width as usize * stored;
        let mut put = |y: usize, samples: &[T]| {
            let Some(y) = (tile.y as usize + y).checked_sub(rect.y as usize) else { return };
            let start = (y * rect.width as usize + (left - rect.x) as usize) * bands;
            view.copy(&samples[pixels.clone()], &mut out[start..start + (right - left) as usize * bands]);
        };
        if kind.codec == Codec::Raw {
            if unit.len() != line * tile.height as usize * T::BYTES {
                return Err(Error::data(path, "a tile in the pack has another size than its place"));
            }
            let mut samples = Vec::with_capacity(line);
            for (y, bytes) in unit.chunks_exact(line * T::BYTES).take((bottom - tile.y) as usize).enumerate() {
                samples.clear();
                samples.extend(bytes.chunks_exact(T::BYTES).map(T::read));
                put(y, &samples);
            }
            return Ok(());
        }
        let size = (line, tile.height as usize);
        unpacker
            .rows(unit, size, stored, (bottom - tile.y) as usize, zstd, put)
            .map_err(|damage| Error::data(path, damage))
    })
}

/// What is taken of stored pixels.
struct Choice<'a, T> {
    /// The wanted bands; None: all.
    bands: Option<&'a [Option<u16>]>,
    /// Bands of the image.
    own: usize,
    /// Bands as stored.
    stored: usize,
    /// How samples without data are told, and the value that they get; None: they stay as they are.
    nodata: Option<(NoData, T)>,
}

impl<T: Sample + Integer> Choice<'_, T> {
    fn copy(&self, from: &[T], to: &mut [T]) {
        if self.bands.is_none() && self.own == self.stored {
            to.copy_from_slice(from);
            match self.nodata {
                Some((NoData::Value(own), want)) => mark_value(to, T::of(own), want),
                Some((_, want)) => to.iter_mut().for_each(|sample| *sample = mark(*sample, false, want)),
                None => {}
            }
            return;
        }
        let count = self.bands.map_or(self.own, <[_]>::len);
        for k in 0..count {
            let band = self.bands.map_or(Some(k), |bands| bands[k].map(usize::from));
            for (pixel, out) in from.chunks_exact(self.stored).zip(to.chunks_exact_mut(count)) {
                out[k] = match (band, self.nodata) {
                    (None, _) => T::default(),
                    (Some(band), None) => pixel[band],
                    (Some(band), Some((said, want))) => {
                        let no_data = match said {
                            NoData::Value(own) => pixel[band] == T::of(own),
                            NoData::Mask => pixel[self.own] == T::default(),
                            NoData::Alpha(alpha) => pixel[usize::from(alpha)] == T::default(),
                            NoData::Nowhere | NoData::Unsaid => false,
                        };
                        mark(pixel[band], no_data, want)
                    }
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crop::Rect;
    use crate::decode::{self, Decoders};
    use crate::rng::{Draws, Stage};

    const PATH: &str = "x";

    /// Smooth, with noise of eleven bits at most.
    fn value(i: usize, bands: usize) -> usize {
        let noise = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 40;
        (i / bands) % 300 * 3 + i % bands * 100 + noise
    }

    fn raster(width: u32, height: u32, bands: u16, bits: u8) -> Raster {
        let own = usize::from(bands);
        let n = width as usize * height as usize * own;
        let samples = match bits {
            8 => Samples::U8((0..n).map(|i| (value(i, own) >> 3) as u8).collect()),
            16 => Samples::U16((0..n).map(|i| value(i, own) as u16).collect()),
            _ => Samples::F32(
                (0..n).map(|i| if i % 97 == 0 { f32::NAN } else { value(i, own) as f32 * 0.1 - 20.0 }).collect(),
            ),
        };
        Raster::new(Rect { x: 0, y: 0, width, height }, bands, samples)
    }

    /// A sample's bits.
    fn at(raster: &Raster, (x, y): (u32, u32), band: usize) -> u32 {
        let pixel = (y - raster.rect.y) as usize * raster.rect.width as usize + (x - raster.rect.x) as usize;
        let i = pixel * usize::from(raster.bands) + band;
        match &raster.samples {
            Samples::U8(v) => u32::from(v[i]),
            Samples::U16(v) => u32::from(v[i]),
            Samples::F32(v) => v[i].to_bits(),
        }
    }

    /// What a pack gives, and what it should, by the sample.
    fn check(whole: &Whole, no_data: impl Fn((u32, u32), usize) -> bool) {
        let image = &whole.raster;
        let some = [Some(image.bands - 1), None, Some(0)];
        for codec in [Codec::Tiles, Codec::Raw] {
            let bytes = pack(whole, codec).unwrap();
            let record = Record::parse(Path::new(PATH), &bytes).unwrap();
            let packed = decode::packed(Path::new(PATH), record, 1 << 30).unwrap();
            assert_eq!((packed.bands, packed.bits), (image.bands, image.samples.bits()));
            let mut decoders = Decoders::default();
            for (x, y, width, height) in
                [(0, 0, 300, 150), (127, 127, 2, 2), (299, 149, 1, 1), (5, 16, 250, 1), (128, 0, 128, 128)]
            {
                for (bands, nodata) in [(None, None), (None, Some(7)), (Some(&some[..]), None), (Some(&some), Some(0))]
                {
                    let want = Want { bands, nodata, ..Want::all(Rect { x, y, width, height }) };
                    let part = packed.decode(want, &mut decoders).unwrap();
                    assert_eq!(usize::from(part.bands), bands.map_or(usize::from(image.bands), <[_]>::len));
                    let floats = image.samples.bits() == 32;
                    match part.nodata {
                        Some(value) if floats => assert!(value.is_nan()),
                        value => {
                            let said = whole.nodata != NoData::Unsaid;
                            assert_eq!(value, nodata.filter(|_| said).map(f32::from));
                        }
                    }
                    for (px, py) in (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y))) {
                        for band in 0..usize::from(part.bands) {
                            let source = bands.map_or(Some(band), |bands| bands[band].map(usize::from));
                            let mut wanted = source.map_or(0, |source| at(image, (px, py), source));
                            if let (Some(source), Some(value), false) = (source, nodata, floats) {
                                wanted = mark(wanted, no_data((px, py), source), u32::from(value));
                            }
                            assert_eq!(at(&part, (px, py), band), wanted, "{codec:?} {px} {py} {band}");
                        }
                    }
                    decoders.recycle(part);
                }
            }
            let wrong = [Some(image.bands)];
            let error = packed.decode(Want { bands: Some(&wrong), ..Want::all(image.rect) }, &mut decoders);
            assert!(error.unwrap_err().to_string().contains("is wanted"));
        }
    }

    #[test]
    fn every_window_comes_back() {
        for (bands, bits) in [(3, 8), (1, 8), (8, 16), (4, 16), (2, 32)] {
            let raster = raster(300, 150, bands, bits);
            check(&Whole { raster, nodata: NoData::Unsaid, mask: Vec::new() }, |_, _| false);
        }
    }

    #[test]
    fn samples_without_data_come_back_as_such() {
        for (bands, bits) in [(4, 8), (5, 16)] {
            let raster = raster(300, 150, bands, bits);
            let of = |nodata, mask| Whole { raster: raster.clone(), nodata, mask };
            check(&of(NoData::Value(33), Vec::new()), |at_pixel, band| at(&raster, at_pixel, band) == 33);
            check(&of(NoData::Nowhere, Vec::new()), |_, _| false);
            let hole = |(x, y): (u32, u32)| (x / 50 + y / 30) % 3 == 1;
            let mask = (0..150).flat_map(|y| (0..300).map(move |x| !hole((x, y)))).collect();
            check(&of(NoData::Mask, mask), |pixel, _| hole(pixel));
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let whole = Whole { raster: raster(40, 40, 3, 8), nodata: NoData::Value(3), mask: Vec::new() };
        for codec in [Codec::Tiles, Codec::Raw] {
            let bytes = pack(&whole, codec).unwrap();
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << (at % 8);
                let read = Record::parse(Path::new(PATH), &bad).and_then(|record| {
                    Unpacker::default().decode(
                        Path::new(PATH),
                        &record,
                        Want::all(whole.raster.rect),
                        Samples::U8(Vec::new()),
                    )
                });
                assert!(read.is_err(), "byte {at} of {}", bytes.len());
            }
        }
    }

    /// Share of the samples' bytes that a pack takes, and the speed of decoding a region, of two kinds of images.
    #[test]
    #[ignore = "prints timings, for people"]
    fn timings() {
        for (name, bands, bits) in [("8 bands uint16", 8, 16), ("4 bands uint8", 4, 8), ("4 bands float32", 4, 32)] {
            for noise in [8, 40, 150, 600] {
                timing(&format!("{name}, noise of {noise}"), &noisy(bands, bits, noise));
            }
        }
        // Samples of 512 x 512 pixels, as they are in memory.
        for name in std::env::var("GEOSSL_SAMPLES").iter().flat_map(|names| names.split(',')) {
            let bytes = std::fs::read(name).unwrap();
            let bands = bytes.len() / (512 * 512);
            let rect = Rect { x: 0, y: 0, width: 512, height: 512 };
            let raster = if bands > 4 {
                let values = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
                Raster::new(rect, bands as u16 / 2, Samples::U16(values))
            } else {
                Raster::new(rect, bands as u16, Samples::U8(bytes))
            };
            timing(name, &raster);
        }
    }

    fn noisy(bands: u16, bits: u8, noise: usize) -> Raster {
        let own = usize::from(bands);
        let mut draws = Draws::new(0, 0, 0, 0, Stage::Crop);
        let mut value = |i: usize| {
            let (x, y) = ((i / own % 512) as f64, (i / own / 512) as f64);
            let ground = 1200.0 + 500.0 * ((x / 60.0).sin() + (y / 45.0 + (i % own) as f64).cos());
            // Four of them together are much like a normal deviate.
            ground + (0..4).map(|_| draws.below(2 * noise) as f64 - noise as f64).sum::<f64>() / 2.0
        };
        let all = (0..512 * 512 * own).map(&mut value);
        let samples = match bits {
            8 => Samples::U8(all.map(|v| (v / 12.0) as u8).collect()),
            16 => Samples::U16(all.map(|v| v as u16).collect()),
            _ => Samples::F32(all.map(|v| v as f32).collect()),
        };
        Raster::new(Rect { x: 0, y: 0, width: 512, height: 512 }, bands, samples)
    }

    fn timing(name: &str, image: &Raster) {
        let bytes = pack(&Whole::marked(image.clone()), Codec::Tiles).unwrap();
        let record = Record::parse(Path::new(PATH), &bytes).unwrap();
        let packed = decode::packed(Path::new(PATH), record, 1 << 30).unwrap();
        let mut decoders = Decoders::default();
        let pixel = usize::from(image.bands) * usize::from(image.samples.bits() / 8);
        let mut speed = |side: u32| {
            let rect = Rect { x: (512 - side) / 2, y: (512 - side) / 2, width: side, height: side };
            let best = (0..50)
                .map(|_| {
                    let started = std::time::Instant::now();
                    let raster = packed.decode(Want::all(rect), &mut decoders).unwrap();
                    let took = started.elapsed().as_secs_f64();
                    decoders.recycle(raster);
                    took
                })
                .fold(f64::INFINITY, f64::min);
            (side as usize).pow(2) as f64 * pixel as f64 / best / 1e9
        };
        let (whole, part) = (speed(512), speed(400));
        let share = bytes.len() as f64 / (512.0 * 512.0 * pixel as f64);
        println!("{name:32} {share:.3} of the bytes; all {whole:.2} GB/s, 400 x 400 {part:.2} GB/s");
    }
}
