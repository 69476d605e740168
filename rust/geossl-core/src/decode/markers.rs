//! What libjpeg-turbo does not tell about a JPEG: its orientation, its sampling factors, and where its data begin.

use super::exif;

/// What stands in a JPEG's header, as far as it could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Markers {
    /// EXIF's orientation, 1 to 8.
    pub orientation: u8,
    /// Width and height of the blocks (iMCUs) that the image is coded in, pixels.
    pub block: Option<(u32, u32)>,
    /// Where the frame's header has its content; the file's start where there is none.
    pub frame: usize,
    /// Whether the frame is a progressive one.
    pub progressive: bool,
    /// Whether it is coded without cosines, sample by sample.
    pub lossless: bool,
    /// Where the first scan's header begins; the file's start where there is none.
    pub data: usize,
    /// Where it ends, and the scan begins, likewise.
    pub scan: usize,
}

impl Markers {
    /// Walks the segments up to the first scan. Bytes that are no JPEG give less, never an error: libjpeg-turbo is the
    /// one to judge them.
    pub fn read(bytes: &[u8]) -> Self {
        let mut found =
            Self { orientation: 1, block: None, frame: 0, progressive: false, lossless: false, data: 0, scan: 0 };
        let mut oriented = false;
        let mut at = 2;
        while let Some((marker, content, next)) = segment(bytes, at) {
            match marker {
                // EXIF stands at the file's start, before the frame's header: the index looks no further.
                0xE1 if !oriented && found.block.is_none() => {
                    if let Some(orientation) = exif::orientation(content) {
                        (found.orientation, oriented) = (orientation, true);
                    }
                }
                0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                    found.block = block(content);
                    found.frame = next - content.len();
                    found.progressive = matches!(marker, 0xC2 | 0xC6 | 0xCA | 0xCE);
                    found.lossless = matches!(marker, 0xC3 | 0xC7 | 0xCB | 0xCF);
                }
                0xDA => {
                    (found.data, found.scan) = (at, next);
                    break;
                }
                0xD9 => break,
                _ => {}
            }
            at = next;
        }
        found
    }
}

/// Whether the image that begins in `bytes` has its end, given where its first scan begins. What follows the end
/// (another image, a film) does not count.
pub fn ends(bytes: &[u8], data: usize) -> bool {
    if bytes.ends_with(&[0xFF, 0xD9]) && bytes.len() > data + 2 {
        return true;
    }
    let mut at = data;
    while let Some(skipped) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xFF)) {
        at += skipped;
        match bytes.get(at + 1) {
            None => return false,
            Some(0xD9) => return true,
            // A segment between scans: its content could look like a marker.
            Some(0xC0..=0xCF | 0xDA..=0xFE) => match segment(bytes, at) {
                Some((.., next)) => at = next,
                None => return false,
            },
            // An escaped data byte, a restart marker, filler.
            Some(_) => at += 1,
        }
    }
    false
}

/// (marker, content, where the next segment begins) of the segment at `at`, which filler may precede.
fn segment(bytes: &[u8], mut at: usize) -> Option<(u8, &[u8], usize)> {
    if *bytes.get(at)? != 0xFF {
        return None;
    }
    while *bytes.get(at)? == 0xFF {
        at += 1;
    }
    let marker = bytes[at];
    at += 1;
    if matches!(marker, 0x01 | 0xD0..=0xD9) {
        return Some((marker, &[], at));
    }
    let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    Some((marker, bytes.get(at + 2..at + length)?, at + length))
}

/// Size of an iMCU, from a frame's header.
fn block(frame: &[u8]) -> Option<(u32, u32)> {
    let components = usize::from(*frame.get(5)?);
    let factors =
        frame.get(6..6 + 3 * components)?.chunks_exact(3).map(|c| (u32::from(c[1] >> 4), u32::from(c[1] & 15)));
    // The factors of a single component mean nothing: it is coded block by block.
    let (across, down) = if components == 1 { (1, 1) } else { factors.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))? };
    (across > 0 && down > 0).then_some((8 * across, 8 * down))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: [u8; 25] = [
        0xFF, 0xD8, 0xFF, 0xE1, 0, 4, 0xFF, 0xD9, // a segment whose content looks like a marker
        0xFF, 0xC2, 0, 17, 8, 0, 9, 0, 9, 3, 1, 0x21, 0, 2, 0x11, 0, 3,
    ];

    fn image(tail: &[u8]) -> Vec<u8> {
        [&HEAD[..], &[0x11, 0], &[0xFF, 0xFF, 0xDA, 0, 4, 1, 2], tail].concat()
    }

    #[test]
    fn blocks_and_data() {
        let bytes = image(&[]);
        let whole = Markers {
            orientation: 1,
            block: Some((16, 8)),
            frame: 12,
            progressive: true,
            lossless: false,
            data: 27,
            scan: 34,
        };
        assert_eq!(Markers::read(&bytes), whole);
        let none = Markers { block: None, frame: 0, progressive: false, lossless: false, data: 0, scan: 0, ..whole };
        assert_eq!(Markers::read(&bytes[..26]), none);
    }

    #[test]
    fn the_end_is_the_images_own() {
        for (tail, whole) in [
            (&[1, 2, 0xFF, 0xD9][..], true),
            (&[1, 0xFF, 0, 0xFF, 0xD3, 2, 0xFF, 0xD9, 0, 0, 0], true),
            // A table between scans whose content looks like an end, and a cut there.
            (&[1, 0xFF, 0xC4, 0, 5, 0xFF, 0xD9, 3, 4], false),
            (&[1, 0xFF, 0xC4, 0, 5, 0xFF, 0xD9, 3, 0xFF, 0xDA, 0, 2, 7, 0xFF, 0xD9, 0], true),
            (&[1, 2, 3, 0xFF], false),
            (&[1, 0xFF, 0xC4, 0, 50, 1], false),
            (&[], false),
        ] {
            let bytes = image(tail);
            assert_eq!(ends(&bytes, Markers::read(&bytes).data), whole, "{tail:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(prop::sample::select(vec![0, 1, 8, 0xFF, 0xD8, 0xE1, 0xC0, 0xDA, 0xD9]), 0..200)) {
            let markers = Markers::read(&bytes);
            ends(&bytes, markers.data);
        }
    }
}
