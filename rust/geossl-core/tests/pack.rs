//! A pack's images have the pixels of their files, wherever the crop lies; work that was ended goes on; damage shows.

// A test may unwrap.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use geossl_core::Error;
use geossl_core::crop::Rect;
use geossl_core::decode::{self, Decoders, Raster, Samples, Want};
use geossl_core::pack::Shards;
use geossl_core::pack::record::{Codec, Record};
use geossl_core::pack::segments::Transcoder;
use geossl_core::pack::shards::{Footer, read_footer};
use geossl_core::pack::write::{Form, Item, Job, shard_name, verify, write};
use geossl_core::rng::{Draws, Stage};
use proptest::prelude::*;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

const KINDS: [Subsamp; 6] =
    [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub1x2, Subsamp::Sub4x1, Subsamp::Gray];

fn pixels(width: usize, height: usize) -> Vec<u8> {
    let mut draws = Draws::new(width as u64, height as u64, 0, 0, Stage::Color);
    (0..width * height * 3).map(|i| ((i / 37 * 31 % 256) as u8).wrapping_add((draws.bits() % 60) as u8)).collect()
}

fn jpeg(width: usize, height: usize, subsampling: Subsamp, progressive: bool) -> Vec<u8> {
    let pixels = pixels(width, height);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_region_has_the_files_pixels(
        kind in 0..KINDS.len(), width in 1u32..500, height in 1u32..200, progressive: bool,
        corners in (0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0),
    ) {
        let path = Path::new("made.jpg");
        let file = jpeg(width as usize, height as usize, KINDS[kind], progressive);
        let bytes = Transcoder::default().transcode(path, &file).unwrap().unwrap();
        let record = Record::parse(path, &bytes).unwrap();
        prop_assert_eq!(record.kind.codec, Codec::Jpeg);
        let at = |share: f64, n: u32| (share * f64::from(n)) as u32;
        let (x, y) = (at(corners.0, width), at(corners.1, height));
        let rect = Rect { x, y, width: 1 + at(corners.2, width - x), height: 1 + at(corners.3, height - y) };
        let mut decoders = Decoders::default();
        let packed = decode::packed(path, record, 1 << 30).unwrap().decode(Want::all(rect), &mut decoders).unwrap();
        let whole = turbojpeg::decompress(&file, PixelFormat::RGB).unwrap();
        let whole = Raster::new(Rect { x: 0, y: 0, width, height }, 3, Samples::U8(whole.pixels));
        prop_assert_eq!(part(&packed, rect), part(&whole, rect));
    }
}

#[test]
fn a_crop_looks_at_few_bytes() {
    let file = jpeg(1024, 1024, Subsamp::Sub2x2, false);
    let path = Path::new("made.jpg");
    let bytes = Transcoder::default().transcode(path, &file).unwrap().unwrap();
    assert!(bytes.len() < file.len() * 102 / 100, "{} of {}", bytes.len(), file.len());
    let image = decode::packed(path, Record::parse(path, &bytes).unwrap(), 1 << 30).unwrap();
    let mut decoders = Decoders::default();
    image.decode(Want::all(Rect { x: 400, y: 400, width: 200, height: 200 }), &mut decoders).unwrap();
    // Whole rows are looked at for their checksums.
    assert!(decoders.bytes_read < bytes.len() as u64 / 4);
}

#[test]
fn any_flipped_bit_of_a_jpeg_is_noticed() {
    let path = Path::new("made.jpg");
    let file = jpeg(64, 40, Subsamp::Sub2x2, false);
    let bytes = Transcoder::default().transcode(path, &file).unwrap().unwrap();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let read = Record::parse(path, &bad).and_then(|record| {
            let image = decode::packed(path, record, 1 << 30)?;
            image.decode(Want::all(image.rect()), &mut Decoders::default())
        });
        assert!(read.is_err(), "byte {at} of {}", bytes.len());
    }
}

/// JPEGs of several kinds, a PNG, a broken file and one that is missing.
fn files(folder: &Path) -> Vec<Item> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for i in 0..12 {
        let path = folder.join(format!("{i:02}.jpg"));
        std::fs::write(&path, jpeg(100 + 13 * i, 90 + 7 * i, KINDS[i % KINDS.len()], i % 5 == 4)).unwrap();
        paths.push(path);
    }
    let png = folder.join("20.png");
    let mut encoder = png::Encoder::new(std::fs::File::create(&png).unwrap(), 150, 70);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&pixels(150, 70)).unwrap();
    std::fs::write(folder.join("30.jpg"), &jpeg(80, 80, Subsamp::Sub2x2, false)[..900]).unwrap();
    paths.extend([png, folder.join("30.jpg"), folder.join("40.jpg")]);
    paths.into_iter().map(|path| Item { path, bounds: None }).collect()
}

fn job(items: Vec<Item>, folder: &Path, form: Form, threads: usize) -> Job {
    let range = 0..items.len() as u64;
    let folder = folder.to_owned();
    Job { items, range, form, threads, folder, shard_bytes: 20_000, max_image_bytes: 1 << 30, foreign: None }
}

/// Each image's record, by number, and the failures.
#[allow(clippy::type_complexity)] // used here alone
fn content(folder: &Path) -> (Vec<(u64, Vec<u8>)>, Vec<(u64, String)>) {
    let (mut records, mut failures) = (Vec::new(), Vec::new());
    for number in 0.. {
        let path = folder.join(shard_name(number));
        if !path.exists() {
            return (records, failures);
        }
        let (bytes, footer): (_, Footer) = (std::fs::read(&path).unwrap(), read_footer(&path).unwrap());
        for (n, offset, length) in footer.records {
            records.push((n, bytes[offset as usize..(offset + length) as usize].to_vec()));
        }
        failures.extend(footer.failures);
    }
    unreachable!()
}

const FORMS: [Form; 3] = [
    Form::Lossless,
    Form::Sized { short_side: 64, quality: Some(90), context: true },
    Form::Sized { short_side: 64, quality: None, context: true },
];

#[test]
fn a_pack_is_the_same_for_any_threads_and_after_any_interruption() {
    let source = tempfile::tempdir().unwrap();
    let items = files(source.path());
    for form in FORMS {
        let whole = tempfile::tempdir().unwrap();
        let done = write(&job(items.clone(), whole.path(), form, 1), |_| Ok(())).unwrap();
        assert_eq!((done.done, done.failed, done.earlier), (15, 2, 0));
        let wanted = content(whole.path());
        assert_eq!(wanted.0.len(), 13);
        assert!(wanted.1[0].1.contains("cut short"), "{:?}", wanted.1);
        for stop_after in [0, 1, 7, 14] {
            let folder = tempfile::tempdir().unwrap();
            let stopped = write(&job(items.clone(), folder.path(), form, 5), |progress| {
                if progress.done >= stop_after { Err(Error::Argument("stop".into())) } else { Ok(()) }
            });
            assert!(stopped.is_err());
            // What a kill leaves: a shard that was not finished.
            std::fs::write(folder.path().join("00000.shard.part"), b"half").unwrap();
            let again = write(&job(items.clone(), folder.path(), form, 2), |_| Ok(())).unwrap();
            assert!(again.earlier >= stop_after.min(again.done), "{again:?}");
            assert_eq!(content(folder.path()), wanted);
        }
    }
}

#[test]
fn two_at_once_are_refused() {
    let source = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let items = files(source.path());
    let mut refused = None;
    write(&job(items.clone(), folder.path(), Form::Lossless, 1), |_| {
        let second = job(items.clone(), folder.path(), Form::Lossless, 1);
        refused.get_or_insert_with(|| write(&second, |_| Ok(())).unwrap_err());
        Ok(())
    })
    .unwrap();
    assert!(refused.unwrap().to_string().contains("another process"));
}

fn places(folder: &Path, items: usize) -> (Shards, Vec<(i64, u64)>) {
    let (mut at, mut paths) = (vec![(-1, 0); items], Vec::new());
    for number in 0.. {
        let path = folder.join(shard_name(number));
        if !path.exists() {
            break;
        }
        for (n, offset, _) in read_footer(&path).unwrap().records {
            at[n as usize] = (number as i64, offset);
        }
        paths.push(path);
    }
    (Shards::open(paths).unwrap(), at)
}

#[test]
fn verification_compares_with_the_files() {
    let source = tempfile::tempdir().unwrap();
    let items = files(source.path());
    for form in FORMS {
        let folder = tempfile::tempdir().unwrap();
        let job = job(items.clone(), folder.path(), form, 2);
        write(&job, |_| Ok(())).unwrap();
        let (shards, at) = places(folder.path(), items.len());
        let (state, differ) = verify(&job, &shards, &at, |_| Ok(())).unwrap();
        assert_eq!((state.done, state.failed, differ), (15, 2, vec![]));
        assert_eq!(state.squared > 0.0, form == FORMS[1]);
    }
    // A file that is another one now.
    let folder = tempfile::tempdir().unwrap();
    let job = job(items.clone(), folder.path(), Form::Lossless, 2);
    write(&job, |_| Ok(())).unwrap();
    std::fs::write(&items[3].path, jpeg(139, 111, Subsamp::Sub1x2, false)).unwrap();
    std::fs::write(&items[4].path, jpeg(10, 10, Subsamp::Sub1x2, false)).unwrap();
    let (shards, at) = places(folder.path(), items.len());
    let (_, differ) = verify(&job, &shards, &at, |_| Ok(())).unwrap();
    let numbers: Vec<u64> = differ.iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, [4], "{differ:?}");
}

#[test]
fn a_damaged_or_unfinished_shard_is_refused() {
    let source = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let items = files(source.path());
    write(&job(items, folder.path(), Form::Lossless, 2), |_| Ok(())).unwrap();
    let path = folder.path().join(shard_name(0));
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 7, 30, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(matches!(read_footer(&path), Err(Error::Data { .. })));
    }
    let mut earlier = bytes.clone();
    earlier[7] = b'1';
    std::fs::write(&path, &earlier).unwrap();
    assert!(read_footer(&path).unwrap_err().to_string().contains("another version of geossl: pack the images again"));
    assert!(Shards::open(vec![path.clone()]).unwrap_err().to_string().contains("another version"));
    let mut bad = bytes.clone();
    bad[bytes.len() - 40] ^= 4;
    std::fs::write(&path, &bad).unwrap();
    assert!(read_footer(&path).unwrap_err().to_string().contains("checksum"));
}
