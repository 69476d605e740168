//! TIFF through the `tiff` crate: only the strips or tiles under the wanted rectangle are decoded.

use std::io::Cursor;
use std::path::Path;

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use crate::crop::Rect;
use crate::decode::exif::Turn;
use crate::decode::{Header, Raster, Samples, sample_bytes};
use crate::{Error, Result};

/// Longest list of strips or tiles, or of what a sample is.
const MAX_LIST: u64 = 1 << 18;
/// Tags whose lists the reader takes into memory at once: bits of a sample, offsets and lengths of strips and of
/// tiles, extra samples, sample formats, JPEG tables.
const LISTS: [u16; 8] = [258, 273, 279, 324, 325, 338, 339, 347];

/// A reader that allocates no more than `max_bytes` for a strip or tile.
fn open<'a>(path: &Path, bytes: &'a [u8], max_bytes: u64) -> Result<Decoder<Cursor<&'a [u8]>>> {
    if let Some((tag, count)) = too_long(bytes) {
        return Err(Error::data(path, format!("tag {tag} claims a list of {count}, over the limit of {MAX_LIST}")));
    }
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    let decoder = Decoder::new(Cursor::new(bytes)).map_err(|e| Error::data(path, e.to_string()))?;
    Ok(decoder.with_limits(limits))
}

/// The first of `LISTS` in the first directory that is too long: (tag, count). The reader would take 32 bytes for each
/// value, whatever its limits. What is broken is left for the reader to name.
fn too_long(bytes: &[u8]) -> Option<(u16, u64)> {
    let little = bytes.first() == Some(&b'I');
    let number = |at: usize, size: usize| {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        let join = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        Some(if little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) })
    };
    // Sizes of a directory's count, of an entry, and of an entry's count; in a BigTIFF, then in a TIFF.
    let (start, count_size, entry_size, size) =
        if number(2, 2)? == 43 { (number(8, 8)?, 8, 20, 8) } else { (number(4, 4)?, 2, 12, 4) };
    let start = usize::try_from(start).ok()?;
    let entries = number(start, count_size)?;
    (0..usize::try_from(entries).ok()?)
        .map_while(|n| {
            let at = start.checked_add(count_size)?.checked_add(n.checked_mul(entry_size)?)?;
            Some((number(at, 2)? as u16, number(at.checked_add(4)?, size)?))
        })
        .find(|(tag, count)| LISTS.contains(tag) && *count > MAX_LIST)
}

/// The size and kind of the image.
pub fn header(path: &Path, bytes: &[u8], max_bytes: u64) -> Result<Header> {
    let mut decoder = open(path, bytes, max_bytes)?;
    let bad = |e: tiff::TiffError| Error::data(path, e.to_string());
    let (width, height) = decoder.dimensions().map_err(bad)?;
    let bands: u16 = decoder.find_tag_unsigned(Tag::SamplesPerPixel).map_err(bad)?.unwrap_or(1);
    let bits: Vec<u16> = decoder.find_tag_unsigned_vec(Tag::BitsPerSample).map_err(bad)?.unwrap_or_else(|| vec![1]);
    let format: Vec<u16> = decoder.find_tag_unsigned_vec(Tag::SampleFormat).map_err(bad)?.unwrap_or_else(|| vec![1]);
    let depth = bits.first().copied().unwrap_or(0);
    if !matches!(depth, 8 | 16) || bits.iter().any(|&b| b != depth) || format.iter().any(|&f| f != 1) {
        return Err(Error::data(
            path,
            format!("samples of {bits:?} bits, format {format:?}: only uint8 and uint16 are read"),
        ));
    }
    let bits = depth as u8;
    Ok(Header { width, height, bands, bits, bytes: sample_bytes(width, height, bands, bits), turn: Turn::of(1) })
}

/// The wanted rectangle, which lies within the image. Its pixels and one strip or tile take no more than `max_bytes`.
pub fn decode(path: &Path, bytes: &[u8], rect: Rect, bands: u16, bits: u8, max_bytes: u64) -> Result<Raster> {
    let room = max_bytes.saturating_sub(sample_bytes(rect.width, rect.height, bands, bits));
    let mut decoder = open(path, bytes, room)?;
    let bad = |e: tiff::TiffError| match e {
        tiff::TiffError::LimitsExceeded => Error::data(
            path,
            format!("a strip or tile takes more than the {} MiB that are left of the limit", room >> 20),
        ),
        e => Error::data(path, format!("the TIFF is broken or cut short: {e}")),
    };
    let (width, height) = decoder.dimensions().map_err(bad)?;
    let planar = decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration).map_err(bad)?.unwrap_or(1) == 2;
    let (chunk_w, chunk_h) = decoder.chunk_dimensions();
    if chunk_w == 0 || chunk_h == 0 {
        return Err(Error::data(path, "strips or tiles of no size"));
    }
    let (across, down) = (width.div_ceil(chunk_w), height.div_ceil(chunk_h));
    let (planes, per_pixel) = if planar { (usize::from(bands), 1) } else { (1, usize::from(bands)) };
    let count = rect.width as usize * rect.height as usize * usize::from(bands);
    let mut out: Option<Samples> = None;
    for plane in 0..planes {
        for row in rect.y / chunk_h..(rect.y + rect.height).div_ceil(chunk_h) {
            for column in rect.x / chunk_w..(rect.x + rect.width).div_ceil(chunk_w) {
                let number = (plane as u32 * down + row) * across + column;
                let (data_w, data_h) = decoder.chunk_data_dimensions(number);
                let part = Part {
                    origin: (column * chunk_w, row * chunk_h),
                    size: (data_w, data_h),
                    per_pixel,
                    bands: usize::from(bands),
                    band: plane,
                };
                match (decoder.read_chunk(number).map_err(bad)?, out.as_mut()) {
                    (DecodingResult::U8(from), None) => {
                        let mut to = vec![0; count];
                        part.copy(path, &from, &mut to, rect)?;
                        out = Some(Samples::U8(to));
                    }
                    (DecodingResult::U16(from), None) => {
                        let mut to = vec![0; count];
                        part.copy(path, &from, &mut to, rect)?;
                        out = Some(Samples::U16(to));
                    }
                    (DecodingResult::U8(from), Some(Samples::U8(to))) => part.copy(path, &from, to, rect)?,
                    (DecodingResult::U16(from), Some(Samples::U16(to))) => part.copy(path, &from, to, rect)?,
                    _ => return Err(Error::data(path, "samples that are neither uint8 nor uint16")),
                }
            }
        }
    }
    let samples = out.ok_or_else(|| Error::data(path, "no strips or tiles"))?;
    Ok(Raster::new(rect, bands, samples))
}

/// Where a decoded strip or tile lies in the image.
struct Part {
    origin: (u32, u32),
    size: (u32, u32),
    per_pixel: usize,
    bands: usize,
    band: usize,
}

impl Part {
    /// Copies what lies under `rect` from the chunk to the output.
    fn copy<T: Copy>(&self, path: &Path, from: &[T], to: &mut [T], rect: Rect) -> Result<()> {
        let (x0, y0) = (rect.x.max(self.origin.0), rect.y.max(self.origin.1));
        let x1 = (rect.x + rect.width).min(self.origin.0 + self.size.0);
        let y1 = (rect.y + rect.height).min(self.origin.1 + self.size.1);
        if from.len() < self.size.0 as usize * self.size.1 as usize * self.per_pixel {
            return Err(Error::data(path, "a strip or tile holds fewer samples than the header says"));
        }
        for y in y0..y1 {
            let source =
                ((y - self.origin.1) as usize * self.size.0 as usize + (x0 - self.origin.0) as usize) * self.per_pixel;
            let target = ((y - rect.y) as usize * rect.width as usize + (x0 - rect.x) as usize) * self.bands;
            let pixels = x1.saturating_sub(x0) as usize;
            if self.per_pixel == self.bands {
                let n = pixels * self.bands;
                to[target..target + n].copy_from_slice(&from[source..source + n]);
            } else {
                for i in 0..pixels {
                    to[target + i * self.bands + self.band] = from[source + i];
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A directory of one list of `count`.
    fn directory(big: bool, little: bool, tag: u16, count: u64) -> Vec<u8> {
        let number = |value: u64, size: usize| {
            let bytes = value.to_be_bytes()[8 - size..].to_vec();
            if little { bytes.into_iter().rev().collect() } else { bytes }
        };
        let parts = if big {
            vec![(43, 2), (8, 2), (0, 2), (16, 8), (1, 8), (u64::from(tag), 2), (4, 2), (count, 8), (0, 8)]
        } else {
            vec![(42, 2), (8, 4), (1, 2), (u64::from(tag), 2), (4, 2), (count, 4), (0, 4)]
        };
        let head = if little { b"II" } else { b"MM" };
        parts.into_iter().fold(head.to_vec(), |bytes, (value, size)| [bytes, number(value, size)].concat())
    }

    #[test]
    fn long_lists_are_refused() {
        for (big, little) in [(false, false), (false, true), (true, false), (true, true)] {
            assert_eq!(too_long(&directory(big, little, 273, MAX_LIST)), None);
            assert_eq!(too_long(&directory(big, little, 273, MAX_LIST + 1)), Some((273, MAX_LIST + 1)));
            assert_eq!(too_long(&directory(big, little, 700, MAX_LIST + 1)), None, "not read");
        }
        let error = header(Path::new("a.tif"), &directory(false, true, 324, 1 << 30), 1 << 20).err().unwrap();
        assert_eq!(error.to_string(), "a.tif: tag 324 claims a list of 1073741824, over the limit of 262144");
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..80), big: bool, little: bool) {
            too_long(&bytes);
            let mut start = directory(big, little, 273, 9);
            start.truncate(8);
            too_long(&[start, bytes].concat());
        }
    }
}
