//! TIFFs: what is read of them, and that broken ones are errors, soon and in little memory. Values are compared with
//! other readers' in Python.

// A test may unwrap.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use geossl_core::Result;
use geossl_core::crop::Rect;
use geossl_core::decode::{self, Decoders, Input, Raster, Samples, Want};
use geossl_core::index::header;
use libdeflater::{CompressionLvl, Compressor};

const MIB: u64 = 1 << 20;

/// A TIFF that is put together by hand.
#[derive(Clone)]
struct Made {
    big_endian: bool,
    bigtiff: bool,
    /// (tag, values); of 4 bytes, or 8 in a `BigTIFF`.
    tags: Vec<(u16, Vec<u64>)>,
    /// What lies at 16.
    data: Vec<u8>,
    /// Where the directory says that the next one is; 1 is itself.
    next: u64,
}

impl Made {
    fn new(width: u64, height: u64, data: Vec<u8>) -> Self {
        let tags = vec![
            (256, vec![width]),
            (257, vec![height]),
            (258, vec![8]),
            (259, vec![1]),
            (262, vec![1]),
            (273, vec![16]),
            (278, vec![height]),
            (279, vec![data.len() as u64]),
        ];
        Self { big_endian: false, bigtiff: false, tags, data, next: 0 }
    }

    fn with(mut self, tag: u16, values: &[u64]) -> Self {
        self.tags.retain(|(other, _)| *other != tag);
        self.tags.push((tag, values.to_vec()));
        self
    }

    fn without(mut self, tag: u16) -> Self {
        self.tags.retain(|(other, _)| *other != tag);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let number = |value: u64, size: usize| {
            let bytes = value.to_be_bytes()[8 - size..].to_vec();
            if self.big_endian { bytes } else { bytes.into_iter().rev().collect() }
        };
        let (word, kind, head) = if self.bigtiff { (8, 16, 8) } else { (4, 4, 2) };
        let start = 16 + self.data.len();
        let mut lists = start + head + self.tags.len() * (4 + 2 * word) + word;
        let mut out = if self.big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        if self.bigtiff {
            out.extend([number(43, 2), number(8, 2), number(0, 2), number(start as u64, 8)].concat());
        } else {
            out.extend([number(42, 2), number(start as u64, 4), vec![0; 8]].concat());
        }
        out.extend(&self.data);
        out.extend(number(self.tags.len() as u64, head));
        let mut behind = Vec::new();
        for (tag, values) in &self.tags {
            out.extend([number((*tag).into(), 2), number(kind, 2), number(values.len() as u64, word)].concat());
            if let [value] = values[..] {
                out.extend(number(value, word));
            } else {
                out.extend(number(lists as u64, word));
                lists += values.len() * word;
                behind.extend(values.iter().flat_map(|value| number(*value, word)));
            }
        }
        out.extend(number(if self.next == 1 { start as u64 } else { self.next }, word));
        out.extend(behind);
        out
    }
}

fn read(bytes: &[u8], want: impl Fn(Rect) -> Rect, max_bytes: u64) -> Result<Raster> {
    let mut decoders = Decoders::default();
    let image = decode::open(Path::new("made.tif"), Input::Bytes(bytes), &mut decoders, max_bytes)?;
    image.decode(Want::all(want(image.rect())), &mut decoders)
}

fn refused(made: &Made, reason: &str) {
    for (big_endian, bigtiff) in [(false, false), (true, false), (false, true), (true, true)] {
        let bytes = Made { big_endian, bigtiff, ..made.clone() }.bytes();
        let error = read(&bytes, |all| all, MIB).unwrap_err().to_string();
        assert!(error.starts_with("made.tif: ") && error.contains(reason), "{error:?}, not {reason:?}");
    }
}

#[test]
fn by_hand() {
    let data: Vec<u8> = (0..12).collect();
    for (big_endian, bigtiff) in [(false, false), (true, false), (false, true), (true, true)] {
        let made = Made { big_endian, bigtiff, ..Made::new(4, 3, data.clone()) };
        assert_eq!(read(&made.bytes(), |all| all, MIB).unwrap().samples, Samples::U8(data.clone()));
        let rect = Rect { x: 1, y: 1, width: 2, height: 2 };
        assert_eq!(read(&made.bytes(), |_| rect, MIB).unwrap().samples, Samples::U8(vec![5, 6, 9, 10]));
        // Strips of one row, the last of which is left out.
        let made = made.with(278, &[1]).with(273, &[24, 16, 0]).with(279, &[4, 4, 0]);
        let want = vec![8, 9, 10, 11, 0, 1, 2, 3, 0, 0, 0, 0];
        let bytes = Made { data: [&data[..4], &[9; 4], &data[8..]].concat(), ..made }.bytes();
        assert_eq!(read(&bytes, |all| all, MIB).unwrap().samples, Samples::U8(want));
    }
}

#[test]
fn broken_files() {
    let made = || Made::new(4, 3, (0..12).collect());
    refused(&made().without(273), "StripOffsets or TileOffsets is missing");
    refused(&made().with(273, &[1 << 20]), "lie outside the file");
    refused(&made().with(273, &[u64::from(u32::MAX)]), "lie outside the file");
    refused(&made().with(279, &[11]), "fewer bytes than its samples take");
    refused(&made().with(259, &[5]).with(279, &[1 << 15]), "lie outside the file");
    refused(&made().with(259, &[5]).with(279, &[1 << 30]), "MiB packed");
    refused(&made().with(259, &[5]).without(279), "lengths of its strips or tiles are missing");
    for compression in [5, 8, 50_000, 32_773] {
        refused(&Made::new(4, 3, vec![1; 12]).with(259, &[compression]), "does not unpack");
    }
    refused(&made().with(259, &[5]), "not read here: old-style LZW compression");
    refused(&made().with(259, &[7]), "JPEG");
    refused(&made().with(256, &[0]), "impossible size: 0 x 3 x 1");
    refused(&made().with(256, &[1 << 31]), "impossible size");
    refused(&made().with(256, &[1 << 30]).with(257, &[1 << 30]).with(278, &[1 << 30]), "over the limit of");
    refused(&made().with(277, &[65_535]), "impossible size: 4 x 3 x 65535");
    refused(&made().with(278, &[0]), "strips or tiles of 4 x 0");
    refused(&made().with(278, &[1]), "its list claims 1");
    let tiled = || made().without(273).without(279).with(324, &[16]).with(325, &[12]).with(322, &[16]).with(323, &[16]);
    refused(&tiled().with(322, &[0]), "strips or tiles of 0 x 16");
    refused(&tiled().with(259, &[8]).with(322, &[65_520]).with(323, &[65_520]), "over the limit of");
    refused(&tiled().with(322, &[1 << 30]).with(323, &[1 << 30]), "fewer bytes");
    refused(&Made { next: 1, ..made() }, "form a circle");
    refused(&Made { next: 1 << 20, ..made() }, "lie outside the file");
    refused(&made().with(259, &[8]).with(317, &[9]), "predictor 9");
    refused(&made().with(259, &[8]).with(317, &[3]), "a predictor that does not go with uint8 samples");
    refused(&made().with(262, &[3]), "a palette without its colours");
    // What other readers can read.
    refused(&made().with(258, &[1]), "not read here: uint1 samples");
    refused(&made().with(258, &[12]), "not read here: uint12 samples");
    refused(&made().with(258, &[64]).with(339, &[6]), "not read here: complex64 samples");
    refused(&made().with(277, &[2]).with(258, &[8, 16]), "not read here: bands of several types");
    refused(&made().with(259, &[4]), "not read here: CCITT compression");
    refused(&made().with(259, &[34_887]), "not read here: LERC compression");
}

#[test]
fn bombs() {
    // 64 MiB of zeros in 64 KiB, as one strip and as many that are the same.
    let packed = |len: usize| {
        let (zeros, mut out) = (vec![0; len], vec![0; len + 99]);
        let len = Compressor::new(CompressionLvl::default()).zlib_compress(&zeros, &mut out).unwrap();
        out.truncate(len);
        out
    };
    let strip = packed(64 << 20);
    refused(&Made::new(8192, 8192, strip.clone()).with(259, &[8]), "over the limit of");
    // It holds more than it should.
    refused(&Made::new(8, 8, strip).with(259, &[8]), "does not unpack");
    // Bands of 512 KiB, of which a column is wanted: every one of them is small, and all are the same.
    let plane = packed(512 << 10);
    let bands = 64;
    let made = Made::new(1024, 512, plane.clone()).with(259, &[8]).with(277, &[bands]).with(284, &[2]);
    let made = made.with(273, &vec![16; bands as usize]).with(279, &vec![plane.len() as u64; bands as usize]);
    let column = |_| Rect { x: 9, y: 9, width: 1, height: 100 };
    let error = read(&made.bytes(), column, MIB).unwrap_err().to_string();
    assert!(error.contains("in all"), "{error}");
    assert!(read(&made.bytes(), column, 4 * MIB).is_ok());
}

#[test]
fn a_small_part_of_a_large_scene() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scene.tif");
    // 30,000 x 30,000 in tiles, of which most are left out and one lies at the end of a large file.
    let count = 59 * 59;
    let (mut offsets, mut counts) = (vec![0; count], vec![0; count]);
    (offsets[59 * 20 + 30], counts[59 * 20 + 30]) = (64 << 20, 512 * 512);
    let made = Made::new(30_000, 30_000, vec![7; 99]).without(273).without(279).with(322, &[512]).with(323, &[512]);
    let mut bytes = made.with(324, &offsets).with(325, &counts).bytes();
    bytes.resize(64 << 20, 0);
    bytes.extend((0..512 * 512).map(|i| (i % 251) as u8));
    std::fs::write(&path, bytes).unwrap();
    let (mut decoders, mut buffer) = (Decoders::default(), Vec::new());
    let input = Input::open(&path, &mut buffer, MIB).unwrap();
    let image = decode::open(&path, input, &mut decoders, MIB).unwrap();
    let rect = Rect { x: 512 * 30 + 100, y: 512 * 20 - 50, width: 200, height: 200 };
    let Samples::U8(got) = image.decode(Want::all(rect), &mut decoders).unwrap().samples else { panic!() };
    for (i, &value) in got.iter().enumerate() {
        let (x, y) = (i % 200 + 100, (i / 200).checked_sub(50));
        assert_eq!(value, y.map_or(0, |y| ((y * 512 + x) % 251) as u8), "{i}");
    }
    assert!(decoders.bytes_read < 150_000, "{}", decoders.bytes_read);
}

#[test]
fn seeds_and_what_is_left_of_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/tiff");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(header::read(&path).is_ok() && read(&bytes, |all| all, MIB).is_ok(), "{}", path.display());
        for part in 1..40 {
            let _ = read(&bytes[..bytes.len() * part / 40], |all| all, MIB);
            let mut flipped = bytes.clone();
            let at = (part * 7919) % bytes.len().min(600);
            flipped[at] ^= 1 << (part % 8);
            let _ = read(&flipped, |all| all, MIB);
        }
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}
