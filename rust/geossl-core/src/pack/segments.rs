//! JPEG in pieces: a scan cut by restart markers into segments that start anew, and a JPEG made of some of them.
//!
//! Within a scan every value is coded as a difference from, or at an unknown bit after, the one before, so that
//! nothing can be left out; after a restart marker it starts anew. With a marker after the same number of blocks in
//! every row, the segments form a grid, and any rectangle of them is the scan of a smaller image.

use std::path::Path;

use turbojpeg::raw;

use super::record::{Codec, Kind, NoData, Record, Units};
use crate::decode::markers::{self, Markers};
use crate::decode::turbo::Turbo;
use crate::{Error, Result};

/// Widest segment, pixels: wide enough that the marker costs little, narrow enough that a crop fits closely.
const WIDEST: u32 = 192;

/// Frame of a JPEG.
struct Frame {
    size: (u32, u32),
    /// Pixels of the blocks (iMCUs) that a scan is made of.
    block: (u32, u32),
}

/// None if the file is not a JPEG of the usual form.
fn frame(jpeg: &[u8], markers: &Markers) -> Option<Frame> {
    let side = |at: usize| {
        let bytes = jpeg.get(markers.frame + at..markers.frame + at + 2)?;
        Some(u32::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    };
    let block = markers.block.filter(|_| markers.frame > 0 && markers.scan > 0 && !markers.lossless)?;
    Some(Frame { size: (side(3)?, side(1)?), block })
}

/// Pixels of a segment: the widest that divides the row of blocks evenly, as all segments of a scan are equal.
fn segment_width(frame: &Frame) -> u32 {
    let across = frame.size.0.div_ceil(frame.block.0).max(1);
    let blocks = (1..=across).rev().find(|n| across.is_multiple_of(*n) && (n * frame.block.0 <= WIDEST || *n == 1));
    blocks.unwrap_or(1) * frame.block.0
}

/// Makes the segments of whole files.
pub struct Transcoder {
    transformer: Turbo,
    compressor: Turbo,
}

/// Bytes that libjpeg-turbo allocated.
struct Output {
    data: *mut u8,
    len: raw::size_t,
}

impl Output {
    fn bytes(&self) -> &[u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: libjpeg-turbo wrote `len` bytes there.
        unsafe { std::slice::from_raw_parts(self.data, self.len as usize) }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: the memory is libjpeg-turbo's, or null.
        unsafe { raw::tj3Free(self.data.cast()) };
    }
}

impl Default for Transcoder {
    fn default() -> Self {
        Self {
            transformer: Turbo::new(raw::TJINIT_TJINIT_TRANSFORM),
            compressor: Turbo::new(raw::TJINIT_TJINIT_COMPRESS),
        }
    }
}

impl Transcoder {
    /// The record of a JPEG file: its very coefficients, in segments. None where the file's form does not allow it
    /// (its pixels can still be packed). Fails if the file is broken.
    pub fn transcode(&mut self, path: &Path, jpeg: &[u8]) -> Result<Option<Vec<u8>>> {
        let markers = Markers::read(jpeg);
        if !markers::ends(jpeg, markers.data) {
            return Err(Error::data(path, "the JPEG is cut short (it has no end-of-image marker)"));
        }
        let Some(found) = frame(jpeg, &markers) else { return Ok(None) };
        let turbo = &mut self.transformer;
        turbo.set(path, raw::TJPARAM_TJPARAM_OPTIMIZE, 1)?;
        turbo.set(path, raw::TJPARAM_TJPARAM_RESTARTBLOCKS, (segment_width(&found) / found.block.0) as i32)?;
        let handle = turbo.get()?;
        // SAFETY: all zero is a transform that changes nothing: no crop, no filter, a baseline JPEG.
        let mut transform: raw::tjtransform = unsafe { std::mem::zeroed() };
        transform.options = raw::TJXOPT_COPYNONE as libc::c_int;
        let mut out = Output { data: std::ptr::null_mut(), len: 0 };
        // SAFETY: `jpeg` outlives the call; `out` is null, so that libjpeg-turbo allocates, and frees it when dropped.
        let code = unsafe {
            raw::tj3Transform(
                handle,
                jpeg.as_ptr(),
                jpeg.len() as raw::size_t,
                1,
                &raw mut out.data,
                &raw mut out.len,
                &raw const transform,
            )
        };
        turbo.check(path, code)?;
        record(out.bytes(), markers.orientation)
    }

    /// The record of 8-bit RGB samples, compressed with `quality` (1 to 100) and chroma at half the resolution.
    pub fn compress(&mut self, path: &Path, rgb: &[u8], size: (u32, u32), quality: u8) -> Result<Vec<u8>> {
        let turbo = &mut self.compressor;
        let wanted = Frame { size, block: (16, 16) };
        turbo.set(path, raw::TJPARAM_TJPARAM_QUALITY, i32::from(quality))?;
        turbo.set(path, raw::TJPARAM_TJPARAM_SUBSAMP, raw::TJSAMP_TJSAMP_420)?;
        turbo.set(path, raw::TJPARAM_TJPARAM_OPTIMIZE, 1)?;
        turbo.set(path, raw::TJPARAM_TJPARAM_RESTARTBLOCKS, (segment_width(&wanted) / wanted.block.0) as i32)?;
        let handle = turbo.get()?;
        if rgb.len() != size.0 as usize * size.1 as usize * 3 {
            return Err(Error::Internal("samples of another size".into()));
        }
        let mut out = Output { data: std::ptr::null_mut(), len: 0 };
        // SAFETY: `rgb` holds rows of width * 3 bytes, which is what a pitch of 0 means; `out` as above.
        let code = unsafe {
            raw::tj3Compress8(
                handle,
                rgb.as_ptr(),
                size.0 as libc::c_int,
                0,
                size.1 as libc::c_int,
                raw::TJPF_TJPF_RGB as libc::c_int,
                &raw mut out.data,
                &raw mut out.len,
            )
        };
        turbo.check(path, code)?;
        record(out.bytes(), 1)?.ok_or_else(|| Error::data(path, "too large for a JPEG"))
    }
}

/// Cuts a JPEG at its restart markers. None if they do not make a grid.
fn record(jpeg: &[u8], orientation: u8) -> Result<Option<Vec<u8>>> {
    let markers = Markers::read(jpeg);
    let cut = frame(jpeg, &markers).and_then(|frame| {
        let (mut segments, mut start) = (Vec::new(), markers.scan);
        let mut at = start;
        loop {
            at += jpeg.get(at..)?.iter().position(|&byte| byte == 0xFF)?;
            match jpeg.get(at + 1)? {
                0 => at += 2,
                0xD0..=0xD7 => {
                    segments.push(jpeg.get(start..at)?);
                    at += 2;
                    start = at;
                }
                0xD9 => {
                    segments.push(jpeg.get(start..at)?);
                    break;
                }
                _ => return None,
            }
        }
        Some((frame, segments))
    });
    let Some((frame, segments)) = cut else { return Ok(None) };
    let unit = (segment_width(&frame), frame.block.1);
    let kind =
        Kind { codec: Codec::Jpeg, size: frame.size, unit, bands: 3, bits: 8, nodata: NoData::Unsaid, orientation };
    let (columns, rows) = kind.grid();
    let fits = segments.iter().all(|segment| u16::try_from(segment.len()).is_ok());
    if !fits || segments.len() as u64 != u64::from(columns) * u64::from(rows) {
        return Ok(None);
    }
    super::record::encode(&kind, &jpeg[..markers.scan], &segments).map(Some)
}

/// Writes the JPEG of the wanted segments to `out`. Returns the bytes that were looked at.
pub fn stitch(path: &Path, record: &Record<'_>, wanted: Units, out: &mut Vec<u8>) -> Result<u64> {
    out.clear();
    out.extend(record.tables);
    let size = record.kind.rect(wanted);
    let at = Markers::read(record.tables).frame;
    let broken = || Error::data(path, "its JPEG tables in the pack are broken");
    let sides = out.get_mut(at + 1..at + 5).filter(|_| at > 0).ok_or_else(broken)?;
    sides[..2].copy_from_slice(&(size.height as u16).to_be_bytes());
    sides[2..].copy_from_slice(&(size.width as u16).to_be_bytes());
    let mut number = 0u8;
    let looked_at = record.each(path, wanted, |column, row, segment| {
        if (column, row) != (wanted.columns.0, wanted.rows.0) {
            out.extend([0xFF, 0xD0 | number]);
            number = (number + 1) & 7;
        }
        out.extend(segment);
        Ok(())
    })?;
    out.extend([0xFF, 0xD9]);
    Ok(looked_at)
}
