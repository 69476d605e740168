//! A tile without loss, small and fast to read.
//!
//! Each sample less the one above it (in the first row the one to its left) is near zero, so that it takes few bits;
//! negative ones are folded between the positive ones. Where that leaves noise, which no compressor makes smaller,
//! every 256 of them are stored in as many bits as the largest needs; where Zstandard makes them clearly smaller, by
//! Zstandard, their low bytes first. A row depends on the one above alone, and bits lie such that a machine's vector
//! unit takes many samples at once.
//!
//! A tile's bytes are its form (1 byte), then of packed bits the width of each block, then the blocks.

/// Samples whose bits are packed together.
const BLOCK: usize = 256;
/// Bytes of a block for each bit of its width.
const BIT_BYTES: usize = BLOCK / 8;
/// Level of Zstandard: higher ones gain little on differences and cost much.
const LEVEL: i32 = 3;
/// Packed bits are several times as fast to read as Zstandard's, which is taken where it is smaller than this share.
const WORTH: (usize, usize) = (2, 3);

const BITS: u8 = 0;
const ZSTD: u8 = 1;

/// Why a tile cannot be unpacked.
pub type Damage = &'static str;

const DAMAGED: Damage = "a tile in the pack is damaged";

/// Samples of a tile as unsigned integers; of floats, their bits.
pub trait Sample: Copy + Default + PartialEq + 'static {
    /// Bytes of a sample.
    const BYTES: usize;
    /// From its first bytes, little-endian.
    fn read(bytes: &[u8]) -> Self;
    /// Appends its bytes, little-endian.
    fn put(self, out: &mut Vec<u8>);
    /// The byte of that number, the lowest first.
    fn byte(self, number: usize) -> u8;
    /// Itself with that byte added to its bits.
    #[must_use]
    fn with_byte(self, number: usize, byte: u8) -> Self;
    /// What is stored of it after `before`: the difference, with its sign in the lowest bit.
    #[must_use]
    fn stored_after(self, before: Self) -> Self;
    /// The sample of which this is stored after `before`.
    #[must_use]
    fn restored_after(self, before: Self) -> Self;
    /// Appends a block in as few bits as it needs, and returns their number.
    fn pack(block: &[Self; BLOCK], out: &mut Vec<u8>) -> u8;
    /// The block of that width in `bytes`, which has its length.
    fn unpack(width: u8, bytes: &[u8], block: &mut [Self; BLOCK]) -> Option<()>;
}

macro_rules! sample {
    ($type:ty, $signed:ty, $($width:literal)*) => {
        impl Sample for $type {
            const BYTES: usize = size_of::<$type>();

            #[inline(always)]
            fn read(bytes: &[u8]) -> Self {
                let mut own = [0; Self::BYTES];
                own.copy_from_slice(&bytes[..Self::BYTES]);
                Self::from_le_bytes(own)
            }

            fn put(self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }

            fn byte(self, number: usize) -> u8 {
                self.to_le_bytes()[number]
            }

            #[inline(always)]
            fn with_byte(self, number: usize, byte: u8) -> Self {
                self | Self::from(byte) << (8 * number)
            }

            fn stored_after(self, before: Self) -> Self {
                let difference = self.wrapping_sub(before);
                difference << 1 ^ (difference as $signed >> (Self::BITS - 1)) as Self
            }

            #[inline(always)]
            fn restored_after(self, before: Self) -> Self {
                before.wrapping_add(self >> 1 ^ (self & 1).wrapping_neg())
            }

            fn pack(block: &[Self; BLOCK], out: &mut Vec<u8>) -> u8 {
                let (bits, lanes) = (Self::BITS as usize, BLOCK / Self::BITS as usize);
                let width = bits - block.iter().fold(0, |all: Self, value| all | value).leading_zeros() as usize;
                let mut words = vec![0 as Self; width * lanes];
                for (i, value) in block.iter().enumerate().filter(|_| width > 0) {
                    let (at, lane) = (i / lanes * width, i % lanes);
                    words[at / bits * lanes + lane] |= value << (at % bits);
                    if at % bits + width > bits {
                        words[(at / bits + 1) * lanes + lane] |= value >> (bits - at % bits);
                    }
                }
                for word in words {
                    word.put(out);
                }
                width as u8
            }

            fn unpack(width: u8, bytes: &[u8], block: &mut [Self; BLOCK]) -> Option<()> {
                /// The values lie side by side in lanes, each lane's bits one after the other.
                #[inline(always)]
                fn of_width<const WIDTH: usize>(bytes: &[u8], block: &mut [$type; BLOCK]) -> Option<()> {
                    const BITS: usize = <$type>::BITS as usize;
                    if WIDTH == 0 {
                        block.fill(0);
                        return Some(());
                    }
                    // A slice of known length: no bound is looked at below.
                    let bytes = bytes.get(..WIDTH * BIT_BYTES)?;
                    let mask = <$type>::MAX >> (BITS - WIDTH);
                    for (i, values) in block.chunks_exact_mut(BLOCK / BITS).enumerate() {
                        let (word, shift) = (i * WIDTH / BITS, i * WIDTH % BITS);
                        let low = bytes[word * BIT_BYTES..][..BIT_BYTES].chunks_exact(<$type>::BYTES);
                        for (value, low) in values.iter_mut().zip(low) {
                            *value = <$type>::read(low) >> shift & mask;
                        }
                        if shift + WIDTH > BITS {
                            let high = bytes[(word + 1) * BIT_BYTES..][..BIT_BYTES].chunks_exact(<$type>::BYTES);
                            for (value, high) in values.iter_mut().zip(high) {
                                *value |= <$type>::read(high) << (BITS - shift) & mask;
                            }
                        }
                    }
                    Some(())
                }
                match width {
                    $($width => of_width::<$width>(bytes, block),)*
                    _ => None,
                }
            }
        }
    };
}

sample!(u8, i8, 0 1 2 3 4 5 6 7 8);
sample!(u16, i16, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
sample!(u32, i32, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);

/// The bytes of a tile whose rows are `line` samples of `bands` bands.
pub fn pack<T: Sample>(samples: &[T], line: usize, bands: usize) -> std::io::Result<Vec<u8>> {
    let stored: Vec<T> = (0..samples.len())
        .map(|i| match i {
            _ if i >= line => samples[i].stored_after(samples[i - line]),
            _ if i >= bands => samples[i].stored_after(samples[i - bands]),
            _ => samples[i].stored_after(T::default()),
        })
        .collect();
    let (mut out, mut blocks) = (vec![BITS], Vec::new());
    for part in stored.chunks(BLOCK) {
        let mut block = [T::default(); BLOCK];
        block[..part.len()].copy_from_slice(part);
        out.push(T::pack(&block, &mut blocks));
    }
    out.append(&mut blocks);
    let planes: Vec<u8> = (0..T::BYTES).flat_map(|number| stored.iter().map(move |value| value.byte(number))).collect();
    let small = zstd::bulk::compress(&planes, LEVEL)?;
    if small.len() * WORTH.1 < out.len() * WORTH.0 {
        out.clear();
        out.push(ZSTD);
        out.extend(small);
    }
    Ok(out)
}

/// What unpacking a tile takes.
#[derive(Default)]
pub struct Unpacker<T> {
    stored: Vec<T>,
    line: Vec<T>,
}

/// Zstandard's state and output.
#[derive(Default)]
pub struct Zstd {
    state: Option<zstd::bulk::Decompressor<'static>>,
    planes: Vec<u8>,
}

impl Zstd {
    /// The `len` bytes that `bytes` were made of.
    fn decompress(&mut self, bytes: &[u8], len: usize) -> Result<&[u8], Damage> {
        let state = match self.state.take() {
            Some(state) => state,
            None => zstd::bulk::Decompressor::new().map_err(|_| "Zstandard has no memory")?,
        };
        self.planes.clear();
        self.planes.reserve(len);
        let state = self.state.insert(state);
        match state.decompress_to_buffer(bytes, &mut self.planes) {
            Ok(got) if got == len => Ok(&self.planes),
            _ => Err(DAMAGED),
        }
    }
}

impl<T: Sample> Unpacker<T> {
    /// Gives the first `rows` rows of a tile of `height`, one after the other. See `pack`.
    pub fn rows(
        &mut self,
        tile: &[u8],
        (line, height): (usize, usize),
        bands: usize,
        rows: usize,
        zstd: &mut Zstd,
        mut take: impl FnMut(usize, &[T]),
    ) -> Result<(), Damage> {
        self.stored.resize((line * height).next_multiple_of(BLOCK), T::default());
        match tile.split_first() {
            Some((&BITS, bytes)) => self.unpack_bits(bytes, line * rows),
            Some((&ZSTD, bytes)) => {
                let planes = zstd.decompress(bytes, line * height * T::BYTES)?;
                for (number, plane) in planes.chunks_exact(line * height).enumerate() {
                    let stored = self.stored[..line * rows].iter_mut().zip(plane);
                    if number == 0 {
                        stored.for_each(|(value, byte)| *value = T::default().with_byte(0, *byte));
                    } else {
                        stored.for_each(|(value, byte)| *value = value.with_byte(number, *byte));
                    }
                }
                Some(())
            }
            _ => None,
        }
        .ok_or(DAMAGED)?;
        self.line.clear();
        self.line.resize(line, T::default());
        for (y, stored) in self.stored.chunks_exact(line).take(rows).enumerate() {
            for (value, stored) in self.line.iter_mut().zip(stored) {
                *value = stored.restored_after(*value);
            }
            if y == 0 {
                for (i, stored) in stored.iter().enumerate().skip(bands) {
                    self.line[i] = stored.restored_after(self.line[i - bands]);
                }
            }
            take(y, &self.line);
        }
        Ok(())
    }

    /// Unpacks the blocks of the first `count` samples; None if the bytes are not those of as many blocks.
    fn unpack_bits(&mut self, bytes: &[u8], count: usize) -> Option<()> {
        let (widths, mut bytes) = bytes.split_at_checked(self.stored.len() / BLOCK)?;
        let all: usize = widths.iter().map(|width| usize::from(*width) * BIT_BYTES).sum();
        if bytes.len() != all {
            return None;
        }
        let (blocks, _) = self.stored.as_chunks_mut::<BLOCK>();
        for (block, width) in blocks.iter_mut().zip(widths).take(count.div_ceil(BLOCK)) {
            let (own, rest) = bytes.split_at_checked(usize::from(*width) * BIT_BYTES)?;
            T::unpack(*width, own, block)?;
            bytes = rest;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Draws, Stage};
    use proptest::prelude::*;

    fn unpacked<T: Sample>(tile: &[u8], line: usize, height: usize, bands: usize, rows: usize) -> Vec<T> {
        let mut out = Vec::new();
        let take = |y: usize, row: &[T]| {
            assert_eq!(out.len(), y * line);
            out.extend(row);
        };
        Unpacker::default().rows(tile, (line, height), bands, rows, &mut Zstd::default(), take).unwrap();
        out
    }

    /// Samples of all sizes: the noise has so many bits.
    fn check<T: Sample>(bits: &[u64], (width, height, bands): (usize, usize, usize), of: impl Fn(u64) -> T) {
        let samples: Vec<T> = (0..width * height * bands)
            .map(|i| {
                let noise = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
                of(noise % (1 << bits[i * bits.len() / (width * height * bands)]))
            })
            .collect();
        let line = width * bands;
        let tile = pack(&samples, line, bands).unwrap();
        for rows in [1, height.div_ceil(2), height] {
            assert!(unpacked::<T>(&tile, line, height, bands, rows) == samples[..rows * line]);
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            bits in prop::collection::vec(0u64..33, 1..5), size in (1usize..40, 1usize..40, 1usize..10),
        ) {
            check(&bits, size, |v| v as u8);
            check(&bits, size, |v| v as u16);
            check(&bits, size, |v| v as u32);
        }

        #[test]
        fn any_bytes_are_looked_at(mut bytes in prop::collection::vec(any::<u8>(), 0..200), form in 0u8..3) {
            if let Some(first) = bytes.first_mut() {
                *first = form;
            }
            let _ = Unpacker::<u16>::default().rows(&bytes, (12, 9), 3, 9, &mut Zstd::default(), |_, _| ());
        }
    }

    #[test]
    fn both_forms_are_used() {
        let mut draws = Draws::new(0, 0, 0, 0, Stage::Crop);
        let noise: Vec<u16> = (0..4096).map(|_| draws.bits() as u16 >> 4).collect();
        assert_eq!(pack(&noise, 64, 1).unwrap()[0], BITS);
        let steps: Vec<u16> = (0..4096u16).map(|i| i / 512 * 900).collect();
        assert_eq!(pack(&steps, 64, 1).unwrap()[0], ZSTD);
    }
}
