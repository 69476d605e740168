//! JPEGs of every kind, made by libjpeg-turbo's compressor and by hand.

// Each test file uses some of this.
#![allow(dead_code)]

use std::ffi::c_int;

use geossl_core::rng::{Draws, Stage};
use turbojpeg::raw;

pub type Params<'a> = &'a [(raw::TJPARAM, i32)];

/// Samples with slopes, edges and noise.
pub fn samples(width: usize, height: usize, channels: usize) -> Vec<u8> {
    let mut draws = Draws::new(width as u64, height as u64, 0, 0, Stage::Color);
    (0..width * height * channels)
        .map(|i| ((i / 37 * 31 % 256) as u8).wrapping_add((draws.bits() % 60) as u8))
        .collect()
}

/// Compresses `pixels` with quality 85, 4:4:4, but for `params`.
pub fn compress(pixels: &[u8], width: usize, height: usize, format: raw::TJPF, params: Params) -> Vec<u8> {
    compress_with(params, |handle, out, size| {
        let (w, h) = (width as c_int, height as c_int);
        // SAFETY: `pixels` holds the image; libjpeg-turbo allocates the output.
        unsafe { raw::tj3Compress8(handle, pixels.as_ptr(), w, 0, h, format as c_int, out, size) }
    })
}

/// A gray JPEG of 12 bits a sample.
pub fn twelve_bits(width: usize, height: usize) -> Vec<u8> {
    let pixels: Vec<i16> = (0..width * height).map(|i| (i % 4096) as i16).collect();
    let params =
        [(raw::TJPARAM_TJPARAM_SUBSAMP, raw::TJSAMP_TJSAMP_GRAY as c_int), (raw::TJPARAM_TJPARAM_PRECISION, 12)];
    compress_with(&params, |handle, out, size| {
        let gray = raw::TJPF_TJPF_GRAY as c_int;
        // SAFETY: `pixels` holds the image; libjpeg-turbo allocates the output.
        unsafe { raw::tj3Compress12(handle, pixels.as_ptr(), width as c_int, 0, height as c_int, gray, out, size) }
    })
}

fn compress_with(
    params: Params,
    compress: impl FnOnce(raw::tjhandle, *mut *mut u8, *mut raw::size_t) -> c_int,
) -> Vec<u8> {
    let defaults =
        [(raw::TJPARAM_TJPARAM_QUALITY, 85), (raw::TJPARAM_TJPARAM_SUBSAMP, raw::TJSAMP_TJSAMP_444 as c_int)];
    // SAFETY: the handle is used and destroyed here; the output is copied before it is freed.
    unsafe {
        let handle = raw::tj3Init(raw::TJINIT_TJINIT_COMPRESS as c_int);
        for (param, value) in defaults.iter().chain(params) {
            assert_eq!(raw::tj3Set(handle, *param as c_int, *value), 0);
        }
        let (mut out, mut size) = (std::ptr::null_mut(), 0);
        let code = compress(handle, &raw mut out, &raw mut size);
        assert_eq!(code, 0, "{:?}", std::ffi::CStr::from_ptr(raw::tj3GetErrorStr(handle)));
        let bytes = std::slice::from_raw_parts(out, size as usize).to_vec();
        raw::tj3Free(out.cast());
        raw::tj3Destroy(handle);
        bytes
    }
}

pub fn gray(width: usize, height: usize, params: Params) -> Vec<u8> {
    let params = [&[(raw::TJPARAM_TJPARAM_SUBSAMP, raw::TJSAMP_TJSAMP_GRAY as c_int)], params].concat();
    compress(&samples(width, height, 1), width, height, raw::TJPF_TJPF_GRAY, &params)
}

/// Segments as (marker, where they begin, where the next begins); a scan's data belong to its header.
pub fn segments(bytes: &[u8]) -> Vec<(u8, usize, usize)> {
    let mut found = vec![];
    let mut at = 2;
    while bytes[at + 1] != 0xD9 {
        let marker = bytes[at + 1];
        let mut next = at + 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        if marker == 0xDA {
            while bytes[next] != 0xFF || matches!(bytes[next + 1], 0 | 0xD0..=0xD7) {
                next += 1;
            }
        }
        found.push((marker, at, next));
        at = next;
    }
    found
}

/// A JPEG of three components with any sampling factors, each component a scan of its own: sequential, and as
/// libjpeg-turbo's compressor does not write them.
pub fn three_scans(width: usize, height: usize, factors: [(usize, usize); 3]) -> Vec<u8> {
    let widest = factors.iter().map(|f| f.0).max().unwrap();
    let highest = factors.iter().map(|f| f.1).max().unwrap();
    let parts = factors.map(|(h, v)| gray((width * h).div_ceil(widest), (height * v).div_ceil(highest), &[]));
    let mut out = vec![0xFF, 0xD8];
    for (marker, from, to) in segments(&parts[0]) {
        match marker {
            0xC0 => {
                out.extend([0xFF, 0xC0, 0, 17, 8]);
                out.extend((height as u16).to_be_bytes());
                out.extend((width as u16).to_be_bytes());
                out.push(3);
                for (id, (h, v)) in (1..).zip(factors) {
                    out.extend([id, (h << 4 | v) as u8, 0]);
                }
            }
            0xDA => {}
            _ => out.extend(&parts[0][from..to]),
        }
    }
    for (id, part) in (1..).zip(&parts) {
        let (_, from, to) = *segments(part).iter().find(|s| s.0 == 0xDA).unwrap();
        out.extend([0xFF, 0xDA, 0, 8, 1, id]);
        out.extend(&part[from + 6..to]);
    }
    out.extend([0xFF, 0xD9]);
    out
}

/// The JPEG with an APP1 segment put first.
pub fn with_app1(bytes: &[u8], content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16 + 2).to_be_bytes();
    [&[0xFF, 0xD8, 0xFF, 0xE1][..], &length, content, &bytes[2..]].concat()
}

/// The JPEG with EXIF that says how it is turned.
pub fn turned(bytes: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    with_app1(bytes, &exif)
}
