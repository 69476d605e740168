//! JPEG through libjpeg-turbo, always to RGB.

use std::ffi::CStr;
use std::path::Path;

use turbojpeg::raw;

use super::{Raster, Samples};
use crate::crop::Rect;
use crate::{Error, Result};

/// Progressive files with more scans than this are refused: each scan costs a pass over the whole image.
const MAX_SCANS: i32 = 100;

/// A decompressor; it keeps its buffers from image to image.
#[derive(Default)]
pub struct Jpeg {
    handle: Option<Handle>,
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

    /// The whole image, RGB. `size` is the header's, which has been held against the limits.
    pub fn decode(&mut self, path: &Path, bytes: &[u8], size: (u32, u32)) -> Result<Raster> {
        // The header is read again here, as another image may have been looked at in between.
        let (width, height, ..) = self.header(path, bytes)?;
        if (width, height) != size {
            return Err(Error::data(path, "changed while it was read"));
        }
        let handle = self.handle()?;
        // SAFETY: the handle is valid and holds a header.
        let space = unsafe { raw::tj3Get(handle, raw::TJPARAM_TJPARAM_COLORSPACE as libc::c_int) };
        let four = [raw::TJCS_TJCS_CMYK as libc::c_int, raw::TJCS_TJCS_YCCK as libc::c_int].contains(&space);
        let (format, channels) = if four { (raw::TJPF_TJPF_CMYK, 4) } else { (raw::TJPF_TJPF_RGB, 3) };
        let mut samples = vec![0u8; width as usize * height as usize * channels];
        // SAFETY: `samples` holds height rows of width * channels bytes, which is what a pitch of 0 means.
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
        Ok(Raster { rect: Rect { x: 0, y: 0, width, height }, bands: 3, samples: Samples::U8(samples) })
    }
}

/// Adobe's CMYK is stored inverted, so that a channel times black is the light that is left.
fn rgb_from_cmyk(cmyk: &[u8]) -> Vec<u8> {
    let light = |ink: u8, black: u8| ((u16::from(ink) * u16::from(black) + 127) / 255) as u8;
    cmyk.chunks_exact(4).flat_map(|p| [light(p[0], p[3]), light(p[1], p[3]), light(p[2], p[3])]).collect()
}

fn check(path: &Path, handle: raw::tjhandle, code: libc::c_int) -> Result<()> {
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
