//! Images whose bands lie apart: some rows of all of them are decoded band by band, and then put together while they are
//! in the processor's cache.

use super::assemble::{Blocks, Output, Part};
use super::layout::Layout;
use super::rows::{Pick, Pixels};
use crate::Result;
use crate::crop::Rect;
use crate::decode::Samples;

/// Bytes of the rows that are put together at a time, or as many as a row of blocks takes.
const TOGETHER: u64 = 256 << 10;

/// Rows of blocks of a part that are decoded together: `bytes` is what a row of pixels takes.
fn rows_together(layout: &Layout, bytes: u64) -> u32 {
    let rows = u32::try_from(TOGETHER / bytes.max(1)).unwrap_or(u32::MAX);
    (rows / layout.block.1).max(1).saturating_mul(layout.block.1)
}

/// Bytes that the bands of a part take while they are apart.
pub fn held(layout: &Layout, rect: Rect, row_bytes: u64) -> u64 {
    let rows = if layout.planar { rows_together(layout, row_bytes).min(rect.height) } else { 0 };
    row_bytes.saturating_mul(rows.into())
}

/// Decodes the part to `out`.
pub fn decode(part: &Part<'_>, blocks: &mut Blocks, out: &mut Output<'_>) -> Result<()> {
    let (size, empty) = match &out.samples {
        Pixels::U8(_) => (1, Samples::U8(Vec::new())),
        Pixels::U16(_) => (2, Samples::U16(Vec::new())),
        Pixels::F32(_) => (4, Samples::F32(Vec::new())),
    };
    let width = part.rect.width as usize;
    let rows = rows_together(part.layout, (width * part.picks.len() * size) as u64);
    let mut planes = blocks.planes.take().filter(|planes| planes.bits() == empty.bits()).unwrap_or(empty);
    let end = part.rect.y + part.rect.height;
    let mut y = part.rect.y;
    while y < end {
        let to = (y / rows).saturating_add(1).saturating_mul(rows).min(end);
        let rect = Rect { y, height: to - y, ..part.rect };
        let count = width * rect.height as usize;
        let start = width * (y - part.rect.y) as usize;
        resize(&mut planes, count * part.picks.len());
        for (n, pick) in part.picks.iter().enumerate() {
            let one = [Pick { from: pick.from, to: Some(0) }];
            let samples = slice(&mut planes, n * count, count);
            let plane = Part { rect, picks: &one, ..*part };
            plane.plane(pick.from, blocks, &mut Output { samples, bands: 1, mask: &mut [] })?;
        }
        match (&planes, &mut out.samples) {
            (Samples::U8(planes), Pixels::U8(to)) => {
                together(planes, count, start, part.picks, out.bands, to, out.mask);
            }
            (Samples::U16(planes), Pixels::U16(to)) => {
                together(planes, count, start, part.picks, out.bands, to, out.mask);
            }
            (Samples::F32(planes), Pixels::F32(to)) => {
                together(planes, count, start, part.picks, out.bands, to, out.mask);
            }
            // They were made of the same kind.
            _ => {}
        }
        y = to;
    }
    blocks.planes = Some(planes);
    Ok(())
}

fn resize(samples: &mut Samples, count: usize) {
    match samples {
        Samples::U8(values) => values.resize(count, 0),
        Samples::U16(values) => values.resize(count, 0),
        Samples::F32(values) => values.resize(count, 0.0),
    }
}

fn slice(samples: &mut Samples, start: usize, count: usize) -> Pixels<'_> {
    match samples {
        Samples::U8(values) => Pixels::U8(&mut values[start..start + count]),
        Samples::U16(values) => Pixels::U16(&mut values[start..start + count]),
        Samples::F32(values) => Pixels::F32(&mut values[start..start + count]),
    }
}

/// Puts `count` pixels together, whose bands stand one after the other in `planes`, from pixel `start` of `out` on.
fn together<T: Copy + Default + PartialEq>(
    planes: &[T],
    count: usize,
    start: usize,
    picks: &[Pick],
    bands: usize,
    out: &mut [T],
    mask: &mut [u8],
) {
    let out = &mut out[start * bands..(start + count) * bands];
    let in_order = picks.iter().enumerate().take(bands).all(|(n, pick)| pick.to == Some(n)) && picks.len() >= bands;
    match bands {
        2 if in_order => fixed::<2, T>(planes, count, out),
        3 if in_order => fixed::<3, T>(planes, count, out),
        4 if in_order => fixed::<4, T>(planes, count, out),
        6 if in_order => fixed::<6, T>(planes, count, out),
        8 if in_order => fixed::<8, T>(planes, count, out),
        10 if in_order => fixed::<10, T>(planes, count, out),
        12 if in_order => fixed::<12, T>(planes, count, out),
        13 if in_order => fixed::<13, T>(planes, count, out),
        _ => {
            for (pick, plane) in picks.iter().zip(planes.chunks_exact(count)) {
                if let Some(band) = pick.to {
                    out[band..].iter_mut().step_by(bands).zip(plane).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
    for (_, plane) in picks.iter().zip(planes.chunks_exact(count)).filter(|(pick, _)| pick.to.is_none()) {
        for (valid, alpha) in mask[start..start + count].iter_mut().zip(plane) {
            *valid = u8::from(*alpha != T::default());
        }
    }
}

/// Bands in their order, some pixels at a time.
fn fixed<const N: usize, T: Copy + Default>(planes: &[T], count: usize, out: &mut [T]) {
    const STEP: usize = 8;
    let planes: [&[T]; N] = std::array::from_fn(|n| &planes[n * count..(n + 1) * count]);
    let (chunks, rest) = out.as_chunks_mut::<N>().0.as_chunks_mut::<STEP>();
    for (i, chunk) in chunks.iter_mut().enumerate() {
        for (n, plane) in planes.iter().enumerate() {
            for (pixel, value) in chunk.iter_mut().zip(&plane[i * STEP..(i + 1) * STEP]) {
                pixel[n] = *value;
            }
        }
    }
    let done = count - rest.len();
    for (i, pixel) in rest.iter_mut().enumerate() {
        for (value, plane) in pixel.iter_mut().zip(&planes) {
            *value = plane[done + i];
        }
    }
}
