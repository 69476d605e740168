//! PNG: gray and palette become RGB, alpha is dropped, sixteen bits stay.

use std::io::Cursor;
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Transformations};

use super::{Raster, Samples};
use crate::crop::Rect;
use crate::{Error, Result};

fn reader<'a>(path: &Path, bytes: &'a [u8]) -> Result<png::Reader<Cursor<&'a [u8]>>> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::EXPAND);
    decoder.read_info().map_err(|e| Error::data(path, e.to_string()))
}

/// (width, height, bands, bits).
pub fn header(path: &Path, bytes: &[u8]) -> Result<(u32, u32, u16, u8)> {
    let reader = reader(path, bytes)?;
    let (_, depth) = reader.output_color_type();
    Ok((reader.info().width, reader.info().height, 3, if depth == BitDepth::Sixteen { 16 } else { 8 }))
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
        let wide: Vec<u16> = raw.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
        Samples::U16(rgb(&wide, color))
    } else {
        Samples::U8(rgb(&raw, color))
    };
    Ok(Raster { rect: Rect { x: 0, y: 0, width, height }, bands, samples })
}

fn rgb<T: Copy>(samples: &[T], color: ColorType) -> Vec<T> {
    match color {
        ColorType::Grayscale => samples.iter().flat_map(|&v| [v; 3]).collect(),
        ColorType::GrayscaleAlpha => samples.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        ColorType::Rgba => samples.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::Rgb | ColorType::Indexed => samples.to_vec(),
    }
}
