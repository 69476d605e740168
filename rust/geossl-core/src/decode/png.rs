//! PNG: gray and palette become RGB, alpha is dropped, sixteen bits stay.

use std::io::Cursor;
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::exif::Turn;
use super::{Header, Raster, Samples, sample_bytes};
use crate::crop::Rect;
use crate::{Error, Result};

/// Most bytes of a row, and of what stands beside the pixels.
const MAX_SMALL_BYTES: usize = 16 << 20;

fn reader<'a>(path: &Path, bytes: &'a [u8]) -> Result<png::Reader<Cursor<&'a [u8]>>> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_SMALL_BYTES });
    decoder.set_transformations(Transformations::EXPAND);
    // Texts and profiles are not wanted, and can unpack to far more than they are.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.read_info().map_err(|e| Error::data(path, e.to_string()))
}

/// The size and kind of the image.
pub fn header(path: &Path, bytes: &[u8]) -> Result<Header> {
    let reader = reader(path, bytes)?;
    let (color, depth) = reader.output_color_type();
    let (width, height) = (reader.info().width, reader.info().height);
    let bits = if depth == BitDepth::Sixteen { 16 } else { 8 };
    let decoded = sample_bytes(width, height, 3, bits);
    // What is no 8-bit RGB is held twice: as stored and as wanted.
    let stored = if (color, bits) == (ColorType::Rgb, 8) { 0 } else { decoded / 3 * color.samples() as u64 };
    Ok(Header { width, height, bands: 3, bits, bytes: decoded.saturating_add(stored), turn: Turn::of(1) })
}

/// The whole image.
pub fn decode(path: &Path, bytes: &[u8], bands: u16) -> Result<Raster> {
    let mut reader = reader(path, bytes)?;
    let (color, depth) = reader.output_color_type();
    let size = reader.output_buffer_size().ok_or_else(|| Error::data(path, "too large"))?;
    let mut raw = vec![0; size];
    reader.next_frame(&mut raw).map_err(|e| Error::data(path, format!("the PNG is broken or cut short: {e}")))?;
    let (width, height) = (reader.info().width, reader.info().height);
    let samples = if depth == BitDepth::Sixteen {
        Samples::U16(rgb(raw.as_chunks().0, color, u16::from_be_bytes))
    } else if color == ColorType::Rgb {
        Samples::U8(raw)
    } else {
        Samples::U8(rgb(&raw, color, |v| v))
    };
    Ok(Raster::new(Rect { x: 0, y: 0, width, height }, bands, samples))
}

/// Samples of any kind as RGB ones; `read` makes a sample of a stored one.
fn rgb<S: Copy, T: Copy>(stored: &[S], color: ColorType, read: impl Fn(S) -> T) -> Vec<T> {
    let step = color.samples();
    let from: [usize; 3] = if step < 3 { [0, 0, 0] } else { [0, 1, 2] };
    let mut out = Vec::with_capacity(stored.len() / step * 3);
    for pixel in stored.chunks_exact(step) {
        out.extend(from.map(|band| read(pixel[band])));
    }
    out
}
