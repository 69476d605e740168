//! Against formulas, and against itself.

use super::*;
use crate::color::UNCHANGED;

fn noise(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

/// Rounding only: nothing is normalised.
fn plain(bands: usize) -> Normalize {
    Normalize { mean: vec![0.0; bands], std: vec![1.0; bands] }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()
}

fn run(view: View<'_>, color: &[f32; COLOR_PARAMS], normalize: &Normalize) -> Vec<f32> {
    let mut out = vec![0; view.size * view.size * view.bands * 4];
    Augmenter::default().run(view, color, &vec![1.0; view.bands], normalize, &mut out);
    floats(&out)
}

#[test]
fn avx2_and_portable_code_give_the_same_bits() {
    for (size, bands, bits) in [(37, 3, 8), (32, 3, 16), (19, 1, 8), (20, 8, 16), (20, 3, 32), (20, 5, 32)] {
        let data = pierced(size, bands, bits);
        let view = View { data: &data, size, bands, bits, nodata: None };
        let normalize = Normalize { mean: vec![0.4; bands], std: vec![0.3; bands] };
        let nodata = [None, Some(9.0)];
        for (order, nodata) in (-1..24).flat_map(|order| nodata.map(|nodata| (order, nodata))) {
            let view = View { nodata, ..view };
            let color = [order as f32, 1.3, 0.7, 1.4, 0.07, f32::from(order % 5 == 0), (order % 3) as f32 * 0.6];
            let mut portable = vec![0; size * size * bands * 4];
            Augmenter::default().run_here(view, &color, &vec![1.0; bands], &normalize, &mut portable);
            let detected = run(view, &color, &normalize);
            assert!(floats(&portable).iter().zip(&detected).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
fn parameters_that_change_nothing_only_normalise() {
    for (bands, bits) in [(1, 8), (3, 8), (3, 16), (4, 8), (8, 16)] {
        let data = noise(25 * 25 * bands * usize::from(bits / 8));
        let normalize = Normalize {
            mean: (0..bands).map(|i| 0.1 * i as f32).collect(),
            std: (0..bands).map(|i| 0.2 + 0.1 * i as f32).collect(),
        };
        let got = run(View { data: &data, size: 25, bands, bits, nodata: None }, &UNCHANGED, &normalize);
        for (i, v) in got.iter().enumerate() {
            let unit = match bits {
                8 => f64::from(data[i]) / 255.0,
                _ => f64::from(u16::from_ne_bytes([data[2 * i], data[2 * i + 1]])) / 65535.0,
            };
            let (mean, std) = (f64::from(normalize.mean[i % bands]), f64::from(normalize.std[i % bands]));
            assert!((f64::from(*v) - (unit - mean) / std).abs() < 1e-5);
        }
    }
}

#[test]
fn contrast_is_about_the_mean_gray_or_each_bands_own_mean() {
    let color = |contrast| [6.0, 1.0, contrast, 1.0, 0.0, 0.0, 0.0];
    let data = noise(40 * 40 * 3);
    let view = View { data: &data, size: 40, bands: 3, bits: 8, nodata: None };
    let gray = run(view, &color(0.0), &plain(3));
    let mean = |band: usize| data.iter().skip(band).step_by(3).map(|&v| f64::from(v)).sum::<f64>() / 1600.0 / 255.0;
    let expected = 0.2989 * mean(0) + 0.587 * mean(1) + 0.114 * mean(2);
    assert!(gray.iter().all(|v| (f64::from(*v) - expected).abs() < 1e-5));
    let own = run(View { data: &data[..40 * 40 * 2], bands: 2, ..view }, &color(0.0), &plain(2));
    for band in 0..2 {
        let all = data[..3200].iter().skip(band).step_by(2).map(|&v| f64::from(v)).sum::<f64>() / 1600.0 / 255.0;
        assert!(own.iter().skip(band).step_by(2).all(|v| (f64::from(*v) - all).abs() < 1e-5));
    }
}

#[test]
fn buffers_of_a_larger_view_do_not_show_in_a_smaller_one() {
    let data = noise(64 * 64 * 3);
    let color = [3.0, 1.2, 0.8, 1.1, 0.05, 0.0, 1.0];
    let mut used = Augmenter::default();
    used.run(
        View { data: &data, size: 64, bands: 3, bits: 8, nodata: None },
        &color,
        &[1.0; 3],
        &plain(3),
        &mut vec![0; 64 * 64 * 12],
    );
    let small = View { data: &data[..20 * 20 * 3], size: 20, bands: 3, bits: 8, nodata: None };
    let mut out = vec![0; 20 * 20 * 12];
    used.run(small, &color, &[1.0; 3], &plain(3), &mut out);
    assert_eq!(floats(&out), run(small, &color, &plain(3)));
}

/// Bytes of samples of `bits`, of which every fifth or so is without data: 9, or NaN.
fn pierced(size: usize, bands: usize, bits: u8) -> Vec<u8> {
    let samples = noise(size * size * bands * 2);
    let each =
        samples.as_chunks::<2>().0.iter().enumerate().map(|(i, b)| ((i * 7919 % 23) < 5, u16::from_ne_bytes(*b)));
    match bits {
        8 => each.map(|(lacks, v)| if lacks { 9 } else { (v >> 8) as u8 | 16 }).collect(),
        16 => each.flat_map(|(lacks, v)| if lacks { 9 } else { v | 16 }.to_ne_bytes()).collect(),
        _ => each
            .flat_map(|(lacks, v)| if lacks { f32::NAN } else { f32::from(v) * 0.01 - 200.0 }.to_ne_bytes())
            .collect(),
    }
}

/// The samples that `pierced` has, band by band, integers scaled to 0..1; None where there is no data.
fn unpierced(data: &[u8], bands: usize, bits: u8) -> Vec<Vec<Option<f64>>> {
    let all: Vec<Option<f64>> = match bits {
        8 => data.iter().map(|&v| (v != 9).then_some(f64::from(v) / 255.0)).collect(),
        16 => {
            let values = data.as_chunks().0.iter().map(|b| u16::from_ne_bytes(*b));
            values.map(|v| (v != 9).then_some(f64::from(v) / 65535.0)).collect()
        }
        _ => floats(data).iter().map(|v| (!v.is_nan()).then_some(f64::from(*v))).collect(),
    };
    (0..bands).map(|band| all.iter().skip(band).step_by(bands).copied().collect()).collect()
}

#[test]
fn bands_have_gains_and_samples_without_data_no_part() {
    let (size, sigma) = (21, 1.2_f32);
    let weight = |d: isize| if d.abs() > 4 { 0.0 } else { (-0.5 * (d as f64 / f64::from(sigma)).powi(2)).exp() };
    let mirrored = |i: isize| {
        let i = i.unsigned_abs();
        i.min(2 * (size - 1) - i)
    };
    for bands in [1, 4, 8] {
        for bits in [8, 16, 32] {
            let data = pierced(size, bands, bits);
            let nodata = (bits < 32).then_some(9.0);
            let view = View { data: &data, size, bands, bits, nodata };
            let gains: Vec<f32> = (0..bands).map(|b| if b == 2 { 0.0 } else { 0.9 + 0.05 * b as f32 }).collect();
            let normalize = Normalize { mean: vec![0.4; bands], std: vec![0.3; bands] };
            let limits = if bits == 32 { (f64::NEG_INFINITY, f64::INFINITY) } else { (0.0, 1.0) };
            for blur in [0.0, sigma] {
                let mut out = vec![0; size * size * bands * 4];
                let color = [0.0, 1.3, 0.7, 1.0, 0.0, 0.0, blur];
                Augmenter::default().run(view, &color, &gains, &normalize, &mut out);
                let got = floats(&out);
                for (band, values) in unpierced(&data, bands, bits).iter().enumerate() {
                    if gains[band] == 0.0 {
                        assert!(got.iter().skip(band).step_by(bands).all(|v| *v == 0.0));
                        continue;
                    }
                    let clamp = |v: f64| v.clamp(limits.0, limits.1);
                    let bright: Vec<_> = values
                        .iter()
                        .map(|v| v.map(|v| clamp(clamp(v * f64::from(gains[band])) * f64::from(1.3_f32))))
                        .collect();
                    let known: Vec<f64> = bright.iter().flatten().copied().collect();
                    let mean = known.iter().sum::<f64>() / known.len() as f64;
                    let factor = f64::from(0.7_f32);
                    let jittered: Vec<_> =
                        bright.iter().map(|v| v.map(|v| clamp(v * factor + mean * (1.0 - factor)))).collect();
                    for (i, v) in jittered.iter().enumerate() {
                        let (mut sum, mut share) = (0.0, 0.0);
                        let reach = if blur > 0.0 { 4 } else { 0 };
                        for (dy, dx) in (-reach..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dy, dx))) {
                            let (y, x) = (mirrored((i / size) as isize + dy), mirrored((i % size) as isize + dx));
                            if let Some(v) = jittered[y * size + x] {
                                sum += weight(dy) * weight(dx) * v;
                                share += weight(dy) * weight(dx);
                            }
                        }
                        let want = if v.is_some() { (sum / share - 0.4) / 0.3 } else { 0.0 };
                        let within = if bits == 32 { 5e-3 } else { 1e-5 };
                        assert!((f64::from(got[i * bands + band]) - want).abs() < within, "{bits} {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_pixel_that_lacks_a_band_has_no_colour() {
    let data = pierced(20, 3, 8);
    let view = View { data: &data, size: 20, bands: 3, bits: 8, nodata: Some(9.0) };
    let bands = unpierced(&data, 3, 8);
    let lacks = |i: usize| bands.iter().any(|band| band[i].is_none());
    // Brightness alone is each band's own, hue and grayscale are not.
    for (color, mixes) in
        [([0.0, 1.1, 1.0, 1.0, 0.0, 0.0, 0.0], true), ([-1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0], true), (UNCHANGED, false)]
    {
        let got = run(view, &color, &Normalize { mean: vec![2.0; 3], std: vec![1.0; 3] });
        for (i, pixel) in got.chunks(3).enumerate() {
            for (band, v) in pixel.iter().enumerate() {
                assert_eq!(*v == 0.0, bands[band][i].is_none() || (mixes && lacks(i)));
            }
        }
    }
    // An absent band is black, not without data.
    let absent: Vec<u8> = (0..20 * 20).flat_map(|i| [100 + (i % 50) as u8, 9, 90]).collect();
    let mut out = vec![0; 20 * 20 * 12];
    let gray = [-1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0];
    Augmenter::default().run(View { data: &absent, ..view }, &gray, &[1.0, 0.0, 1.0], &plain(3), &mut out);
    for (i, pixel) in floats(&out).chunks(3).enumerate() {
        let want = (0.2989 * f32::from(absent[3 * i]) + 0.114 * 90.0) / 255.0;
        assert!((pixel[0] - want).abs() < 1e-6 && pixel[1] == 0.0 && (pixel[2] - want).abs() < 1e-6);
    }
}

#[test]
fn without_samples_that_lack_data_the_bits_are_the_plain_ones() {
    for (bands, color) in [(3, [9.0, 1.2, 0.8, 1.1, 0.05, 0.0, 1.0]), (8, [0.0, 1.2, 0.8, 1.0, 0.0, 0.0, 1.0])] {
        let data: Vec<u8> = noise(30 * 30 * bands).iter().map(|v| v | 16).collect();
        let view = View { data: &data, size: 30, bands, bits: 8, nodata: None };
        assert_eq!(run(view, &color, &plain(bands)), run(View { nodata: Some(9.0), ..view }, &color, &plain(bands)));
    }
}

/// `cargo test --release -p geossl-core augment -- --ignored --nocapture` prints milliseconds a view.
#[test]
#[ignore = "prints timings, for people"]
fn timings() {
    let data = noise(224 * 224 * 3);
    let view = View { data: &data, size: 224, bands: 3, bits: 8, nodata: None };
    let (mut augmenter, mut out) = (Augmenter::default(), vec![0; 224 * 224 * 12]);
    for (name, color) in [
        ("normalise alone", UNCHANGED),
        ("jitter", [9.0, 1.2, 0.8, 1.1, 0.05, 0.0, 0.0]),
        ("jitter, gray", [9.0, 1.2, 0.8, 1.1, 0.05, 1.0, 0.0]),
        ("jitter, gray, blur 1.0", [9.0, 1.2, 0.8, 1.1, 0.05, 1.0, 1.0]),
        ("jitter, gray, blur 2.0", [9.0, 1.2, 0.8, 1.1, 0.05, 1.0, 2.0]),
    ] {
        for portable in [false, true] {
            let best = (0..200)
                .map(|_| {
                    let started = std::time::Instant::now();
                    if portable {
                        augmenter.run_here(view, &color, &[1.0; 3], &plain(3), &mut out);
                    } else {
                        augmenter.run(view, &color, &[1.0; 3], &plain(3), &mut out);
                    }
                    started.elapsed().as_secs_f64() * 1e3
                })
                .fold(f64::INFINITY, f64::min);
            let kind = if portable { "portable" } else { "detected" };
            println!("{name:24} {kind} {best:.3} ms");
        }
    }
}
