//! Taking predictions back, a row at a time, where it stands. Rows come out in little-endian order.

use super::layout::Predictor;

/// How the bytes of a row become samples.
#[derive(Debug, Clone, Copy)]
pub struct Undo {
    pub predictor: Predictor,
    /// Bytes of a sample.
    pub bytes: usize,
    /// Samples of a pixel.
    pub stride: usize,
    pub big_endian: bool,
}

impl Undo {
    /// Whether rows are samples as they are.
    pub fn nothing(self) -> bool {
        self.predictor == Predictor::None && (self.bytes == 1 || !self.big_endian)
    }

    /// The whole row. `scratch` is memory for it.
    pub fn run(self, row: &mut [u8], scratch: &mut Vec<u8>) {
        let Self { predictor, bytes, stride, big_endian } = self;
        if predictor == Predictor::Float {
            float(row, bytes, stride, scratch);
            return;
        }
        if big_endian {
            match bytes {
                2 => row.as_chunks_mut::<2>().0.iter_mut().for_each(|v| v.reverse()),
                4 => row.as_chunks_mut::<4>().0.iter_mut().for_each(|v| v.reverse()),
                8 => row.as_chunks_mut::<8>().0.iter_mut().for_each(|v| v.reverse()),
                _ => {}
            }
        }
        if predictor == Predictor::Horizontal {
            match bytes {
                1 => sum_u8(row, stride),
                2 => sum_u16(row, stride),
                4 => sum_u32(row, stride),
                _ => sum_u64(row, stride),
            }
        }
    }
}

macro_rules! sums {
    ($name:ident, $int:ty) => {
        /// Each sample becomes the sum of those of its band up to it.
        fn $name(row: &mut [u8], stride: usize) {
            const BYTES: usize = size_of::<$int>();

            fn fixed<const N: usize>(values: &mut [[u8; BYTES]]) {
                let mut sums = [<$int>::MIN; N];
                for pixel in values.as_chunks_mut::<N>().0 {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum = sum.wrapping_add(<$int>::from_le_bytes(*value));
                        *value = sum.to_le_bytes();
                    }
                }
            }

            let values = row.as_chunks_mut::<BYTES>().0;
            match stride {
                1 => fixed::<1>(values),
                2 => fixed::<2>(values),
                3 => fixed::<3>(values),
                4 => fixed::<4>(values),
                5 => fixed::<5>(values),
                6 => fixed::<6>(values),
                8 => fixed::<8>(values),
                10 => fixed::<10>(values),
                12 => fixed::<12>(values),
                13 => fixed::<13>(values),
                16 => fixed::<16>(values),
                _ => {
                    for i in stride..values.len() {
                        let sum =
                            <$int>::from_le_bytes(values[i]).wrapping_add(<$int>::from_le_bytes(values[i - stride]));
                        values[i] = sum.to_le_bytes();
                    }
                }
            }
        }
    };
}

sums!(sum_u8, u8);
sums!(sum_u16, u16);
sums!(sum_u32, u32);
sums!(sum_u64, u64);

/// The bytes of a row's samples stand apart, the most significant ones first, as differences.
fn float(row: &mut [u8], bytes: usize, stride: usize, scratch: &mut Vec<u8>) {
    sum_u8(row, stride);
    scratch.clear();
    scratch.extend_from_slice(row);
    let samples = row.len() / bytes;
    for (byte, plane) in scratch.chunks_exact(samples.max(1)).rev().enumerate() {
        for (sample, &value) in row.chunks_exact_mut(bytes).zip(plane) {
            sample[byte] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_any_stride() {
        for stride in 1..=17 {
            let deltas: Vec<u16> = (0..stride * 9).map(|i| (i * 7919 % 65_536) as u16).collect();
            let mut want = deltas.clone();
            for i in stride..want.len() {
                want[i] = want[i].wrapping_add(want[i - stride]);
            }
            let mut row: Vec<u8> = deltas.iter().flat_map(|v| v.to_be_bytes()).collect();
            Undo { predictor: Predictor::Horizontal, bytes: 2, stride, big_endian: true }
                .run(&mut row, &mut Vec::new());
            assert_eq!(row, want.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(), "{stride}");
        }
    }

    #[test]
    fn floats_of_byte_planes() {
        let values = [1.5f32, -2.25, 1e9, 0.1];
        let planes: Vec<u8> = (0..4).flat_map(|byte| values.map(|v| v.to_be_bytes()[byte])).collect();
        for stride in [1, 2] {
            let mut row = planes.clone();
            for i in (stride..row.len()).rev() {
                row[i] = row[i].wrapping_sub(row[i - stride]);
            }
            Undo { predictor: Predictor::Float, bytes: 4, stride, big_endian: true }.run(&mut row, &mut Vec::new());
            assert_eq!(row, values.map(f32::to_le_bytes).concat());
        }
    }
}
