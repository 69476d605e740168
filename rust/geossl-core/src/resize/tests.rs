//! Against `fast_image_resize`, against sums in double precision, and against itself.

use super::*;

fn raster(width: u32, height: u32, bands: u16) -> Raster {
    let n = width as usize * height as usize * usize::from(bands);
    let samples = Samples::U8((0..n).map(|i| ((i * 7919) % 251) as u8).collect());
    Raster::new(Rect { x: 0, y: 0, width, height }, bands, samples)
}

/// Noise of 16 bits, or of floats.
fn noise(width: u32, height: u32, bands: u16, bits: u8) -> Raster {
    let n = width * height * u32::from(bands);
    let values = (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u16);
    let samples = match bits {
        8 => Samples::U8(values.map(|v| v as u8).collect()),
        16 => Samples::U16(values.collect()),
        _ => Samples::F32(values.map(|v| f32::from(v) * 0.01 - 200.0).collect()),
    };
    Raster::new(Rect { x: 0, y: 0, width, height }, bands, samples)
}

/// The raster with every `every`th pixel's band of number `pixel % bands` and a square in the middle of all bands but
/// the first without data: 7 in integers.
fn holed(mut raster: Raster, every: usize) -> Raster {
    let (bands, width, height) = (usize::from(raster.bands), raster.rect.width as usize, raster.rect.height as usize);
    let lacks = |i: usize| {
        let (pixel, band) = (i / bands, i % bands);
        let (x, y) = (pixel % width, pixel / width);
        let square = (width / 3..width / 2).contains(&x) && (height / 3..height / 2).contains(&y);
        (square && band > 0) || (pixel % every == 0 && pixel % bands == band)
    };
    let nodata = match &mut raster.samples {
        Samples::U8(values) => {
            values.iter_mut().enumerate().for_each(|(i, v)| *v = if lacks(i) { 7 } else { *v | 8 });
            7.0
        }
        Samples::U16(values) => {
            values.iter_mut().enumerate().for_each(|(i, v)| *v = if lacks(i) { 7 } else { *v | 8 });
            7.0
        }
        Samples::F32(values) => {
            values.iter_mut().enumerate().filter(|(i, _)| lacks(*i)).for_each(|(_, v)| *v = f32::NAN);
            f32::NAN
        }
    };
    Raster { nodata: Some(nodata), ..raster }
}

/// The samples as numbers, None where there is no data.
fn values(samples: &Samples, nodata: Option<f32>) -> Vec<Option<f64>> {
    let known = |v: f32| (Some(v) != nodata && !v.is_nan()).then_some(f64::from(v));
    match samples {
        Samples::U8(values) => values.iter().map(|&v| known(f32::from(v))).collect(),
        Samples::U16(values) => values.iter().map(|&v| known(f32::from(v))).collect(),
        Samples::F32(values) => values.iter().map(|&v| known(v)).collect(),
    }
}

/// A raster's view, as samples.
fn view(raster: &Raster, geometry: &Geometry, size: u32) -> Samples {
    let bytes = usize::from(raster.samples.bits() / 8);
    let mut out = vec![0; (size * size) as usize * usize::from(raster.bands) * bytes];
    Resampler::default().view(raster, raster.rect, geometry, size, &mut out).unwrap();
    match raster.samples {
        Samples::U8(_) => Samples::U8(out),
        Samples::U16(_) => Samples::U16(out.as_chunks().0.iter().map(|b| u16::from_ne_bytes(*b)).collect()),
        Samples::F32(_) => Samples::F32(out.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()),
    }
}

/// Sum of the valid samples by their weights and the weight of the others, of every sample of the output.
fn reference(raster: &Raster, window: Rect, part: [f64; 4], size: u32) -> Vec<(f64, f64)> {
    let all = values(&raster.samples, raster.nodata);
    let bands = usize::from(raster.bands);
    let line = |start: f64, length: f64, most: u32, i: u32| -> Vec<f64> {
        let scale = length / f64::from(size);
        let (center, reach) = (start + (f64::from(i) + 0.5) * scale, scale.max(1.0));
        let weights: Vec<f64> =
            (0..most).map(|x| (1.0 - ((f64::from(x) + 0.5 - center) / reach).abs()).max(0.0)).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    };
    let mut out = Vec::new();
    for y in 0..size {
        let down = line(part[1], part[3], window.height, y);
        for x in 0..size {
            let across = line(part[0], part[2], window.width, x);
            for band in 0..bands {
                let (mut sum, mut lost) = (0.0, 0.0);
                for (j, v) in down.iter().enumerate().filter(|(_, v)| **v > 0.0) {
                    for (i, u) in across.iter().enumerate().filter(|(_, u)| **u > 0.0) {
                        let pixel = (window.y as usize + j) * raster.rect.width as usize + window.x as usize + i;
                        match all[pixel * bands + band] {
                            Some(value) => sum += v * u * value,
                            None => lost += v * u,
                        }
                    }
                }
                out.push((sum, lost));
            }
        }
    }
    out
}

fn assert_close(got: &Samples, nodata: Option<f32>, expected: &[(f64, f64)]) {
    let within = if got.bits() == 32 { 1e-3 } else { 0.51 };
    let got = values(got, nodata);
    assert_eq!(got.len(), expected.len());
    for (got, (sum, lost)) in got.iter().zip(expected) {
        match got {
            Some(got) => assert!((got - sum / (1.0 - lost)).abs() < within && *lost < 0.5 + 1e-6, "{got} {sum} {lost}"),
            None => assert!(*lost > 0.5 - 1e-6, "{sum} {lost}"),
        }
    }
}

/// `window` of 50 x 44 pixels shown at 17 and at 71 pixels, all of it and a part that starts between pixels.
fn shapes() -> Vec<(u32, Geometry)> {
    let window = Rect { x: 3, y: 2, width: 50, height: 44 };
    let plain = Geometry { resized: None, window, exact: None, flip: false };
    let exact = Geometry { exact: Some([3.3, 2.75, 49.5, 42.6]), ..plain };
    vec![(17, plain), (71, plain), (17, exact), (71, exact)]
}

fn cut(raster: &Raster, geometry: &Geometry, size: u32) -> Vec<u8> {
    let mut out = vec![0; (size * size) as usize * usize::from(raster.bands)];
    Resampler::default().view(raster, raster.rect, geometry, size, &mut out).unwrap();
    out
}

#[test]
fn a_window_of_the_same_size_is_copied_and_mirrored() {
    let image = raster(9, 7, 3);
    let window = Rect { x: 2, y: 1, width: 4, height: 4 };
    let plain = cut(&image, &Geometry { resized: None, window, exact: None, flip: false }, 4);
    let Samples::U8(all) = &image.samples else { unreachable!() };
    for y in 0..4 {
        assert_eq!(plain[y * 12..][..12], all[((y + 1) * 9 + 2) * 3..][..12]);
    }
    let flipped = cut(&image, &Geometry { resized: None, window, exact: None, flip: true }, 4);
    for (row, mirrored) in plain.chunks(12).zip(flipped.chunks(12)) {
        let pixels: Vec<&[u8]> = row.chunks(3).rev().collect();
        assert_eq!(pixels.concat(), mirrored);
    }
}

#[test]
fn a_window_of_a_resize_is_that_part_of_the_whole_resize() {
    let image = raster(120, 90, 3);
    let whole = Geometry {
        resized: Some((64, 64)),
        window: Rect { x: 0, y: 0, width: 64, height: 64 },
        exact: None,
        flip: false,
    };
    let all = cut(&image, &whole, 64);
    let window = Rect { x: 20, y: 31, width: 16, height: 16 };
    let part = cut(&image, &Geometry { window, ..whole }, 16);
    for y in 0..16 {
        assert_eq!(part[y * 48..][..48], all[((y + 31) * 64 + 20) * 3..][..48]);
    }
}

#[test]
fn bands_are_independent() {
    let image = raster(50, 40, 6);
    let geometry =
        Geometry { resized: None, window: Rect { x: 3, y: 4, width: 40, height: 30 }, exact: None, flip: true };
    let all = cut(&image, &geometry, 16);
    let Samples::U8(samples) = &image.samples else { unreachable!() };
    for band in 0..6 {
        let one: Vec<u8> = samples.iter().skip(band).step_by(6).copied().collect();
        let single = Raster { bands: 1, samples: Samples::U8(one), ..image };
        let expected: Vec<u8> = all.iter().skip(band).step_by(6).copied().collect();
        assert_eq!(cut(&single, &geometry, 16), expected);
    }
}

#[test]
fn sums_are_those_of_double_precision() {
    for bands in [1, 3, 4, 5, 8, 12, 13] {
        for bits in [16, 32] {
            let image = noise(60, 50, bands, bits);
            for (size, geometry) in shapes() {
                let [x, y, width, height] = geometry.exact.unwrap_or([3.0, 2.0, 50.0, 44.0]);
                for raster in [image.clone(), holed(image.clone(), 5)] {
                    let expected = reference(&raster, geometry.window, [x - 3.0, y - 2.0, width, height], size);
                    assert_close(&view(&raster, &geometry, size), raster.nodata, &expected);
                }
            }
        }
    }
}

#[test]
fn eight_bits_change_only_where_data_lack() {
    for bands in [1, 3, 4, 6] {
        let raster = holed(noise(60, 50, bands, 8), 31);
        for (size, geometry) in shapes() {
            let [x, y, width, height] = geometry.exact.unwrap_or([3.0, 2.0, 50.0, 44.0]);
            let expected = reference(&raster, geometry.window, [x - 3.0, y - 2.0, width, height], size);
            for flip in [false, true] {
                let geometry = Geometry { flip, ..geometry };
                let got = view(&raster, &geometry, size);
                let Samples::U8(plain) = view(&Raster { nodata: None, ..raster.clone() }, &geometry, size) else {
                    unreachable!()
                };
                let Samples::U8(mended) = &got else { unreachable!() };
                let (line, step) = (size as usize * usize::from(bands), usize::from(bands));
                let there = |i: usize| {
                    if flip { i / line * line + (line - step - i % line / step * step) + i % step } else { i }
                };
                let expected: Vec<_> = (0..expected.len()).map(|i| expected[there(i)]).collect();
                let mut kept = 0;
                for ((new, old), (_, lost)) in mended.iter().zip(&plain).zip(&expected) {
                    kept += usize::from(*lost == 0.0);
                    assert!(*lost > 0.0 || *new == if *old == 7 { 8 } else { *old });
                }
                assert!(kept * 4 > mended.len());
                // The resampler of eight bits rounds between its two passes.
                let near: Vec<_> = mended
                    .iter()
                    .zip(&expected)
                    .map(|(v, e)| if e.1 == 0.0 { (f64::from(*v), 0.0) } else { *e })
                    .collect();
                assert_close(&got, raster.nodata, &near);
            }
        }
    }
}

#[test]
fn sixteen_bits_are_within_one_of_fast_image_resize() {
    use fast_image_resize::images::{Image, ImageRef};
    use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
    let raster = noise(60, 50, 3, 16);
    let Samples::U16(all) = &raster.samples else { unreachable!() };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    for (size, part) in [(17, [0.0, 0.0, 60.0, 50.0]), (71, [3.3, 2.75, 49.5, 42.6]), (50, [5.0, 0.0, 50.0, 50.0])] {
        let mut out = vec![0; (size * size * 3 * 2) as usize];
        let image = ImageRef::new(60, 50, bytes_of(all), PixelType::U16x3).unwrap();
        let mut to = Image::from_slice_u8(size, size, &mut out, PixelType::U16x3).unwrap();
        let options = options.crop(part[0], part[1], part[2], part[3]);
        Resizer::new().resize(&image, &mut to, &options).unwrap();
        let geometry = Geometry { resized: None, window: raster.rect, exact: Some(part), flip: false };
        let Samples::U16(got) = view(&raster, &geometry, size) else { unreachable!() };
        for (got, theirs) in got.iter().zip(out.as_chunks().0) {
            assert!(got.abs_diff(u16::from_ne_bytes(*theirs)) <= 1);
        }
    }
}

#[test]
fn a_band_is_the_same_whatever_the_others_are() {
    for bits in [8, 16, 32] {
        for bands in [3, 4, 8, 13] {
            let raster = holed(noise(60, 50, bands, bits), 40);
            for (size, geometry) in shapes() {
                let geometry = Geometry { flip: size == 17, ..geometry };
                let all = view(&raster, &geometry, size);
                for band in 0..usize::from(bands) {
                    let step = usize::from(bands);
                    let of = |samples: &Samples| match samples {
                        Samples::U8(v) => Samples::U8(v.iter().skip(band).step_by(step).copied().collect()),
                        Samples::U16(v) => Samples::U16(v.iter().skip(band).step_by(step).copied().collect()),
                        Samples::F32(v) => Samples::F32(v.iter().skip(band).step_by(step).copied().collect()),
                    };
                    let one = Raster { bands: 1, samples: of(&raster.samples), ..raster };
                    assert_eq!(bits_of(&view(&one, &geometry, size)), bits_of(&of(&all)), "{bands} {bits}");
                    let none = |raster: &Raster| Raster { nodata: None, ..raster.clone() };
                    let plain = of(&view(&none(&raster), &geometry, size));
                    assert_eq!(bits_of(&view(&none(&one), &geometry, size)), bits_of(&plain), "{bands} {bits}");
                }
            }
        }
    }
}

fn bits_of(samples: &Samples) -> Vec<u32> {
    match samples {
        Samples::U8(values) => values.iter().map(|&v| u32::from(v)).collect(),
        Samples::U16(values) => values.iter().map(|&v| u32::from(v)).collect(),
        Samples::F32(values) => values.iter().map(|v| v.to_bits()).collect(),
    }
}

#[test]
fn no_data_far_away_changes_nothing() {
    for bits in [16, 32] {
        let whole = noise(60, 50, 4, bits);
        let mut lacks = whole.clone();
        match &mut lacks.samples {
            Samples::U16(values) => {
                values[0] = 7;
                lacks.nodata = Some(7.0);
            }
            Samples::F32(values) => values[0] = f32::NAN,
            Samples::U8(_) => unreachable!(),
        }
        let geometry = Geometry { resized: None, window: whole.rect, exact: None, flip: false };
        let (got, plain) = (bits_of(&view(&lacks, &geometry, 20)), bits_of(&view(&whole, &geometry, 20)));
        assert_ne!(got[0], plain[0]);
        let plain: Vec<u32> = plain.iter().map(|&v| if bits == 16 && v == 7 { 8 } else { v }).collect();
        assert_eq!(got[1..], plain[1..]);
    }
}

#[test]
fn a_valid_result_never_says_that_there_is_no_data() {
    for (nodata, samples, expected) in [
        (100.0, Samples::U16(vec![99, 101, 99, 101]), 101),
        (65535.0, Samples::U16(vec![65535, 65534, 65534, 65534]), 65534),
        (0.0, Samples::U16(vec![0, 0, 0, 9]), 0),
        (100.0, Samples::U8(vec![99, 101, 99, 101]), 101),
        (255.0, Samples::U8(vec![255, 254, 254, 254]), 254),
    ] {
        let rect = Rect { x: 0, y: 0, width: 2, height: 2 };
        let raster = Raster { nodata: Some(nodata), ..Raster::new(rect, 1, samples) };
        let geometry = Geometry { resized: None, window: rect, exact: None, flip: false };
        assert_eq!(bits_of(&view(&raster, &geometry, 1)), [expected]);
        // Unresampled, all stays as it is.
        assert_eq!(bits_of(&view(&raster, &geometry, 2)), bits_of(&raster.samples));
    }
}

#[test]
fn a_first_resize_gives_whole_values_and_no_data_in_between() {
    let resized = Geometry {
        resized: Some((40, 33)),
        window: Rect { x: 4, y: 3, width: 24, height: 24 },
        exact: None,
        flip: true,
    };
    for raster in [holed(noise(60, 50, 5, 16), 40), holed(noise(60, 50, 5, 32), 40), holed(noise(60, 50, 3, 8), 40)] {
        let first = Resampler::default().whole(&raster, raster.rect, (40, 33)).unwrap();
        assert_eq!(first.nodata.map(f32::to_bits), raster.nodata.map(f32::to_bits));
        let then = Geometry { resized: None, ..resized };
        assert_eq!(bits_of(&view(&raster, &resized, 24)), bits_of(&view(&first, &then, 24)));
        if first.samples.bits() == 16 {
            assert_eq!(bits_of(&view(&raster, &resized, 16)), bits_of(&view(&first, &then, 16)));
        }
    }
}

#[test]
fn infinite_values_stay_where_they_are() {
    let rect = Rect { x: 0, y: 0, width: 4, height: 1 };
    let raster = Raster::new(rect, 1, Samples::F32(vec![1.0, f32::INFINITY, 2.0, 3.0]));
    let Samples::F32(got) = Resampler::default().whole(&raster, rect, (4, 2)).unwrap().samples else { unreachable!() };
    assert_eq!(got, [1.0, f32::INFINITY, 2.0, 3.0].repeat(2));
}

/// `cargo test --release -p geossl-core resize -- --ignored --nocapture` prints milliseconds a view.
#[test]
#[ignore = "prints timings, for people"]
fn timings() {
    for (bands, bits) in [(3, 8), (3, 16), (4, 16), (8, 16), (12, 16), (13, 16), (8, 32), (12, 8)] {
        for (side, lacking) in [(400, false), (400, true), (150, false)] {
            let mut raster = noise(512, 512, bands, bits);
            if lacking {
                raster = holed(raster, 1009);
            }
            let window = Rect { x: 50, y: 60, width: side, height: side };
            let geometry = Geometry { resized: None, window, exact: None, flip: true };
            let mut out = vec![0; 224 * 224 * usize::from(bands) * usize::from(bits / 8)];
            let mut resampler = Resampler::default();
            let best = (0..100)
                .map(|_| {
                    let started = std::time::Instant::now();
                    resampler.view(&raster, raster.rect, &geometry, 224, &mut out).unwrap();
                    started.elapsed().as_secs_f64() * 1e3
                })
                .fold(f64::INFINITY, f64::min);
            println!("{bands:2} bands of {bits:2} bits, {side} to 224, holes: {lacking:5} {best:.3} ms");
        }
    }
}
