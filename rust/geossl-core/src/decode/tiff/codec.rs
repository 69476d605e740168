//! Unpacking strips and tiles.

use std::path::Path;

use libdeflater::Decompressor as Inflater;
use turbojpeg::raw;
use zstd::bulk::Decompressor as Unzstd;

use super::layout::{Compression, Layout};
use super::lzw::Lzw;
use crate::decode::turbo::Turbo;
use crate::{Error, Result};

/// Decoders that a thread keeps.
pub struct Codecs {
    inflater: Inflater,
    lzw: Lzw,
    zstd: Option<Unzstd<'static>>,
    turbo: Turbo,
    /// A JPEG with its tables, or a block that is longer than it should be.
    pub scratch: Vec<u8>,
}

impl Default for Codecs {
    fn default() -> Self {
        Self {
            inflater: Inflater::new(),
            lzw: Lzw::default(),
            zstd: None,
            turbo: Turbo::new(raw::TJINIT_TJINIT_DECOMPRESS),
            scratch: Vec::new(),
        }
    }
}

impl Codecs {
    /// Unpacks a block into `out`, all of which is written. `tables` are what the JPEGs of this file share.
    pub fn unpack(&mut self, path: &Path, layout: &Layout, tables: &[u8], packed: &[u8], out: &mut [u8]) -> Result<()> {
        let full = layout.row_bytes().saturating_mul(layout.block.1.into());
        let whole = match layout.compression {
            Compression::None => return Err(Error::Internal("nothing to unpack".into())),
            Compression::PackBits => unpack_bits(packed, out),
            Compression::Lzw => return self.lzw(path, packed, out),
            Compression::Jpeg => return self.jpeg(path, layout, tables, packed, out),
            Compression::Deflate => self.inflater.zlib_decompress(packed, out).is_ok_and(|n| n == out.len()),
            Compression::Zstd => self.zstd(path)?.decompress_to_buffer(packed, out).is_ok_and(|n| n == out.len()),
        };
        if whole {
            return Ok(());
        }
        // Some writers pack a short last strip at full length.
        if full > out.len() as u64 && matches!(layout.compression, Compression::Deflate | Compression::Zstd) {
            let mut long = std::mem::take(&mut self.scratch);
            long.resize(full as usize, 0);
            let unpacked = if layout.compression == Compression::Deflate {
                self.inflater.zlib_decompress(packed, &mut long).ok()
            } else {
                self.zstd(path)?.decompress_to_buffer(packed, &mut long).ok()
            };
            let enough = unpacked.is_some_and(|n| n >= out.len());
            if enough {
                out.copy_from_slice(&long[..out.len()]);
            }
            self.scratch = long;
            if enough {
                return Ok(());
            }
        }
        Err(broken(path))
    }

    fn zstd(&mut self, path: &Path) -> Result<&mut Unzstd<'static>> {
        if self.zstd.is_none() {
            self.zstd = Some(Unzstd::new().map_err(|e| Error::io(path, &e))?);
        }
        self.zstd.as_mut().ok_or_else(|| Error::Internal("zstd gave no decoder".into()))
    }

    fn lzw(&mut self, path: &Path, packed: &[u8], out: &mut [u8]) -> Result<()> {
        // Before TIFF 5.0 codes had another order of bits; the first one, which clears the table, tells.
        if let [0, second, ..] = packed
            && second & 1 == 1
        {
            return Err(Error::data(path, "not read here: old-style LZW compression"));
        }
        if self.lzw.unpack(packed, out) { Ok(()) } else { Err(broken(path)) }
    }

    fn jpeg(&mut self, path: &Path, layout: &Layout, tables: &[u8], packed: &[u8], out: &mut [u8]) -> Result<()> {
        let channels = layout.samples_per_block();
        let mut stream = std::mem::take(&mut self.scratch);
        whole_jpeg(&mut stream, tables, packed, layout.ycbcr());
        let decoded = self.jpeg_pixels(path, layout.block, channels, &stream, out);
        self.scratch = stream;
        decoded
    }

    fn jpeg_pixels(
        &mut self,
        path: &Path,
        block: (u32, u32),
        channels: usize,
        stream: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        let handle = self.turbo.get()?;
        // SAFETY: the pointer and length describe `stream`, which outlives the call.
        let code = unsafe { raw::tj3DecompressHeader(handle, stream.as_ptr(), stream.len() as raw::size_t) };
        self.turbo.check(path, code)?;
        let get = |param: raw::TJPARAM| {
            // SAFETY: the handle is valid and holds a header.
            unsafe { raw::tj3Get(handle, param as libc::c_int) }
        };
        let side = |param| usize::try_from(get(param)).unwrap_or(0);
        let (width, height) = (side(raw::TJPARAM_TJPARAM_JPEGWIDTH), side(raw::TJPARAM_TJPARAM_JPEGHEIGHT));
        let pitch = block.0 as usize * channels;
        // A short last strip may be packed at full length.
        if width != block.0 as usize || height * pitch < out.len() || height > block.1 as usize {
            return Err(Error::data(path, "a JPEG strip or tile of another size than the TIFF's"));
        }
        let space = get(raw::TJPARAM_TJPARAM_COLORSPACE);
        let gray = raw::TJCS_TJCS_GRAY as libc::c_int;
        let cmyk = raw::TJCS_TJCS_CMYK as libc::c_int;
        let lossless = get(raw::TJPARAM_TJPARAM_LOSSLESS) != 0;
        if get(raw::TJPARAM_TJPARAM_PRECISION) != 8 || lossless {
            return Err(Error::data(path, "not read here: JPEG compression of an unusual kind"));
        }
        let format = match channels {
            1 if space == gray => raw::TJPF_TJPF_GRAY,
            3 if space != gray && space != cmyk => raw::TJPF_TJPF_RGB,
            4 if space == cmyk => raw::TJPF_TJPF_CMYK,
            _ => return Err(Error::data(path, "a JPEG strip or tile of another number of bands than the TIFF's")),
        };
        // A JPEG of several scans has all its coefficients held: no more than the samples take four times.
        let room = i32::try_from((height * pitch) >> 18).unwrap_or(i32::MAX).max(1);
        self.turbo.set(path, raw::TJPARAM_TJPARAM_MAXMEMORY, room)?;
        let mut long = Vec::new();
        let to = if height * pitch == out.len() {
            &mut *out
        } else {
            long.resize(height * pitch, 0);
            &mut long[..]
        };
        // SAFETY: `to` holds `height` rows of width * channels bytes, which is what a pitch of 0 means.
        let code = unsafe {
            raw::tj3Decompress8(
                self.turbo.get()?,
                stream.as_ptr(),
                stream.len() as raw::size_t,
                to.as_mut_ptr(),
                0,
                format as libc::c_int,
            )
        };
        self.turbo.check(path, code)?;
        if !long.is_empty() {
            out.copy_from_slice(&long[..out.len()]);
        }
        Ok(())
    }
}

fn broken(path: &Path) -> Error {
    Error::data(path, "the TIFF is broken or cut short: a strip or tile does not unpack to its samples")
}

/// Whether the bytes filled `out`.
fn unpack_bits(mut packed: &[u8], mut out: &mut [u8]) -> bool {
    while let (false, [head, rest @ ..]) = (out.is_empty(), packed) {
        let head = *head as i8;
        if head >= 0 {
            let count = (head as usize + 1).min(out.len());
            let Some((values, rest)) = rest.split_at_checked(count) else { return false };
            let (to, next) = out.split_at_mut(count);
            to.copy_from_slice(values);
            (out, packed) = (next, rest);
        } else if head == -128 {
            packed = rest;
        } else {
            let [value, rest @ ..] = rest else { return false };
            let count = (1 - isize::from(head)) as usize;
            let (to, next) = out.split_at_mut(count.min(out.len()));
            to.fill(*value);
            (out, packed) = (next, rest);
        }
    }
    out.is_empty()
}

/// A JPEG that stands by itself, of a strip or tile and the tables that it shares with others. Whether its colours are
/// YCbCr is the TIFF's to say, not the JPEG's: markers about that are left out, and one that says it is put in.
fn whole_jpeg(stream: &mut Vec<u8>, tables: &[u8], packed: &[u8], ycbcr: bool) {
    stream.clear();
    stream.extend([0xFF, 0xD8, 0xFF, 0xEE, 0, 14]);
    stream.extend(b"Adobe\0\x64\0\0\0\0");
    stream.push(u8::from(ycbcr));
    for (part, pixels) in [(tables, false), (packed, true)] {
        let mut at = 2;
        // Segments up to the scan, each 0xFF, a marker, and a length that counts itself.
        while let Some(&[0xFF, marker, high, low]) = part.get(at..).and_then(|rest| rest.first_chunk()) {
            if marker == 0xDA {
                break;
            }
            let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
            if !matches!(marker, 0xE0 | 0xEE) {
                stream.extend(part.get(at..end).unwrap_or_default());
            }
            at = end;
        }
        // Of the tables nothing but the end marker is left.
        if pixels {
            stream.extend(part.get(at..).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_unpack() {
        // The example of the TIFF specification.
        let packed = [0xFE, 0xAA, 0x02, 0x80, 0x00, 0x2A, 0xFD, 0xAA, 0x03, 0x80, 0x00, 0x2A, 0x22, 0xF7, 0xAA];
        let mut out = [0; 24];
        assert!(unpack_bits(&packed, &mut out));
        assert_eq!(out[..8], [0xAA, 0xAA, 0xAA, 0x80, 0x00, 0x2A, 0xAA, 0xAA]);
        assert_eq!(out[10..15], [0x80, 0x00, 0x2A, 0x22, 0xAA]);
        assert!(!unpack_bits(&packed, &mut [0; 25]));
        assert!(unpack_bits(&[0x80, 0x00, 7], &mut [0; 1]));
        assert!(!unpack_bits(&[5, 1], &mut [0; 3]));
    }
}
