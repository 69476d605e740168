//! TIFF's LZW (TIFF 6.0, section 13), unpacked several times as fast as code by code.
//!
//! Every string of the table has been written out before, with the sample after it: a code is a place in the output
//! and a length, and is unpacked by one copy.

/// Codes that are no strings: clear the table, end.
const CLEAR: usize = 256;
const END: usize = 257;
/// Most codes: twelve bits.
const CODES: usize = 4096;
/// Bytes that are copied at once, whether they are wanted or not.
const WIDE: usize = 16;

/// Where each code's string lies in the output: start and length.
pub struct Lzw {
    strings: Box<[(u32, u32); CODES]>,
}

impl Default for Lzw {
    fn default() -> Self {
        Self { strings: Box::new([(0, 0); CODES]) }
    }
}

impl Lzw {
    /// Unpacks to `out`, and whether that filled it.
    pub fn unpack(&mut self, packed: &[u8], out: &mut [u8]) -> bool {
        let (mut bits, mut held, mut at) = (0u64, 0u32, 0);
        let (mut next, mut width, mut done) = (END + 1, 9, 0);
        // The string before, which the next one makes longer by its first byte.
        let mut before: Option<(u32, u32)> = None;
        while done < out.len() {
            if held < 12 {
                if let Some(eight) = packed.get(at..).and_then(<[u8]>::first_chunk::<8>) {
                    bits |= u64::from_be_bytes(*eight) >> held;
                    let taken = (63 - held) >> 3;
                    at += taken as usize;
                    held += 8 * taken;
                } else {
                    while let (Some(byte), true) = (packed.get(at), held <= 56) {
                        bits |= u64::from(*byte) << (56 - held);
                        at += 1;
                        held += 8;
                    }
                    if held < width {
                        return false;
                    }
                }
            }
            let code = (bits >> (64 - width)) as usize;
            bits <<= width;
            held -= width;
            let start = done;
            match code {
                0..CLEAR => {
                    out[done] = code as u8;
                    done += 1;
                }
                CLEAR => {
                    (next, width, before) = (END + 1, 9, None);
                    continue;
                }
                END => return false,
                _ => {
                    let (from, length) = match before {
                        _ if code < next => self.strings[code],
                        // The string that is being made: the one before and its own first byte.
                        Some((from, length)) if code == next => (from, length + 1),
                        _ => return false,
                    };
                    done += copy(out, from as usize, done, length as usize);
                }
            }
            if let Some((from, length)) = before
                && next < CODES
            {
                self.strings[next] = (from, length + 1);
                next += 1;
                // A code earlier than it has to.
                if next + 1 >= 1 << width && width < 12 {
                    width += 1;
                }
            }
            before = Some((start as u32, (done - start) as u32));
        }
        true
    }
}

/// Copies `length` bytes, or as many as there is room for, from `from` to `to`, which lies behind it; they may overlap.
fn copy(out: &mut [u8], from: usize, to: usize, length: usize) -> usize {
    if length <= WIDE && to - from >= WIDE && to + WIDE <= out.len() {
        let (before, after) = out.split_at_mut(to);
        if let (Some(source), Some(target)) = (before[from..].first_chunk::<WIDE>(), after.first_chunk_mut::<WIDE>()) {
            *target = *source;
        }
        return length;
    }
    let length = length.min(out.len() - to);
    if from + length <= to {
        out.copy_within(from..from + length, to);
    } else {
        for i in 0..length {
            out[to + i] = out[from + i];
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weezl::BitOrder;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        weezl::encode::Encoder::with_tiff_size_switch(BitOrder::Msb, 8).encode(bytes).unwrap()
    }

    fn check(bytes: &[u8]) {
        let packed = packed(bytes);
        let (mut lzw, mut out) = (Lzw::default(), vec![9; bytes.len()]);
        for _ in 0..2 {
            assert!(lzw.unpack(&packed, &mut out));
            assert!(out == bytes);
        }
        let mut part = vec![9; bytes.len() / 2];
        assert!(lzw.unpack(&packed, &mut part) && part == bytes[..bytes.len() / 2]);
        assert!(!lzw.unpack(&packed, &mut vec![0; bytes.len() + 1]));
    }

    #[test]
    fn what_another_packs_is_unpacked() {
        check(&[]);
        check(&[7; 100_000]);
        check(&(0..200_000u32).map(|i| (i / 7 % 251) as u8).collect::<Vec<_>>());
        check(&(0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 21) as u8 >> (i % 5)).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn any_bytes_are_packed_and_unpacked(bytes in prop::collection::vec(0u8..4, 0..3000)) {
            check(&bytes);
        }

        #[test]
        fn any_bytes_are_unpacked(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0usize..5000) {
            Lzw::default().unpack(&bytes, &mut vec![0; length]);
        }
    }
}
