//! From rows of a block to rows of the output: the wanted bands, as the type that they are decoded to.

use crate::decode::Samples;
use crate::decode::dtype::Dtype;

/// Where samples are written to.
pub enum Pixels<'a> {
    U8(&'a mut [u8]),
    U16(&'a mut [u16]),
    F32(&'a mut [f32]),
}

impl<'a> Pixels<'a> {
    pub fn of(samples: &'a mut Samples) -> Self {
        match samples {
            Samples::U8(values) => Self::U8(values),
            Samples::U16(values) => Self::U16(values),
            Samples::F32(values) => Self::F32(values),
        }
    }
}

/// A sample of a pixel and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Number of the sample in the file.
    pub from: u16,
    /// Its band of the output; None is alpha, which becomes the mask.
    pub to: Option<usize>,
}

/// Pixels of a row.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The first one in the row.
    pub from: usize,
    /// And in the output.
    pub to: usize,
    pub count: usize,
}

/// What is taken of a block's pixels.
#[derive(Debug, Clone)]
pub struct Plan {
    dtype: Option<Dtype>,
    /// Samples of a pixel of the block, from which on and where to.
    stride: usize,
    picks: Vec<(usize, Option<usize>)>,
    /// Bands of the output.
    bands: usize,
    /// All samples in their order.
    same: bool,
    nodata: Option<f64>,
}

impl Plan {
    /// `first` is the number of the block's first sample. Samples that are `nodata` become NaN where the output is
    /// floats.
    pub fn new(
        dtype: Option<Dtype>,
        (first, stride): (u16, usize),
        picks: &[Pick],
        bands: usize,
        nodata: Option<f64>,
    ) -> Self {
        let inside = |from: u16| from.checked_sub(first).map(usize::from).filter(|&from| from < stride);
        let picks: Vec<_> = picks.iter().filter_map(|pick| Some((inside(pick.from)?, pick.to))).collect();
        let same = stride == bands && picks.len() == bands && picks.iter().enumerate().all(|(i, p)| *p == (i, Some(i)));
        Self { dtype, stride, picks, bands, same, nodata }
    }

    /// Copies pixels of `row`, which is little-endian, to the output and its mask.
    #[allow(clippy::float_cmp)] // infinities are no more than equal
    pub fn copy(&self, row: &[u8], span: Span, out: &mut Pixels<'_>, mask: &mut [u8]) {
        macro_rules! copy {
            ($out:expr, $int:ty) => {
                copy!($out, $int, |value: $int| value)
            };
            ($out:expr, $int:ty, $convert:expr) => {{
                const BYTES: usize = size_of::<$int>();
                let convert = $convert;
                let load = |bytes: [u8; BYTES]| convert(<$int>::from_le_bytes(bytes));
                self.samples::<BYTES, _>(row, span, $out, mask, load)
            }};
        }
        macro_rules! integers {
            ($out:expr, $int:ty) => {
                match self.nodata {
                    None => copy!($out, $int, |value| f64::from(value) as f32),
                    Some(nodata) => {
                        let nodata = nodata as $int;
                        copy!($out, $int, |value| if value == nodata { f32::NAN } else { f64::from(value) as f32 })
                    }
                }
            };
        }
        let wide = self.nodata.unwrap_or(f64::NAN);
        let narrow = wide as f32;
        // As GDAL compares floats with the value; with NaN nothing is equal.
        let near = |value: f32| value == narrow || (value - narrow).abs() < f32::EPSILON * (value + narrow).abs() * 2.0;
        let near_wide = |value: f64| value == wide || (value - wide).abs() < f64::EPSILON * (value + wide).abs() * 2.0;
        match (self.dtype, out) {
            (None, Pixels::U8(out)) => bits(row, span.from, &mut out[span.to..span.to + span.count]),
            (Some(Dtype::Uint8), Pixels::U8(out)) => copy!(out, u8),
            (Some(Dtype::Uint16), Pixels::U16(out)) => copy!(out, u16),
            (Some(Dtype::Uint32), Pixels::F32(out)) => integers!(out, u32),
            (Some(Dtype::Int8), Pixels::F32(out)) => integers!(out, i8),
            (Some(Dtype::Int16), Pixels::F32(out)) => integers!(out, i16),
            (Some(Dtype::Int32), Pixels::F32(out)) => integers!(out, i32),
            (Some(Dtype::Float16), Pixels::F32(out)) => {
                copy!(out, u16, |value| Some(half(value)).filter(|&value| !near(value)).unwrap_or(f32::NAN));
            }
            (Some(Dtype::Float32), Pixels::F32(out)) if self.nodata.is_none() => copy!(out, f32),
            (Some(Dtype::Float32), Pixels::F32(out)) => {
                copy!(out, f32, |value| if near(value) { f32::NAN } else { value });
            }
            (Some(Dtype::Float64), Pixels::F32(out)) => {
                copy!(out, f64, |value: f64| if near_wide(value) { f32::NAN } else { value as f32 });
            }
            // The output is made for the type.
            _ => {}
        }
    }

    fn samples<const BYTES: usize, T: Copy>(
        &self,
        row: &[u8],
        span: Span,
        out: &mut [T],
        mask: &mut [u8],
        load: impl Fn([u8; BYTES]) -> T,
    ) {
        let Span { from: skip, to: at, count } = span;
        let from = &row.as_chunks::<BYTES>().0[skip * self.stride..(skip + count) * self.stride];
        let to = &mut out[at * self.bands..(at + count) * self.bands];
        if self.same {
            for (to, from) in to.iter_mut().zip(from) {
                *to = load(*from);
            }
            return;
        }
        for &(sample, band) in &self.picks {
            let values = from[sample..].iter().step_by(self.stride);
            if let Some(band) = band {
                for (to, from) in to[band..].iter_mut().step_by(self.bands).zip(values) {
                    *to = load(*from);
                }
            } else {
                for (valid, from) in mask[at..at + count].iter_mut().zip(values) {
                    *valid = u8::from(*from != [0; BYTES]);
                }
            }
        }
    }

    /// Fills pixels of a block that the file leaves out.
    pub fn fill(&self, at: usize, count: usize, out: &mut Pixels<'_>, mask: &mut [u8]) {
        let value = self.nodata.unwrap_or(0.0);
        for &(_, band) in &self.picks {
            let pixels = |band| (at..at + count).map(move |pixel| pixel * self.bands + band);
            match (band, &mut *out) {
                (Some(band), Pixels::U8(out)) => pixels(band).for_each(|i| out[i] = value as u8),
                (Some(band), Pixels::U16(out)) => pixels(band).for_each(|i| out[i] = value as u16),
                (Some(band), Pixels::F32(out)) => {
                    let value = self.nodata.map_or(0.0, |_| f32::NAN);
                    pixels(band).for_each(|i| out[i] = value);
                }
                (None, _) => mask[at..at + count].fill(u8::from(value != 0.0)),
            }
        }
    }
}

/// A row of bits as bytes of 0 and 1.
fn bits(row: &[u8], skip: usize, out: &mut [u8]) {
    for (i, out) in (skip..).zip(out) {
        *out = row[i / 8] >> (7 - i % 8) & 1;
    }
}

/// A float of 16 bits.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10 & 31), u32::from(bits & 1023));
    let size = match exponent {
        // No implied one: zero, or less than the least power of two.
        0 => return f32::from_bits(sign | (fraction as f32 / (1u32 << 24) as f32).to_bits()),
        31 => 255 << 23 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        for (bits, want) in
            [(0x3C00, 1.0), (0xC000, -2.0), (0x7BFF, 65_504.0), (0x0001, 2f32.powi(-24)), (0x8400, -(2f32.powi(-14)))]
        {
            assert_eq!(half(bits).to_bits(), f32::to_bits(want), "{bits:x}");
        }
        assert_eq!(half(0xFC00).to_bits(), f32::NEG_INFINITY.to_bits());
        assert!(half(0x7E00).is_nan());
        assert_eq!(half(0x8000).to_bits(), (-0f32).to_bits());
    }

    #[test]
    fn bits_of_a_mask() {
        let mut out = [9; 5];
        bits(&[0b1010_0101, 0b1100_0000], 5, &mut out);
        assert_eq!(out, [1, 0, 1, 1, 1]);
    }
}
