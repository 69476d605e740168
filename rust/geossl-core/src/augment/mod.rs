//! Colour jitter, grayscale, blur and normalisation of one view, for machines without a GPU to do it.
//!
//! The maths is that of `geossl.augment`, the device's version, and the parameters are those of `color`. A view is
//! worked on in blocks that stay in the first-level cache: a block is read, goes through every step up to the
//! contrast, which has to know the whole image's mean, then through those after it, and is written, normalised. On the
//! way, samples without data are NaN.

mod blur;
mod steps;
#[cfg(test)]
mod tests;

use std::ops::Range;

use self::blur::{Blur, wide};
use self::steps::Step;
use crate::color::COLOR_PARAMS;

/// Pixels of a block.
const BLOCK: usize = 512;

/// Mean and standard deviation of each band: of integers, of values scaled to 0..1; of floats, of their own values.
#[derive(Debug, Clone)]
pub struct Normalize {
    /// Mean, one a band.
    pub mean: Vec<f32>,
    /// Standard deviation, one a band, above 0.
    pub std: Vec<f32>,
}

/// A view as the resampler writes it: `size` x `size` pixels, row after row, bands within the pixel, samples of
/// `bits` (8 or 16, or 32, a float) in the machine's byte order.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The samples.
    pub data: &'a [u8],
    /// Pixels of a side.
    pub size: usize,
    /// Samples of a pixel.
    pub bands: usize,
    /// Bits of a sample.
    pub bits: u8,
    /// The value of integers without data, if there may be any. Floats without data are NaN.
    pub nodata: Option<f32>,
}

/// The buffers that a view is worked on in; one a thread.
#[derive(Default)]
pub struct Augmenter {
    /// The view, band by band, each `stride` after the one before.
    planes: Vec<f32>,
    /// One blurred row of each band.
    rows: Vec<f32>,
    blur: Blur,
}

impl Augmenter {
    /// Writes the view to `out`, its bands multiplied by `gains` and its colours changed by `color` (see `color::draw`
    /// and `color::gains`), blurred and normalised, as float32 in the machine's byte order, in the layout of the view.
    /// Samples without data, and bands of gain 0, become 0. With AVX2 and without, the bits are the same.
    pub fn run(
        &mut self,
        view: View<'_>,
        color: &[f32; COLOR_PARAMS],
        gains: &[f32],
        normalize: &Normalize,
        out: &mut [u8],
    ) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: this processor has AVX2.
            return unsafe { self.run_avx2(view, color, gains, normalize, out) };
        }
        self.run_here(view, color, gains, normalize, out);
    }

    // AVX2 doubles the vectors. It has no fused multiply-add, which would round otherwise.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn run_avx2(
        &mut self,
        view: View<'_>,
        color: &[f32; COLOR_PARAMS],
        gains: &[f32],
        normalize: &Normalize,
        out: &mut [u8],
    ) {
        self.run_here(view, color, gains, normalize, out);
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // compiled once for each kind of machine, with all that it calls
    #[allow(clippy::float_cmp)] // a gain of exactly 1
    fn run_here(
        &mut self,
        view: View<'_>,
        color: &[f32; COLOR_PARAMS],
        gains: &[f32],
        normalize: &Normalize,
        out: &mut [u8],
    ) {
        let View { size, bands, .. } = view;
        let (pixels, stride, sigma) = (size * size, stride(size), color[COLOR_PARAMS - 1]);
        let masked = view.nodata.is_some() || view.bits == 32;
        let limits = if view.bits == 32 { steps::ALL } else { steps::UNIT };
        let scales = scales(normalize, gains);
        let steps = steps::plan(color, bands, masked);
        let contrast = steps.iter().position(|step| matches!(step, Step::Contrast(_)));
        let (before, after) = steps.split_at(contrast.unwrap_or(steps.len()));
        let blurs = sigma > 0.0;
        self.planes.resize(bands * stride, 0.0);
        let mut sums = vec![(0.0_f64, 0); bands];
        for range in blocks(pixels) {
            let mut block = cut(&mut self.planes, stride, &range);
            match view.bits {
                8 => unpack::<1>(view, &range, &mut block),
                16 => unpack::<2>(view, &range, &mut block),
                _ => unpack::<4>(view, &range, &mut block),
            }
            for (values, gain) in block.iter_mut().zip(gains) {
                if *gain == 0.0 {
                    // A band that is not there has no data to lack.
                    values.fill(0.0);
                } else if *gain != 1.0 {
                    steps::multiply(values, *gain, limits);
                }
            }
            steps::apply(before, &[], limits, &mut block);
            if contrast.is_some() {
                for (total, values) in sums.iter_mut().zip(&block) {
                    let (sum, count) = steps::sum(values, masked);
                    *total = (total.0 + sum, total.1 + count);
                }
            } else if !blurs {
                write(&block, &scales, &mut out[range_of(&range, bands)]);
            }
        }
        if contrast.is_some() {
            let means: Vec<f32> = sums.iter().map(|&(sum, count)| (sum / count.max(1) as f64) as f32).collect();
            let centers = steps::centers(&means);
            for range in blocks(pixels) {
                let mut block = cut(&mut self.planes, stride, &range);
                steps::apply(after, &centers, limits, &mut block);
                if !blurs {
                    write(&block, &scales, &mut out[range_of(&range, bands)]);
                }
            }
        }
        if blurs {
            self.blur(sigma, size, masked, &scales, out);
        }
    }

    /// Blurs the planes and writes them.
    #[inline(always)]
    #[allow(clippy::inline_always)] // as above
    fn blur(&mut self, sigma: f32, size: usize, masked: bool, scales: &[Scale], out: &mut [u8]) {
        let (stride, bands) = (stride(size), scales.len());
        self.blur.prepare(sigma, size);
        self.rows.resize(bands * wide(size), 0.0);
        let lacking: Vec<bool> = self
            .planes
            .chunks_exact(stride)
            .map(|plane| masked && plane[..size * size].iter().fold(false, |any, v| any | v.is_nan()))
            .collect();
        for y in 0..size {
            let planes = self.planes.chunks_exact(stride);
            for ((row, plane), lacking) in self.rows.chunks_exact_mut(wide(size)).zip(planes).zip(&lacking) {
                if *lacking {
                    self.blur.row_valid(plane, size, y, row);
                } else {
                    self.blur.row(plane, size, y, row);
                }
            }
            let row = cut(&mut self.rows, wide(size), &(0..size));
            write(&row, scales, &mut out[range_of(&(y * size..(y + 1) * size), bands)]);
        }
    }
}

/// What is taken from a band's values, and what the rest is multiplied by.
#[derive(Clone, Copy)]
struct Scale {
    mean: f32,
    factor: f32,
}

fn scales(normalize: &Normalize, gains: &[f32]) -> Vec<Scale> {
    let bands = normalize.mean.iter().zip(&normalize.std).zip(gains);
    bands
        .map(
            |((&mean, std), &gain)| {
                if gain == 0.0 { Scale { mean: 0.0, factor: 0.0 } } else { Scale { mean, factor: 1.0 / std } }
            },
        )
        .collect()
}

/// Values from one plane's start to the next's, with the room that the blur asks for.
fn stride(size: usize) -> usize {
    wide(size * size + wide(size))
}

fn blocks(pixels: usize) -> impl Iterator<Item = Range<usize>> {
    (0..pixels).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(pixels))
}

/// The bytes of pixels in the output.
fn range_of(pixels: &Range<usize>, bands: usize) -> Range<usize> {
    let step = bands * size_of::<f32>();
    pixels.start * step..pixels.end * step
}

/// The part of each plane.
fn cut<'a>(planes: &'a mut [f32], stride: usize, range: &Range<usize>) -> Vec<&'a mut [f32]> {
    planes.chunks_exact_mut(stride).map(|plane| &mut plane[range.clone()]).collect()
}

/// Reads the pixels of `range` as values, of integers 0..1, band by band. `BYTES` is the size of a sample.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
#[allow(clippy::float_cmp)] // of equal integers
fn unpack<const BYTES: usize>(view: View<'_>, range: &Range<usize>, block: &mut [&mut [f32]]) {
    let value = |sample: &[u8; BYTES]| match BYTES {
        1 => f32::from(sample[0]) * (1.0 / 255.0),
        2 => f32::from(u16::from_ne_bytes([sample[0], sample[BYTES - 1]])) * (1.0 / 65535.0),
        _ => f32::from_ne_bytes([sample[0], sample[BYTES / 4], sample[BYTES / 2], sample[BYTES - 1]]),
    };
    let samples = &view.data.as_chunks::<BYTES>().0[range.start * view.bands..range.end * view.bands];
    if let [red, green, blue] = block {
        for (((pixel, r), g), b) in
            samples.as_chunks::<3>().0.iter().zip(red.iter_mut()).zip(green.iter_mut()).zip(blue.iter_mut())
        {
            [*r, *g, *b] = [value(&pixel[0]), value(&pixel[1]), value(&pixel[2])];
        }
    } else {
        for (band, values) in block.iter_mut().enumerate() {
            for (pixel, v) in samples.chunks_exact(view.bands).zip(values.iter_mut()) {
                *v = value(&pixel[band]);
            }
        }
    }
    if let (1 | 2, Some(nodata)) = (BYTES, view.nodata) {
        // No two integers are scaled to the same value.
        let nodata = nodata * if BYTES == 1 { 1.0 / 255.0 } else { 1.0 / 65535.0 };
        for values in block {
            values.iter_mut().for_each(|v| *v = if *v == nodata { f32::NAN } else { *v });
        }
    }
}

/// Writes planes normalised, bands within the pixel, and 0 where there is no data.
#[inline(always)]
#[allow(clippy::inline_always)] // as above
fn write(block: &[&mut [f32]], scales: &[Scale], out: &mut [u8]) {
    let value = |v: f32, scale: Scale| {
        let v = (v - scale.mean) * scale.factor;
        (if v.is_nan() { 0.0 } else { v }).to_ne_bytes()
    };
    let (out, _) = out.as_chunks_mut::<{ size_of::<f32>() }>();
    if let ([red, green, blue], [s0, s1, s2]) = (block, scales) {
        for (((o, r), g), b) in out.as_chunks_mut::<3>().0.iter_mut().zip(red.iter()).zip(green.iter()).zip(blue.iter())
        {
            *o = [value(*r, *s0), value(*g, *s1), value(*b, *s2)];
        }
        return;
    }
    for (band, (values, scale)) in block.iter().zip(scales).enumerate() {
        for (pixel, v) in out.chunks_exact_mut(block.len()).zip(values.iter()) {
            pixel[band] = value(*v, *scale);
        }
    }
}
