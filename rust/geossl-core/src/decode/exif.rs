//! The orientation that a camera wrote into a JPEG: how its pixels are turned to stand upright.

use super::{Raster, Samples};
use crate::crop::Rect;

/// Tag of the orientation in EXIF's first directory.
const ORIENTATION: u16 = 0x0112;
/// Type of a 16-bit number.
const SHORT: u16 = 3;

/// The orientation, 1 to 8, that an APP1 segment says (its content, behind the length): None where the segment is
/// not EXIF, 1 (upright) where EXIF has no orientation or none that makes sense.
pub fn orientation(segment: &[u8]) -> Option<u8> {
    let tiff = segment.strip_prefix(b"Exif\0\0")?;
    Some(directory_orientation(tiff).unwrap_or(1))
}

fn directory_orientation(tiff: &[u8]) -> Option<u8> {
    let little = match tiff.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let start = usize::try_from(long(4)?).ok()?;
    let entries = usize::from(short(start)?);
    for number in 0..entries {
        let entry = start + 2 + 12 * number;
        if short(entry)? == ORIENTATION {
            let value = short(entry + 8)?;
            let sound = short(entry + 2)? == SHORT && long(entry + 4)? == 1 && (1..=8).contains(&value);
            return sound.then_some(value as u8);
        }
    }
    None
}

/// How stored pixels become upright ones: mirrored along the stored axes, then the axes swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    mirror_x: bool,
    mirror_y: bool,
    swap: bool,
}

impl Turn {
    /// The turn of an EXIF orientation; anything but 2 to 8 is none.
    pub fn of(orientation: u8) -> Self {
        Self {
            mirror_x: matches!(orientation, 2 | 3 | 7 | 8),
            mirror_y: matches!(orientation, 3 | 4 | 6 | 7),
            swap: matches!(orientation, 5..=8),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_none(self) -> bool {
        self == Self::of(1)
    }

    /// The size of the upright image, given the stored one's; and the reverse.
    pub fn size<T>(self, (width, height): (T, T)) -> (T, T) {
        if self.swap { (height, width) } else { (width, height) }
    }

    /// Where a rectangle of the upright image lies in the stored one, whose size is `stored`.
    pub fn stored_from_upright(self, rect: Rect, stored: (u32, u32)) -> Rect {
        let ((x, y), (width, height)) = (self.size((rect.x, rect.y)), self.size((rect.width, rect.height)));
        self.mirrored(Rect { x, y, width, height }, stored)
    }

    /// The reverse.
    fn upright_from_stored(self, rect: Rect, stored: (u32, u32)) -> Rect {
        let Rect { x, y, width, height } = self.mirrored(rect, stored);
        let ((x, y), (width, height)) = (self.size((x, y)), self.size((width, height)));
        Rect { x, y, width, height }
    }

    fn mirrored(self, rect: Rect, (width, height): (u32, u32)) -> Rect {
        Rect {
            x: if self.mirror_x { width - rect.x - rect.width } else { rect.x },
            y: if self.mirror_y { height - rect.y - rect.height } else { rect.y },
            ..rect
        }
    }

    /// A stored JPEG's raster, turned upright; and the memory that it was in. `stored` is the image's size.
    pub fn upright(self, raster: Raster, stored: (u32, u32)) -> (Raster, Vec<u8>) {
        let Samples::U8(from) = raster.samples else { return (raster, Vec::new()) };
        let (width, height) = raster.rect.shrunk(raster.shrink);
        // A shrunk image's last column stands for less than `shrink` pixels of the image; mirrored it comes first.
        let ahead = self.size((
            if self.mirror_x { width * raster.shrink - raster.rect.width } else { 0 },
            if self.mirror_y { height * raster.shrink - raster.rect.height } else { 0 },
        ));
        let mut to = vec![0; from.len()];
        self.copy(from.as_chunks().0, to.as_chunks_mut().0, width as usize, height as usize);
        let rect = self.upright_from_stored(raster.rect, stored);
        (Raster { rect, ahead, samples: Samples::U8(to), ..raster }, from)
    }

    /// Copies `width` x `height` stored pixels to where they stand upright.
    fn copy(self, from: &[[u8; 3]], to: &mut [[u8; 3]], width: usize, height: usize) {
        let (columns, rows) = self.size((width, height));
        for (row, line) in to.chunks_exact_mut(columns).enumerate().take(rows) {
            // A line of the upright image is a row or a column of the stored one, from one end or the other.
            let (across, along) =
                if self.swap { (self.mirror_x, self.mirror_y) } else { (self.mirror_y, self.mirror_x) };
            let number = if across { rows - 1 - row } else { row };
            let (start, step) = if self.swap { (number, width) } else { (number * width, 1) };
            for (column, pixel) in line.iter_mut().enumerate() {
                *pixel = from[start + step * if along { columns - 1 - column } else { column }];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exif(little: bool, entries: &[(u16, u16, u32, u16)]) -> Vec<u8> {
        let short = |v: u16| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let long = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let mut bytes = b"Exif\0\0".to_vec();
        bytes.extend(if little { *b"II" } else { *b"MM" });
        bytes.extend(short(42));
        bytes.extend(long(8));
        bytes.extend(short(entries.len() as u16));
        for &(tag, kind, count, value) in entries {
            bytes.extend(short(tag));
            bytes.extend(short(kind));
            bytes.extend(long(count));
            bytes.extend(short(value));
            bytes.extend([0, 0]);
        }
        bytes
    }

    #[test]
    fn orientations_of_either_byte_order() {
        for little in [true, false] {
            for value in 1..=8 {
                let bytes = exif(little, &[(0x0100, 4, 1, 7), (ORIENTATION, SHORT, 1, value)]);
                assert_eq!(orientation(&bytes), Some(value as u8));
                for n in 0..bytes.len() {
                    let cut = orientation(&bytes[..n]);
                    assert!(cut == if n < 6 { None } else { Some(1) } || n >= bytes.len() - 2, "{n}: {cut:?}");
                }
            }
            for entry in [(ORIENTATION, SHORT, 1, 0), (ORIENTATION, SHORT, 1, 9), (ORIENTATION, SHORT, 2, 6)] {
                assert_eq!(orientation(&exif(little, &[entry])), Some(1));
            }
            assert_eq!(orientation(&exif(little, &[(ORIENTATION, 4, 1, 6)])), Some(1));
            assert_eq!(orientation(&exif(little, &[])), Some(1));
        }
        assert_eq!(orientation(b"http://ns.adobe.com/xap/1.0/\0<x/>"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_orientation(mut bytes in prop::collection::vec(any::<u8>(), 0..300), order in 0usize..3) {
            let head = ["Exif\0\0II\x2A\0", "Exif\0\0MM\0\x2A", ""][order].as_bytes();
            bytes.splice(..0, head.iter().copied());
            prop_assert!(orientation(&bytes).is_none_or(|o| (1..=8).contains(&o)));
        }

        #[test]
        fn rectangles_turn_there_and_back(
            o in 1u8..=8, width in 1u32..90, height in 1u32..90,
            corners in (0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0),
        ) {
            let turn = Turn::of(o);
            let at = |share: f64, n: u32| (share * f64::from(n)) as u32;
            let (x, y) = (at(corners.0, width), at(corners.1, height));
            let rect = Rect { x, y, width: 1 + at(corners.2, width - x), height: 1 + at(corners.3, height - y) };
            let upright = turn.upright_from_stored(rect, (width, height));
            let (w, h) = turn.size((width, height));
            prop_assert!(upright.x + upright.width <= w && upright.y + upright.height <= h);
            prop_assert_eq!(turn.stored_from_upright(upright, (width, height)), rect);
        }
    }
}
