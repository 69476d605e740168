//! LZW as TIFF has it: most significant bits first, codes that grow one entry early.
//!
//! A string is the one before it and a byte, which stand one behind the other in the output: an entry of the table is a
//! place there. Most strings are short, so their first bytes are kept in the entry, and written without a look at it.

/// Codes that clear the table and end the data.
const CLEAR: usize = 256;
const END: usize = 257;
const CODES: usize = 4096;
/// Bytes of a string that its entry holds.
const HELD: usize = 8;
/// Bytes that are copied at once.
const STEP: usize = 16;

/// A decoder, which keeps its table.
pub struct Lzw {
    table: Box<[Entry; CODES]>,
}

/// A string.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// Its first bytes, the first one lowest; zeros behind its end.
    head: u64,
    /// Where it stands in the output, if it is longer.
    at: u32,
    len: u32,
}

impl Default for Lzw {
    fn default() -> Self {
        let byte = |code| Entry { head: code as u64, at: 0, len: 1 };
        Self { table: Box::new(std::array::from_fn(|code| if code < CLEAR { byte(code) } else { Entry::default() })) }
    }
}

impl Lzw {
    /// Whether the bytes filled `out`.
    pub fn unpack(&mut self, packed: &[u8], out: &mut [u8]) -> bool {
        let bits = packed.len() * 8;
        if u32::try_from(out.len()).is_err() {
            return false;
        }
        let (mut bit, mut width, mut to) = (0, 9, 0);
        // After a clear there is no string before the first: an entry of none and its byte takes the place of `END`,
        // which is no string.
        let (mut next, mut last, mut last_at) = (END, Entry::default(), 0);
        while to < out.len() {
            if bit + width > bits {
                return false;
            }
            let code = code(packed, bit, width);
            bit += width;
            if code == CLEAR {
                (width, next, last) = (9, END, Entry::default());
                continue;
            }
            // A code may name the entry that is made with it.
            if code == END || code > next {
                return false;
            }
            let first = if code == next { last.head } else { self.table[code].head } & 0xFF;
            if next < CODES {
                let head = last.head | first.checked_shl(8 * last.len).unwrap_or(0);
                self.table[next] = Entry { head, at: last_at, len: last.len + 1 };
                next += 1;
                width += usize::from(next + 1 >= 1 << width && width < 12);
            }
            last = self.table[code];
            last_at = to as u32;
            to += write(out, to, last);
        }
        true
    }
}

/// The `width` bits from `bit` on, which lie within `packed`.
fn code(packed: &[u8], bit: usize, width: usize) -> usize {
    let byte = bit / 8;
    let word = packed[byte..].first_chunk().map_or_else(
        || {
            let mut word = [0; 8];
            word[..packed.len() - byte].copy_from_slice(&packed[byte..]);
            u64::from_be_bytes(word)
        },
        |word| u64::from_be_bytes(*word),
    );
    (word << (bit % 8) >> (64 - width)) as usize
}

/// Writes a string, or what there is room for; how many bytes that is. Bytes behind it may be overwritten.
fn write(out: &mut [u8], to: usize, string: Entry) -> usize {
    let (from, len) = (string.at as usize, string.len as usize);
    let Some(head) = out[to..].first_chunk_mut::<HELD>() else {
        let head = string.head.to_le_bytes();
        let len = len.min(out.len() - to);
        // Fewer bytes than an entry holds.
        out[to..to + len].copy_from_slice(&head[..len]);
        return len;
    };
    *head = string.head.to_le_bytes();
    if len > HELD {
        rest(out, from, to, len);
    }
    len.min(out.len() - to)
}

/// Copies what a string has behind its first bytes. It ends where it is copied to or before that, but for its last byte,
/// which may be the first one that was written.
fn rest(out: &mut [u8], from: usize, to: usize, len: usize) {
    let mut done = HELD;
    while done < len {
        let Some(&chunk) = out[from + done..].first_chunk::<STEP>() else { break };
        let Some(place) = out[to + done..].first_chunk_mut::<STEP>() else { break };
        *place = chunk;
        done += STEP;
    }
    // Close to the end.
    for i in done..len.min(out.len() - to) {
        out[to + i] = out[from + i];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weezl::BitOrder;
    use weezl::encode::Encoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        Encoder::with_tiff_size_switch(BitOrder::Msb, 8).encode(bytes).unwrap()
    }

    #[test]
    fn runs_of_any_length() {
        for len in (1..300).chain([70_000, 500_000]) {
            let bytes = vec![7; len];
            let mut out = vec![0; len];
            assert!(Lzw::default().unpack(&packed(&bytes), &mut out));
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn short_data() {
        let bytes: Vec<u8> = (0..=255).collect();
        let packed = packed(&bytes);
        let mut lzw = Lzw::default();
        for end in 0..packed.len() {
            lzw.unpack(&packed[..end], &mut [0; 256]);
        }
        assert!(!lzw.unpack(&packed, &mut [0; 257]));
        assert!(!lzw.unpack(&packed[..100], &mut [0; 256]));
        assert!(lzw.unpack(&packed, &mut [0; 100]), "the rest is left");
    }

    proptest! {
        #[test]
        fn what_was_packed(bytes in prop::collection::vec(0u8..4, 0..9000), noise in prop::collection::vec(any::<u8>(), 0..9000)) {
            let mut lzw = Lzw::default();
            for bytes in [bytes, noise] {
                let mut out = vec![0; bytes.len()];
                prop_assert!(lzw.unpack(&packed(&bytes), &mut out));
                prop_assert_eq!(out, bytes);
            }
        }

        #[test]
        fn any_bytes(packed in prop::collection::vec(any::<u8>(), 0..2000), len in 0usize..5000) {
            Lzw::default().unpack(&packed, &mut vec![0; len]);
        }
    }
}
