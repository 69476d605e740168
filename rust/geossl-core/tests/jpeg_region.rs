//! Region decode gives the pixels of a full decode, to the last bit, wherever the region lies.

// A test may unwrap.
#![allow(clippy::unwrap_used)]

mod made_jpegs;

use std::ffi::c_int;
use std::path::Path;

use geossl_core::crop::Rect;
use geossl_core::decode::{self, Decoders, Input, Raster, Samples, Want};
use made_jpegs::{Params, compress, gray, samples, three_scans, turned};
use proptest::prelude::*;
use turbojpeg::{PixelFormat, ScalingFactor, raw};

const SAMPLINGS: [raw::TJSAMP; 7] = [
    raw::TJSAMP_TJSAMP_444,
    raw::TJSAMP_TJSAMP_422,
    raw::TJSAMP_TJSAMP_420,
    raw::TJSAMP_TJSAMP_440,
    raw::TJSAMP_TJSAMP_411,
    raw::TJSAMP_TJSAMP_441,
    raw::TJSAMP_TJSAMP_GRAY,
];
const CODINGS: [Params; 7] = [
    &[],
    &[(raw::TJPARAM_TJPARAM_PROGRESSIVE, 1)],
    &[(raw::TJPARAM_TJPARAM_ARITHMETIC, 1)],
    &[(raw::TJPARAM_TJPARAM_ARITHMETIC, 1), (raw::TJPARAM_TJPARAM_PROGRESSIVE, 1)],
    &[(raw::TJPARAM_TJPARAM_RESTARTBLOCKS, 3)],
    &[(raw::TJPARAM_TJPARAM_RESTARTROWS, 1)],
    &[(raw::TJPARAM_TJPARAM_RESTARTROWS, 2), (raw::TJPARAM_TJPARAM_PROGRESSIVE, 1)],
];

fn jpeg(width: u32, height: u32, sampling: raw::TJSAMP, coding: Params) -> Vec<u8> {
    let (width, height) = (width as usize, height as usize);
    let params = [&[(raw::TJPARAM_TJPARAM_SUBSAMP, sampling as c_int)], coding].concat();
    compress(&samples(width, height, 3), width, height, raw::TJPF_TJPF_RGB, &params)
}

/// The samples of a raster that cover `rect` of the image.
fn part(raster: &Raster, rect: Rect) -> Vec<u8> {
    let Samples::U8(all) = &raster.samples else { panic!("8 bits") };
    let axis = |origin: u32, ahead: u32, start: u32, length: u32| {
        let start = start - origin + ahead;
        ((start / raster.shrink) as usize, (start + length).div_ceil(raster.shrink) as usize)
    };
    let (x0, x1) = axis(raster.rect.x, raster.ahead.0, rect.x, rect.width);
    let (y0, y1) = axis(raster.rect.y, raster.ahead.1, rect.y, rect.height);
    let (width, height) = raster.rect.shrunk(raster.shrink);
    assert_eq!(all.len(), width as usize * height as usize * 3);
    (y0..y1).flat_map(|y| &all[(y * width as usize + x0) * 3..(y * width as usize + x1) * 3]).copied().collect()
}

fn decode_part(bytes: &[u8], rect: Rect, shrink: u32) -> (Raster, Vec<u8>) {
    let mut decoders = Decoders::default();
    let image = decode::open(Path::new("made.jpg"), Input::Bytes(bytes), &mut decoders, 1 << 30).unwrap();
    let raster = image.decode(Want { shrink, ..Want::all(rect) }, &mut decoders).unwrap();
    let pixels = part(&raster, rect);
    (raster, pixels)
}

fn whole(bytes: &[u8], shrink: u32) -> Raster {
    let mut decoders = Decoders::default();
    let image = decode::open(Path::new("made.jpg"), Input::Bytes(bytes), &mut decoders, 1 << 30).unwrap();
    let rect = Rect { x: 0, y: 0, width: image.width, height: image.height };
    let raster = image.decode(Want { shrink, ..Want::all(rect) }, &mut decoders).unwrap();
    assert_eq!(raster.rect, rect);
    raster
}

/// libjpeg-turbo's own decode of the whole image.
fn reference(bytes: &[u8], shrink: u32, format: PixelFormat) -> Vec<u8> {
    let mut decompressor = turbojpeg::Decompressor::new().unwrap();
    let header = decompressor.read_header(bytes).unwrap();
    let scale = ScalingFactor::new(1, shrink as usize);
    decompressor.set_scaling_factor(scale).unwrap();
    let (width, height) = (scale.scale(header.width), scale.scale(header.height));
    let pitch = width * format.size();
    let mut pixels = vec![0; pitch * height];
    let image = turbojpeg::Image { pixels: pixels.as_mut_slice(), width, pitch, height, format };
    decompressor.decompress(bytes, image).unwrap();
    pixels
}

fn pixels(raster: &Raster) -> &[u8] {
    let Samples::U8(pixels) = &raster.samples else { panic!("8 bits") };
    pixels
}

type Corners = (f64, f64, f64, f64);

fn corners() -> impl Strategy<Value = Corners> {
    (0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0)
}

fn rect((left, top, across, down): Corners, width: u32, height: u32) -> Rect {
    let at = |share: f64, n: u32| (share * f64::from(n)) as u32;
    let (x, y) = (at(left, width), at(top, height));
    Rect { x, y, width: 1 + at(across, width - x), height: 1 + at(down, height - y) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_region_of_any_kind(
        sampling in 0..SAMPLINGS.len(), coding in 0..CODINGS.len(), shrink in prop::sample::select(vec![1u32, 1, 1, 2, 4, 8]),
        width in 1u32..200, height in 1u32..200, corners in corners(),
    ) {
        let bytes = jpeg(width, height, SAMPLINGS[sampling], CODINGS[coding]);
        let full = whole(&bytes, shrink);
        prop_assert_eq!(pixels(&full), reference(&bytes, shrink, PixelFormat::RGB));
        let rect = rect(corners, width, height);
        prop_assert_eq!(decode_part(&bytes, rect, shrink).1, part(&full, rect));
    }

    #[test]
    fn any_sampling_factors(
        factors in prop::sample::select(vec![
            // Whole pixels, under unusual names; then usual shapes, under unusual names; then shapes without a name.
            [(2, 1), (2, 1), (2, 1)], [(1, 2), (1, 2), (1, 2)], [(3, 1), (3, 1), (3, 1)],
            [(2, 2), (1, 2), (1, 2)], [(2, 2), (2, 1), (2, 1)],
            [(2, 2), (2, 1), (1, 1)], [(1, 1), (2, 2), (1, 1)], [(4, 2), (1, 1), (2, 2)], [(1, 1), (1, 1), (2, 1)],
        ]),
        width in 1u32..150, height in 1u32..150, corners in corners(),
    ) {
        let bytes = three_scans(width as usize, height as usize, factors);
        let full = whole(&bytes, 1);
        prop_assert_eq!(pixels(&full), reference(&bytes, 1, PixelFormat::RGB));
        let rect = rect(corners, width, height);
        prop_assert_eq!(decode_part(&bytes, rect, 1).1, part(&full, rect));
    }

    #[test]
    fn regions_of_turned_images(
        orientation in 1u8..=8, sampling in 0..3usize, shrink in prop::sample::select(vec![1u32, 2, 4, 8]),
        width in 1u32..120, height in 1u32..120, corners in corners(),
    ) {
        let stored = jpeg(width, height, SAMPLINGS[sampling], &[]);
        let bytes = turned(&stored, orientation);
        let (stored, upright) = (whole(&stored, shrink), whole(&bytes, shrink));
        let size = if orientation < 5 { (width, height) } else { (height, width) };
        prop_assert_eq!((upright.rect.width, upright.rect.height), size);
        // EXIF's table: where row 0 and column 0 of the stored image are seen.
        let (w, h) = stored.rect.shrunk(shrink);
        let expected = upright.rect.shrunk(shrink);
        for (v, row) in pixels(&upright).chunks(expected.0 as usize * 3).enumerate() {
            for (u, pixel) in row.chunks(3).enumerate() {
                let (u, v, w, h) = (u, v, w as usize, h as usize);
                let (x, y) = match orientation {
                    1 => (u, v), 2 => (w - 1 - u, v), 3 => (w - 1 - u, h - 1 - v), 4 => (u, h - 1 - v),
                    5 => (v, u), 6 => (v, h - 1 - u), 7 => (w - 1 - v, h - 1 - u), _ => (w - 1 - v, u),
                };
                prop_assert_eq!(pixel, &pixels(&stored)[(y * w + x) * 3..][..3]);
            }
        }
        let rect = rect(corners, size.0, size.1);
        prop_assert_eq!(decode_part(&bytes, rect, shrink).1, part(&upright, rect));
    }
}

#[test]
fn cmyk_is_pillows_rgb() {
    let space = |space: raw::TJCS| vec![(raw::TJPARAM_TJPARAM_COLORSPACE, space as c_int)];
    let half = (raw::TJPARAM_TJPARAM_SUBSAMP, raw::TJSAMP_TJSAMP_420 as c_int);
    let (cmyk, ycck) = (space(raw::TJCS_TJCS_CMYK), [space(raw::TJCS_TJCS_YCCK), vec![half]].concat());
    for params in [cmyk, ycck] {
        let bytes = compress(&samples(90, 70, 4), 90, 70, raw::TJPF_TJPF_CMYK, &params);
        let full = whole(&bytes, 1);
        // Pillow inverts the inks, multiplies with rounding, and clips.
        let light = |ink: u8, black: u8| {
            let (ink, paper) = (f64::from(255 - ink), f64::from(black));
            (paper - (ink * paper / 255.0).round()).max(0.0) as u8
        };
        let expected: Vec<u8> = reference(&bytes, 1, PixelFormat::CMYK)
            .chunks_exact(4)
            .flat_map(|p| [light(p[0], p[3]), light(p[1], p[3]), light(p[2], p[3])])
            .collect();
        assert_eq!(pixels(&full), expected);
        let rect = Rect { x: 41, y: 30, width: 9, height: 11 };
        let (region, got) = decode_part(&bytes, rect, 1);
        assert!(region.rect.width < 90);
        assert_eq!(got, part(&full, rect));
    }
}

#[test]
fn gray_with_factors_that_mean_nothing() {
    let plain = gray(100, 80, &[]);
    let mut bytes = plain.clone();
    let frame = made_jpegs::segments(&bytes).iter().find(|s| s.0 == 0xC0).unwrap().1;
    assert_eq!(std::mem::replace(&mut bytes[frame + 11], 0x22), 0x11);
    let rect = Rect { x: 27, y: 33, width: 30, height: 20 };
    assert_eq!(decode_part(&bytes, rect, 1).1, part(&whole(&plain, 1), rect));
}

#[test]
fn less_is_decoded_than_the_whole() {
    let bytes = jpeg(640, 480, raw::TJSAMP_TJSAMP_420, &[]);
    let rect = Rect { x: 300, y: 200, width: 64, height: 64 };
    let (raster, _) = decode_part(&bytes, rect, 1);
    assert_eq!(raster.rect, Rect { x: 288, y: 192, width: 80, height: 76 });
    let (raster, _) = decode_part(&bytes, rect, 4);
    assert_eq!(raster.rect, Rect { x: 272, y: 176, width: 108, height: 104 });
    assert_eq!(pixels(&raster).len(), 27 * 26 * 3);
}
