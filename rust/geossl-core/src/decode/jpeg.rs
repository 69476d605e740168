//! JPEG through libjpeg-turbo, always to RGB, and only as much of it as is wanted.

use std::path::Path;

use turbojpeg::raw;

use super::exif::Turn;
use super::markers::{self, Markers};
use super::turbo::Turbo;
use super::{Header, Raster, Samples, sample_bytes};
use crate::crop::Rect;
use crate::{Error, Result};

/// Pixels around a crop that have to be decoded with it, so that it comes out as in the whole image: a sample of chroma,
/// which covers at most four pixels.
pub const MARGIN: u32 = 4;

/// A decompressor; it keeps its buffers from image to image.
pub struct Jpeg {
    turbo: Turbo,
    /// Memory of an earlier image, for the next one.
    pub spare: Vec<u8>,
    /// Bytes that decoding an image may take, its pixels and what libjpeg-turbo holds together; 0 is no limit.
    pub max_bytes: u64,
}

impl Default for Jpeg {
    fn default() -> Self {
        Self { turbo: Turbo::new(raw::TJINIT_TJINIT_DECOMPRESS), spare: Vec::new(), max_bytes: 0 }
    }
}

/// The largest of libjpeg-turbo's scales, 1 / 8, 1 / 4, 1 / 2 or 1, that is no smaller than 1 / `shrink`.
pub fn scale(shrink: u32) -> u32 {
    [8, 4, 2].into_iter().find(|&scale| scale <= shrink).unwrap_or(1)
}

impl Jpeg {
    /// The size of the image as it is stored, and how it is turned upright.
    pub fn header(&mut self, path: &Path, bytes: &[u8]) -> Result<Header> {
        let stored = self.stored(path, bytes)?;
        let (width, height) = stored.size;
        let turn = Turn::of(Markers::read(bytes).orientation);
        let copy = if turn.is_none() { 0 } else { sample_bytes(width, height, 3, 8) };
        let bytes = sample_bytes(width, height, stored.channels, 8) + copy;
        Ok(Header { width, height, bands: 3, bits: 8, bytes, turn })
    }

    fn stored(&mut self, path: &Path, bytes: &[u8]) -> Result<Stored> {
        let handle = self.turbo.get()?;
        // SAFETY: the pointer and length describe `bytes`, which outlives the call.
        let code = unsafe { raw::tj3DecompressHeader(handle, bytes.as_ptr(), bytes.len() as raw::size_t) };
        self.turbo.check(path, code)?;
        let get = |param: raw::TJPARAM| {
            // SAFETY: the handle is valid and holds a header.
            unsafe { raw::tj3Get(handle, param as libc::c_int) }
        };
        let bits = get(raw::TJPARAM_TJPARAM_PRECISION);
        if bits != 8 {
            return Err(Error::data(path, format!("a JPEG of {bits} bits a sample: only 8 are read")));
        }
        let side = |param| u32::try_from(get(param)).unwrap_or(0);
        let space = get(raw::TJPARAM_TJPARAM_COLORSPACE);
        let four = [raw::TJCS_TJCS_CMYK as libc::c_int, raw::TJCS_TJCS_YCCK as libc::c_int].contains(&space);
        let usual = get(raw::TJPARAM_TJPARAM_SUBSAMP) != raw::TJSAMP_TJSAMP_UNKNOWN as libc::c_int;
        Ok(Stored {
            size: (side(raw::TJPARAM_TJPARAM_JPEGWIDTH), side(raw::TJPARAM_TJPARAM_JPEGHEIGHT)),
            channels: if four { 4 } else { 3 },
            lossless: get(raw::TJPARAM_TJPARAM_LOSSLESS) != 0,
            usual,
        })
    }

    /// At least `rect` of the image, RGB, at 1 / `shrink` of its size: 1 for the very pixels of a full decode, or 2, 4
    /// or 8, where libjpeg-turbo leaves frequencies out. `size` is the header's, which has been held against the
    /// limits. Everything is in stored pixels: EXIF's orientation is the caller's.
    pub fn decode(&mut self, path: &Path, bytes: &[u8], size: (u32, u32), rect: Rect, shrink: u32) -> Result<Raster> {
        // The header is read again here, as another image may have been looked at in between; beside a decode it costs
        // nothing.
        let stored = self.stored(path, bytes)?;
        if stored.size != size {
            return Err(Error::data(path, "changed while it was read"));
        }
        let markers = Markers::read(bytes);
        if !markers::ends(bytes, markers.data) {
            return Err(Error::data(path, "the JPEG is cut short (it has no end-of-image marker)"));
        }
        // A lossless JPEG has no blocks, and unusual sampling factors are not cropped.
        let block = markers.block.filter(|_| stored.usual && !stored.lossless);
        let shrink = if stored.lossless { 1 } else { shrink };
        let rect = covering(rect, size, block, shrink);
        let (width, height) = rect.shrunk(shrink);
        let pixels = width as usize * height as usize;
        let channels = usize::from(stored.channels);
        self.set_up(path, size, rect, shrink, (pixels * channels) as u64)?;
        let handle = self.turbo.get()?;
        let mut samples = std::mem::take(&mut self.spare);
        // What the memory held before is overwritten: a decode that ends early is an error.
        samples.resize(pixels * channels, 0);
        let format = if channels == 4 { raw::TJPF_TJPF_CMYK } else { raw::TJPF_TJPF_RGB };
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
        self.turbo.check(path, code)?;
        if channels == 4 {
            rgb_from_cmyk(&mut samples);
        }
        Ok(Raster { shrink, ..Raster::new(rect, 3, Samples::U8(samples)) })
    }

    /// Tells libjpeg-turbo what to decode, and how much memory is left for that beside `raster_bytes`.
    fn set_up(&mut self, path: &Path, size: (u32, u32), rect: Rect, shrink: u32, raster_bytes: u64) -> Result<()> {
        let handle = self.turbo.get()?;
        let side = |pixels: u32| pixels as libc::c_int;
        let scale = raw::tjscalingfactor { num: 1, denom: side(shrink) };
        // SAFETY: the handle is valid; a factor that it does not know is an error.
        let code = unsafe { raw::tj3SetScalingFactor(handle, scale) };
        self.turbo.check(path, code)?;
        let region = if (rect.width, rect.height) == size {
            // Asking for everything also takes back what was asked of an earlier image.
            raw::tjregion { x: 0, y: 0, w: 0, h: 0 }
        } else {
            let (width, height) = rect.shrunk(shrink);
            raw::tjregion { x: side(rect.x / shrink), y: side(rect.y / shrink), w: side(width), h: side(height) }
        };
        // SAFETY: the handle is valid and holds a header; a region that it does not take is an error.
        let code = unsafe { raw::tj3SetCroppingRegion(handle, region) };
        self.turbo.check(path, code)?;
        // A JPEG of several scans has all its coefficients held, 2 bytes each. 0 would be no limit.
        let room = match self.max_bytes {
            0 => 0,
            max => i32::try_from(max.saturating_sub(raster_bytes) >> 20).unwrap_or(i32::MAX).max(1),
        };
        self.turbo.set(path, raw::TJPARAM_TJPARAM_MAXMEMORY, room)
    }
}

/// What libjpeg-turbo says of a JPEG.
struct Stored {
    size: (u32, u32),
    /// Channels as libjpeg-turbo gives them: four of CMYK, else three.
    channels: u16,
    lossless: bool,
    /// Whether libjpeg-turbo has a name for the sampling factors, and with it a way to crop.
    usual: bool,
}

/// `rect` and a margin, from the edge of a block: the upsampling of chroma looks one sample of it to each side, and at
/// the edge of what is decoded it would see something else than in the whole image.
fn covering(rect: Rect, image: (u32, u32), block: Option<(u32, u32)>, shrink: u32) -> Rect {
    let Some((block_w, block_h)) = block else {
        return Rect { x: 0, y: 0, width: image.0, height: image.1 };
    };
    let margin = MARGIN * shrink;
    let axis = |start: u32, length: u32, block: u32, image: u32| {
        let from = start.saturating_sub(margin) / block * block;
        let to = (start + length + margin).next_multiple_of(shrink).min(image);
        (from, to - from)
    };
    let ((x, width), (y, height)) =
        (axis(rect.x, rect.width, block_w, image.0), axis(rect.y, rect.height, block_h, image.1));
    Rect { x, y, width, height }
}

/// CMYK to RGB where it stands, as Pillow has it: stored inverted, with or without Adobe's marker, so that a channel
/// times black is the light that is left.
fn rgb_from_cmyk(samples: &mut Vec<u8>) {
    let light = |ink: u8, black: u8| {
        let product = u32::from(255 - ink) * u32::from(black) + 128;
        black - (((product >> 8) + product) >> 8) as u8
    };
    let pixels = samples.len() / 4;
    for pixel in 0..pixels {
        let [c, m, y, k] = [0, 1, 2, 3].map(|channel| samples[4 * pixel + channel]);
        samples[3 * pixel..][..3].copy_from_slice(&[light(c, k), light(m, k), light(y, k)]);
    }
    samples.truncate(3 * pixels);
}
