//! JPEG through libjpeg-turbo, always to RGB, and only as much of it as is wanted.

use std::ffi::CStr;
use std::path::Path;

use turbojpeg::raw;

use super::{Raster, Samples};
use crate::crop::Rect;
use crate::{Error, Result};

/// Progressive files with more scans than this are refused: each scan costs a pass over the whole image.
pub const MAX_SCANS: i32 = 100;

/// A decompressor; it keeps its buffers from image to image.
#[derive(Default)]
pub struct Jpeg {
    handle: Option<Handle>,
    /// Memory of an earlier image, for the next one.
    pub spare: Vec<u8>,
}

struct Handle(raw::tjhandle);

// SAFETY: a TurboJPEG handle may move between threads; only concurrent use is forbidden, and every use is `&mut`.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle came from tj3Init and is destroyed once.
        unsafe { raw::tj3Destroy(self.0) };
    }
}

impl Jpeg {
    fn handle(&mut self) -> Result<raw::tjhandle> {
        if self.handle.is_none() {
            // SAFETY: a plain constructor; null is checked.
            let handle = unsafe { raw::tj3Init(raw::TJINIT_TJINIT_DECOMPRESS as libc::c_int) };
            if handle.is_null() {
                return Err(Error::Internal("libjpeg-turbo gave no decompressor".into()));
            }
            // SAFETY: the handle is valid; an unknown parameter would only return an error.
            unsafe { raw::tj3Set(handle, raw::TJPARAM_TJPARAM_SCANLIMIT as libc::c_int, MAX_SCANS) };
            self.handle = Some(Handle(handle));
        }
        match &self.handle {
            Some(handle) => Ok(handle.0),
            None => Err(Error::Internal("libjpeg-turbo gave no decompressor".into())),
        }
    }

    /// (width, height, 3, 8).
    pub fn header(&mut self, path: &Path, bytes: &[u8]) -> Result<(u32, u32, u16, u8)> {
        let handle = self.handle()?;
        // SAFETY: the pointer and length describe `bytes`, which outlives the call.
        let code = unsafe { raw::tj3DecompressHeader(handle, bytes.as_ptr(), bytes.len() as raw::size_t) };
        check(path, handle, code)?;
        let get = |param: raw::TJPARAM| {
            // SAFETY: the handle is valid and holds a header.
            unsafe { raw::tj3Get(handle, param as libc::c_int) }
        };
        if get(raw::TJPARAM_TJPARAM_PRECISION) != 8 {
            return Err(Error::data(path, "a JPEG of more than 8 bits a sample is not read"));
        }
        let size = |param| u32::try_from(get(param)).unwrap_or(0);
        Ok((size(raw::TJPARAM_TJPARAM_JPEGWIDTH), size(raw::TJPARAM_TJPARAM_JPEGHEIGHT), 3, 8))
    }

    /// At least `rect` of the image, RGB, with the very pixels of a full decode. `size` is the header's, which has
    /// been held against the limits.
    pub fn decode(&mut self, path: &Path, bytes: &[u8], size: (u32, u32), rect: Rect) -> Result<Raster> {
        // The header is read again here, as another image may have been looked at in between.
        let (width, height, ..) = self.header(path, bytes)?;
        if (width, height) != size {
            return Err(Error::data(path, "changed while it was read"));
        }
        if !ends(bytes) {
            return Err(Error::data(path, "the JPEG is cut short (it has no end-of-image marker)"));
        }
        let handle = self.handle()?;
        // SAFETY: the handle is valid and holds a header.
        let get = |param: raw::TJPARAM| unsafe { raw::tj3Get(handle, param as libc::c_int) };
        let space = get(raw::TJPARAM_TJPARAM_COLORSPACE);
        let four = [raw::TJCS_TJCS_CMYK as libc::c_int, raw::TJCS_TJCS_YCCK as libc::c_int].contains(&space);
        let (format, channels) = if four { (raw::TJPF_TJPF_CMYK, 4) } else { (raw::TJPF_TJPF_RGB, 3) };
        let rect = covering(rect, size, block(get(raw::TJPARAM_TJPARAM_SUBSAMP)));
        let side = |pixels: u32| pixels as libc::c_int;
        let region = if (rect.width, rect.height) == size {
            // Asking for everything also takes back what was asked of an earlier image.
            raw::tjregion { x: 0, y: 0, w: 0, h: 0 }
        } else {
            raw::tjregion { x: side(rect.x), y: side(rect.y), w: side(rect.width), h: side(rect.height) }
        };
        // SAFETY: the handle is valid and holds a header; a region that it does not take is an error.
        let code = unsafe { raw::tj3SetCroppingRegion(handle, region) };
        check(path, handle, code)?;
        let mut samples = std::mem::take(&mut self.spare);
        // What the memory held before is overwritten: a decode that ends early is an error.
        samples.resize(rect.width as usize * rect.height as usize * channels, 0);
        // SAFETY: `samples` holds the region's rows of width * channels bytes, which is what a pitch of 0 means.
        let code = unsafe {
            raw::tj3Decompress8(
                handle,
                bytes.as_ptr(),
                bytes.len() as raw::size_t,
                samples.as_mut_ptr(),
                0,
                format as libc::c_int,
            )
        };
        check(path, handle, code)?;
        if four {
            samples = rgb_from_cmyk(&samples);
        }
        Ok(Raster { rect, bands: 3, samples: Samples::U8(samples) })
    }
}

/// Whether the file has its end. Bytes after the marker are common, but not many.
pub fn ends(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(1 << 16)..];
    tail.ends_with(&[0xFF, 0xD9]) || tail.windows(2).any(|pair| pair == [0xFF, 0xD9])
}

/// Size of the blocks (iMCUs) that an image of this subsampling is coded in; None where it has none of the usual.
fn block(subsampling: libc::c_int) -> Option<(u32, u32)> {
    let known = [
        (raw::TJSAMP_TJSAMP_444, (8, 8)),
        (raw::TJSAMP_TJSAMP_GRAY, (8, 8)),
        (raw::TJSAMP_TJSAMP_422, (16, 8)),
        (raw::TJSAMP_TJSAMP_420, (16, 16)),
        (raw::TJSAMP_TJSAMP_440, (8, 16)),
        (raw::TJSAMP_TJSAMP_411, (32, 8)),
        (raw::TJSAMP_TJSAMP_441, (8, 32)),
    ];
    known.into_iter().find(|(name, _)| *name as libc::c_int == subsampling).map(|(_, size)| size)
}

/// The blocks around `rect`, and one more on each side: the upsampling of chroma looks over a block's edge, and at
/// the edge of what is decoded it would see something else than in the whole image.
fn covering(rect: Rect, image: (u32, u32), block: Option<(u32, u32)>) -> Rect {
    let Some((block_w, block_h)) = block else {
        return Rect { x: 0, y: 0, width: image.0, height: image.1 };
    };
    let axis = |start: u32, length: u32, block: u32, image: u32| {
        let from = (start / block).saturating_sub(1) * block;
        let to = ((start + length).div_ceil(block) + 1).saturating_mul(block).min(image);
        (from, to - from)
    };
    let ((x, width), (y, height)) =
        (axis(rect.x, rect.width, block_w, image.0), axis(rect.y, rect.height, block_h, image.1));
    Rect { x, y, width, height }
}

/// Adobe's CMYK is stored inverted, so that a channel times black is the light that is left.
fn rgb_from_cmyk(cmyk: &[u8]) -> Vec<u8> {
    let light = |ink: u8, black: u8| ((u16::from(ink) * u16::from(black) + 127) / 255) as u8;
    cmyk.chunks_exact(4).flat_map(|p| [light(p[0], p[3]), light(p[1], p[3]), light(p[2], p[3])]).collect()
}

pub fn check(path: &Path, handle: raw::tjhandle, code: libc::c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the handle is valid; the string is the handle's, NUL-terminated, and copied before the next call.
    let message = unsafe { CStr::from_ptr(raw::tj3GetErrorStr(handle)) }.to_string_lossy().into_owned();
    // SAFETY: the handle is valid.
    let warning = unsafe { raw::tj3GetErrorCode(handle) } == raw::TJERR_TJERR_WARNING as libc::c_int;
    // Filler between markers is harmless and common; every other warning means that pixels are missing or wrong.
    if warning && message.contains("extraneous bytes before marker") {
        return Ok(());
    }
    let cut = ["Premature end", "premature end"].iter().any(|s| message.contains(s));
    Err(Error::data(path, if cut { format!("the JPEG is cut short ({message})") } else { message }))
}
