//! Files that are cut, have more behind their end, or want more than they may have.

// A test may unwrap.
#![allow(clippy::unwrap_used)]

mod made_jpegs;

use std::path::Path;

use geossl_core::Result;
use geossl_core::crop::Rect;
use geossl_core::decode::{self, Decoders, Input, Raster, Samples, Want};
use made_jpegs::{compress, samples, segments, twelve_bits, with_app1};
use turbojpeg::raw;

fn rgb(width: usize, height: usize, progressive: bool) -> Vec<u8> {
    let params = [(raw::TJPARAM_TJPARAM_PROGRESSIVE, i32::from(progressive))];
    compress(&samples(width, height, 3), width, height, raw::TJPF_TJPF_RGB, &params)
}

const CORNER: Rect = Rect { x: 0, y: 0, width: 8, height: 8 };

fn decode(bytes: &[u8], rect: Rect, max_bytes: u64) -> Result<Raster> {
    let mut decoders = Decoders::default();
    decode::open(Path::new("odd.jpg"), Input::Bytes(bytes), &mut decoders, max_bytes)?
        .decode(Want::all(rect), &mut decoders)
}

fn pixels(bytes: &[u8]) -> Vec<u8> {
    let raster = decode(bytes, CORNER, 1 << 30).unwrap();
    let Samples::U8(pixels) = raster.samples else { panic!("8 bits") };
    pixels
}

fn refusal(bytes: &[u8], max_bytes: u64) -> String {
    decode(bytes, CORNER, max_bytes).unwrap_err().to_string()
}

#[test]
fn a_cut_file_is_an_error_even_where_the_region_is_whole() {
    let thumbnail = [b"Exif\0\0MM\0\x2A\0\0\0\x08\0\0\0\0\0\0".as_slice(), &rgb(16, 16, false)].concat();
    for bytes in [rgb(640, 480, false), rgb(640, 480, true), with_app1(&rgb(64, 48, false), &thumbnail)] {
        for cut in [bytes.len() - 1, bytes.len() - 2, bytes.len() / 2] {
            let error = refusal(&bytes[..cut], 1 << 30);
            assert!(error.starts_with("odd.jpg: the JPEG is cut short"), "{error}");
        }
        // An end put where the cut is: the decoder sees it where the region needs what is missing.
        let ended = [&bytes[..bytes.len() / 2], &[0xFF, 0xD9]].concat();
        let (width, height) = if bytes.len() > 20_000 { (640, 480) } else { (64, 48) };
        let error = decode(&ended, Rect { x: 0, y: 0, width, height }, 1 << 30).unwrap_err().to_string();
        assert!(error.starts_with("odd.jpg: "), "{error}");
    }
}

#[test]
fn what_follows_the_end_does_not_count() {
    let (first, second) = (rgb(64, 48, false), rgb(200, 100, true));
    let film: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    for tail in [&second[..], &film, &[0; 100], &[0xFF], &[0xFF; 3]] {
        assert_eq!(pixels(&[&first, tail].concat()), pixels(&first));
    }
}

#[test]
fn a_thousand_scans_are_refused() {
    let bytes = rgb(16, 16, true);
    let (_, from, to) = *segments(&bytes).iter().rfind(|s| s.0 == 0xDA).unwrap();
    let many = |n: usize| [&bytes[..to], &bytes[from..to].repeat(n), &[0xFF, 0xD9]].concat();
    assert_eq!(refusal(&many(1000), 1 << 30), "odd.jpg: Progressive JPEG image has more than 100 scans");
}

#[test]
fn coefficients_count() {
    const MIB: u64 = 1 << 20;
    // 12 MB of pixels, 24 MB of coefficients.
    let (baseline, progressive) = (rgb(2000, 2000, false), rgb(2000, 2000, true));
    assert!(decode(&baseline, CORNER, 12 * MIB).is_ok());
    assert_eq!(
        refusal(&baseline, 11 * MIB),
        "odd.jpg: claims 2000 x 2000 pixels of 3 bands, 11 MiB to decode, over the limit of 11 MiB"
    );
    assert!(decode(&progressive, CORNER, 36 * MIB).is_ok());
    let whole = Rect { x: 0, y: 0, width: 2000, height: 2000 };
    for error in [refusal(&progressive, 20 * MIB), decode(&progressive, whole, 32 * MIB).unwrap_err().to_string()] {
        assert_eq!(error, "odd.jpg: a JPEG of several scans, whose coefficients take more memory than the limit");
    }
    // The decoder is as good as new.
    let mut decoders = Decoders::default();
    for (bytes, max, good) in [(&progressive, 20, false), (&baseline, 20, true), (&progressive, 40, true)] {
        let image = decode::open(Path::new("odd.jpg"), Input::Bytes(bytes), &mut decoders, max * MIB).unwrap();
        assert_eq!(image.decode(Want::all(CORNER), &mut decoders).is_ok(), good);
    }
}

#[test]
fn claims_of_a_huge_size_are_refused_at_once() {
    for progressive in [false, true] {
        let mut bytes = rgb(16, 16, progressive);
        let frame = segments(&bytes).iter().find(|s| matches!(s.0, 0xC0 | 0xC2)).unwrap().1;
        for side in [frame + 5, frame + 7] {
            bytes[side..side + 2].copy_from_slice(&65_500u16.to_be_bytes());
        }
        let error = refusal(&bytes, 1 << 30);
        assert!(error.starts_with("odd.jpg: claims 65500 x 65500 pixels of 3 bands, 12274 MiB to decode"), "{error}");
    }
}

#[test]
fn twelve_bits_are_refused_and_lossless_is_read_whole() {
    assert_eq!(refusal(&twelve_bits(32, 32), 1 << 30), "odd.jpg: a JPEG of 12 bits a sample: only 8 are read");
    let lossless = compress(&samples(50, 40, 3), 50, 40, raw::TJPF_TJPF_RGB, &[(raw::TJPARAM_TJPARAM_LOSSLESS, 1)]);
    let raster = decode(&lossless, CORNER, 1 << 30).unwrap();
    assert_eq!(raster.rect, Rect { x: 0, y: 0, width: 50, height: 40 });
    assert_eq!(raster.samples, Samples::U8(samples(50, 40, 3)));
}
