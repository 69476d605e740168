//! Region decode gives the pixels of a full decode, to the last bit, wherever the region lies.

// A test may unwrap.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use geossl_core::crop::Rect;
use geossl_core::decode::{self, Decoders, Raster, Samples};
use geossl_core::rng::{Draws, Stage};
use proptest::prelude::*;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

const KINDS: [Subsamp; 6] =
    [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub1x2, Subsamp::Sub4x1, Subsamp::Gray];

fn jpeg(width: usize, height: usize, subsampling: Subsamp, progressive: bool) -> Vec<u8> {
    let mut draws = Draws::new(width as u64, height as u64, 0, 0, Stage::Color);
    let pixels: Vec<u8> =
        (0..width * height * 3).map(|i| ((i / 37 * 31 % 256) as u8).wrapping_add((draws.bits() % 60) as u8)).collect();
    let mut compressor = Compressor::new().unwrap();
    compressor.set_subsamp(subsampling).unwrap();
    compressor.set_quality(85).unwrap();
    compressor.set_progressive(progressive).unwrap();
    let image = Image { pixels: pixels.as_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
    compressor.compress_to_vec(image).unwrap()
}

fn part(raster: &Raster, rect: Rect) -> Vec<u8> {
    let Samples::U8(all) = &raster.samples else { panic!("8 bits") };
    let (x, y) = ((rect.x - raster.rect.x) as usize, (rect.y - raster.rect.y) as usize);
    (0..rect.height as usize)
        .flat_map(|row| {
            let start = ((y + row) * raster.rect.width as usize + x) * 3;
            all[start..start + rect.width as usize * 3].to_vec()
        })
        .collect()
}

fn decode_part(bytes: &[u8], rect: Rect) -> (Raster, Vec<u8>) {
    let mut decoders = Decoders::default();
    let image = decode::open(Path::new("made.jpg"), bytes, &mut decoders, 1 << 30).unwrap();
    let raster = image.decode(rect, &mut decoders).unwrap();
    let pixels = part(&raster, rect);
    (raster, pixels)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_region_of_any_subsampling(
        kind in 0..KINDS.len(), width in 1u32..200, height in 1u32..200, progressive: bool,
        corners in (0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0),
    ) {
        let bytes = jpeg(width as usize, height as usize, KINDS[kind], progressive);
        let at = |share: f64, n: u32| (share * f64::from(n)) as u32;
        let (x, y) = (at(corners.0, width), at(corners.1, height));
        let rect = Rect { x, y, width: 1 + at(corners.2, width - x), height: 1 + at(corners.3, height - y) };
        let whole = Rect { x: 0, y: 0, width, height };
        let (full, _) = decode_part(&bytes, whole);
        prop_assert_eq!(full.rect, whole);
        // The full decode is libjpeg-turbo's own.
        let reference = turbojpeg::decompress(&bytes, PixelFormat::RGB).unwrap();
        let Samples::U8(pixels) = &full.samples else { panic!("8 bits") };
        prop_assert_eq!(pixels, &reference.pixels);
        prop_assert_eq!(decode_part(&bytes, rect).1, part(&full, rect));
    }
}

#[test]
fn less_is_decoded_than_the_whole() {
    let bytes = jpeg(640, 480, Subsamp::Sub2x2, false);
    let (raster, _) = decode_part(&bytes, Rect { x: 300, y: 200, width: 64, height: 64 });
    assert_eq!(raster.rect, Rect { x: 272, y: 176, width: 112, height: 112 });
}

#[test]
fn a_cut_file_is_an_error_even_where_the_region_is_whole() {
    let bytes = jpeg(640, 480, Subsamp::Sub2x2, false);
    let mut decoders = Decoders::default();
    let cut = &bytes[..bytes.len() / 2];
    let image = decode::open(Path::new("cut.jpg"), cut, &mut decoders, 1 << 30).unwrap();
    let error = image.decode(Rect { x: 0, y: 0, width: 8, height: 8 }, &mut decoders).unwrap_err();
    assert!(error.to_string().starts_with("cut.jpg: the JPEG is cut short"), "{error}");
}
