//! The same resampling in floats: for samples of more than eight bits, and for images that lack data in places.
//!
//! A row of the output is summed downwards over all columns and bands at once, then across, the bands of a pixel at
//! once. Every sum runs over its taps in their order, so a band comes out the same whatever the others are.

use super::taps::Taps;
use super::{Job, Pixels};

/// Samples that are summed downwards at a time: enough vectors to keep the processor busy, few enough for its
/// registers.
const WIDE: usize = 32;
/// Bands that are summed across at a time. A vector may reach over its pixel, into what is written next.
const LANES: usize = 8;
const FEW: usize = 4;
/// A float of this size has no fraction, and its lowest bits are those of the integer that was added to it.
const WHOLE: f32 = 8_388_608.0;

/// Weights and rows, kept from view to view.
#[derive(Default)]
pub struct Linear {
    across: Taps,
    down: Taps,
    /// Whether each row of the source lacks data anywhere.
    lacking: Vec<bool>,
    /// A row summed downwards, then across.
    sums: [Vec<f32>; 2],
    /// The weights of samples without data in these sums: 0, to the bit, where there are none.
    missing: [Vec<f32>; 2],
}

impl Linear {
    /// Resamples as the job says. Of samples of eight bits, `out` holds them resampled without regard to no data,
    /// not flipped, and only those change that samples without data have a part in.
    ///
    /// Samples without data have no part in the sums, and the other weights grow in proportion. There is no data
    /// where less than half of the weight is left. With AVX2 and without, the bits are the same.
    pub fn run(&mut self, source: Pixels<'_>, job: &Job, out: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: this processor has AVX2.
            return unsafe { self.run_avx2(source, job, out) };
        }
        self.run_here(source, job, out);
    }

    // AVX2 doubles the vectors. It has no fused multiply-add, which would round otherwise.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn run_avx2(&mut self, source: Pixels<'_>, job: &Job, out: &mut [u8]) {
        self.run_here(source, job, out);
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // compiled once for each kind of machine, with all that it calls
    fn run_here(&mut self, source: Pixels<'_>, job: &Job, out: &mut [u8]) {
        match source.bytes {
            1 => self.resample::<1>(source, job, out),
            2 => self.resample::<2>(source, job, out),
            _ => self.resample::<4>(source, job, out),
        }
    }

    /// `BYTES` is the size of a sample.
    #[inline(always)]
    #[allow(clippy::inline_always)] // as above
    fn resample<const BYTES: usize>(&mut self, source: Pixels<'_>, job: &Job, out: &mut [u8]) {
        let (area, bands) = (job.area, source.bands);
        let [left, top, width, height] = job.part.unwrap_or(job.whole());
        let columns = self.across.prepare(area.width, (left, width), job.target.0, job.flip && BYTES > 1);
        let rows = self.down.prepare(area.height, (top, height), job.target.1, false);
        let (samples, _) = source.data.as_chunks::<BYTES>();
        let (x, y, length) = (area.x as usize + columns.start, area.y as usize + rows.start, columns.len() * bands);
        let row = |i: usize| &samples[((y + i) * source.width as usize + x) * bands..][..length];
        let nodata = Nodata::of::<BYTES>(source.nodata);
        self.lacking.clear();
        if source.nodata.is_some() {
            // A loop of its own: as an iterator's, it would be compiled without AVX2.
            for i in 0..rows.len() {
                self.lacking.push(nodata.any(row(i)));
            }
        }
        let line = job.target.0 as usize * bands;
        for [before, after] in [&mut self.sums, &mut self.missing] {
            before.resize(length + LANES, 0.0);
            after.resize(line + LANES, 0.0);
        }
        let ([sums, all], [missing, lost]) = (&mut self.sums, &mut self.missing);
        let mut lines = Vec::new();
        for (i, out) in out.as_chunks_mut::<BYTES>().0.chunks_exact_mut(line).enumerate() {
            let (first, weights) = self.down.at(i);
            lines.clear();
            lines.extend((first..first + weights.len()).map(row));
            if self.lacking.get(first..first + weights.len()).is_some_and(|rows| rows.contains(&true)) {
                down::<BYTES, true>(weights, &lines, nodata, &mut sums[..length], &mut missing[..length]);
                across(&self.across, bands, sums, all);
                across(&self.across, bands, missing, lost);
                for ((out, sum), lost) in out.iter_mut().zip(all.iter()).zip(lost.iter()) {
                    let plain = if BYTES == 1 && *lost == 0.0 { value(out) } else { sum / (1.0 - lost) };
                    let valid = nodata.avoid::<BYTES>(plain);
                    *out = bytes(if *lost > 0.5 { nodata.value } else { valid });
                }
            } else if BYTES > 1 {
                down::<BYTES, false>(weights, &lines, nodata, &mut sums[..length], &mut []);
                across(&self.across, bands, sums, all);
                for (out, sum) in out.iter_mut().zip(all.iter()) {
                    *out = bytes(nodata.avoid::<BYTES>(*sum));
                }
            } else {
                for out in out {
                    *out = bytes(nodata.avoid::<BYTES>(value(out)));
                }
            }
        }
    }
}

/// The value that stands for no data, and the one that a result becomes which happens to equal it.
#[derive(Clone, Copy)]
struct Nodata {
    /// NaN of floats, and of integers where all have data.
    value: f32,
    /// The value next to it.
    other: f32,
    /// The largest value of an integer.
    top: f32,
}

impl Nodata {
    fn of<const BYTES: usize>(value: Option<f32>) -> Self {
        let top = if BYTES == 1 { 255.0 } else { 65535.0 };
        let value = value.filter(|_| BYTES < 4).unwrap_or(f32::NAN);
        Self { value, other: if value < top { value + 1.0 } else { value - 1.0 }, top }
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // as above
    #[allow(clippy::float_cmp)] // whole numbers
    fn is<const BYTES: usize>(self, v: f32) -> bool {
        if BYTES == 4 { v.is_nan() } else { v == self.value }
    }

    /// Whether any of a row's samples has no data.
    #[inline(always)]
    #[allow(clippy::inline_always)] // as above
    fn any<const BYTES: usize>(self, row: &[[u8; BYTES]]) -> bool {
        // Without a way out in the midst, this becomes vector instructions.
        row.iter().fold(false, |any, sample| any | self.is::<BYTES>(value(sample)))
    }

    /// The value of a sample with data, of integers rounded half up; it never says that there is none.
    #[inline(always)]
    #[allow(clippy::inline_always)] // as above
    #[allow(clippy::float_cmp)] // whole numbers
    fn avoid<const BYTES: usize>(self, v: f32) -> f32 {
        if BYTES == 4 {
            return v;
        }
        let v = if v > self.top { self.top } else { v } + 0.5;
        // Not `floor`, which is a call where there is no instruction for it.
        let near = (v + WHOLE) - WHOLE;
        let whole = if near > v { near - 1.0 } else { near };
        if whole == self.value { self.other } else { whole }
    }
}

/// The value of a sample of 8, 16 or 32 bits.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn value<const BYTES: usize>(sample: &[u8; BYTES]) -> f32 {
    match BYTES {
        1 => f32::from(sample[0]),
        2 => f32::from(u16::from_ne_bytes([sample[0], sample[BYTES - 1]])),
        _ => f32::from_ne_bytes([sample[0], sample[BYTES / 4], sample[BYTES / 2], sample[BYTES - 1]]),
    }
}

/// The other way; of integers from their value.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn bytes<const BYTES: usize>(v: f32) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    match BYTES {
        // Not `as`, which looks after values that there are none of, one by one.
        1 => out[0] = (v + WHOLE).to_bits() as u8,
        2 => out.copy_from_slice(&((v + WHOLE).to_bits() as u16).to_ne_bytes()),
        _ => out.copy_from_slice(&v.to_ne_bytes()),
    }
    out
}

/// Sums rows by their weights, sample by sample. If `MASKED`, those without data are left out, and `missing` gets
/// the sum of their weights.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn down<const BYTES: usize, const MASKED: bool>(
    weights: &[f32],
    rows: &[&[[u8; BYTES]]],
    nodata: Nodata,
    sums: &mut [f32],
    missing: &mut [f32],
) {
    let mut start = 0;
    while start + WIDE <= sums.len() {
        down_at::<BYTES, MASKED, WIDE>(weights, rows, nodata, start, sums, missing);
        start += WIDE;
    }
    for start in start..sums.len() {
        down_at::<BYTES, MASKED, 1>(weights, rows, nodata, start, sums, missing);
    }
}

#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn down_at<const BYTES: usize, const MASKED: bool, const COUNT: usize>(
    weights: &[f32],
    rows: &[&[[u8; BYTES]]],
    nodata: Nodata,
    start: usize,
    sums: &mut [f32],
    missing: &mut [f32],
) {
    let (mut sum, mut lost) = ([0.0; COUNT], [0.0; COUNT]);
    for (weight, row) in weights.iter().zip(rows) {
        for ((sum, lost), sample) in sum.iter_mut().zip(&mut lost).zip(&row[start..start + COUNT]) {
            let v = value(sample);
            if MASKED {
                // A choice by bits: written as one, it becomes a branch.
                let none = u32::from(nodata.is::<BYTES>(v)).wrapping_neg();
                *sum += weight * f32::from_bits(v.to_bits() & !none);
                *lost += f32::from_bits(weight.to_bits() & none);
            } else {
                *sum += weight * v;
            }
        }
    }
    sums[start..start + COUNT].copy_from_slice(&sum);
    if MASKED {
        missing[start..start + COUNT].copy_from_slice(&lost);
    }
}

/// Sums pixels by their weights, along a row.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn across(taps: &Taps, bands: usize, row: &[f32], out: &mut [f32]) {
    if bands <= FEW { across_by::<FEW>(taps, bands, row, out) } else { across_by::<LANES>(taps, bands, row, out) }
}

#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn across_by<const COUNT: usize>(taps: &Taps, bands: usize, row: &[f32], out: &mut [f32]) {
    for x in 0..(out.len() - LANES) / bands {
        let (first, weights) = taps.at(x);
        for band in (0..bands).step_by(COUNT) {
            let mut sum = [0.0; COUNT];
            for (k, weight) in weights.iter().enumerate() {
                let pixel = &row[(first + k) * bands + band..][..COUNT];
                for (sum, v) in sum.iter_mut().zip(pixel) {
                    *sum += weight * v;
                }
            }
            out[x * bands + band..][..COUNT].copy_from_slice(&sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crop::Rect;

    #[test]
    fn avx2_and_portable_code_give_the_same_bits() {
        for bytes in [1, 2, 4] {
            for bands in [3, 8, 13] {
                // Bytes of any value: of floats, every size, some infinite and some NaN.
                let data: Vec<u8> = (0..60 * 50 * bands * bytes)
                    .map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 11) as u8)
                    .collect();
                let source = Pixels { data: &data, width: 60, height: 50, bands, bytes, nodata: Some(7.0) };
                let area = Rect { x: 0, y: 0, width: 60, height: 50 };
                let job = Job { area, part: Some([1.3, 0.2, 50.0, 49.8]), target: (37, 41), flip: true };
                let mut outs = [(); 2].map(|()| vec![9; 37 * 41 * bands * bytes]);
                Linear::default().run(source, &job, &mut outs[0]);
                Linear::default().run_here(source, &job, &mut outs[1]);
                assert!(outs[0] == outs[1]);
            }
        }
    }
}
