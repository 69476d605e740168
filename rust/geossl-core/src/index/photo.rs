//! Where and when a camera took a photo, by its EXIF.

use super::timestamp;

const EXIF_DIRECTORY: u16 = 0x8769;
const GPS_DIRECTORY: u16 = 0x8825;
const TAKEN: u16 = 0x9003;
const OFFSET: u16 = 0x9010;
const OFFSET_TAKEN: u16 = 0x9011;
const FRACTION_TAKEN: u16 = 0x9291;
const LATITUDE_REF: u16 = 1;
const LATITUDE: u16 = 2;
const LONGITUDE_REF: u16 = 3;
const LONGITUDE: u16 = 4;
/// Entries of a directory that are looked at; cameras write some dozens.
const MAX_ENTRIES: usize = 1000;
/// Longest text that is read, bytes.
const MAX_TEXT: usize = 64;

/// What EXIF says of a photo.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Photo {
    /// Where the camera stood: (latitude, longitude), degrees.
    pub centre: Option<(f64, f64)>,
    /// Microseconds since 1970, UTC. A time without an offset counts as UTC.
    pub timestamp: Option<i64>,
    /// Values that were bad and count as not said, as "what: why".
    pub problems: Vec<String>,
}

/// Reads EXIF's directories. `bytes` gives the content of a range (where it begins, its length) of the TIFF that EXIF
/// is, or None past its end.
pub fn read(bytes: &dyn Fn(usize, usize) -> Option<Vec<u8>>) -> Photo {
    let mut out = Photo::default();
    let Some(tiff) = Tiff::open(bytes) else { return out };
    let main = tiff.directory(tiff.first);
    let sub = |tag| main.iter().find(|e| e.tag == tag).map(|e| tiff.directory(e.value as usize)).unwrap_or_default();
    let (taken, gps) = (sub(EXIF_DIRECTORY), sub(GPS_DIRECTORY));

    let text = |tag| tiff.text(&taken, tag);
    if let Some(written) = text(TAKEN) {
        let offset = text(OFFSET_TAKEN).or_else(|| text(OFFSET)).unwrap_or_default();
        let fraction = text(FRACTION_TAKEN).map(|digits| format!(".{digits}")).unwrap_or_default();
        // Cameras that do not know the time write zeros or spaces.
        if written.bytes().any(|c| c.is_ascii_digit() && c != b'0') {
            let iso = written.replacen(':', "-", 2);
            out.timestamp = timestamp::micros(&format!("{iso}{fraction}{offset}"))
                .or_else(|| timestamp::micros(&format!("{iso}{offset}")));
            if out.timestamp.is_none() {
                out.problems.push(format!("bad EXIF date: {written:?} {offset:?}"));
            }
        }
    }

    let angle = |tag, reference, negative: &str| {
        let [degrees, minutes, seconds] = tiff.rationals(&gps, tag)?;
        let value = degrees + minutes / 60.0 + seconds / 3600.0;
        let sign =
            if tiff.text(&gps, reference).is_some_and(|r| r.eq_ignore_ascii_case(negative)) { -1.0 } else { 1.0 };
        Some(sign * value)
    };
    let is_given = |tag| gps.iter().any(|e| e.tag == tag);
    match (angle(LATITUDE, LATITUDE_REF, "S"), angle(LONGITUDE, LONGITUDE_REF, "W")) {
        (Some(lat), Some(lon)) => out.centre = Some((lat, lon)),
        _ if is_given(LATITUDE) || is_given(LONGITUDE) => {
            out.problems.push("bad EXIF position: not degrees, minutes and seconds".to_owned());
        }
        _ => {}
    }
    out
}

/// One value of a directory.
struct Entry {
    tag: u16,
    kind: u16,
    count: u32,
    /// Where its value lies, or the value itself if it has four bytes or less.
    value: u32,
    /// The same as it stands.
    raw: [u8; 4],
}

struct Tiff<'a> {
    bytes: &'a dyn Fn(usize, usize) -> Option<Vec<u8>>,
    little: bool,
    /// Where the first directory begins.
    first: usize,
}

impl<'a> Tiff<'a> {
    fn open(bytes: &'a dyn Fn(usize, usize) -> Option<Vec<u8>>) -> Option<Self> {
        let head = bytes(0, 8)?;
        let little = match head.get(..4)? {
            [b'I', b'I', 42, 0] => true,
            [b'M', b'M', 0, 42] => false,
            _ => return None,
        };
        let mut out = Self { bytes, little, first: 0 };
        out.first = out.long(head.get(4..8)?.try_into().ok()?) as usize;
        Some(out)
    }

    fn short(&self, bytes: [u8; 2]) -> u16 {
        if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    }

    fn long(&self, bytes: [u8; 4]) -> u32 {
        if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }

    /// The entries of the directory at `at`; none if it is cut short.
    fn directory(&self, at: usize) -> Vec<Entry> {
        let count = (self.bytes)(at, 2).and_then(|b| b.try_into().ok()).map_or(0, |b| self.short(b));
        let count = usize::from(count).min(MAX_ENTRIES);
        let Some(all) = at.checked_add(2).and_then(|at| (self.bytes)(at, 12 * count)) else { return Vec::new() };
        let entry = |e: &[u8; 12]| Entry {
            tag: self.short([e[0], e[1]]),
            kind: self.short([e[2], e[3]]),
            count: self.long([e[4], e[5], e[6], e[7]]),
            value: self.long([e[8], e[9], e[10], e[11]]),
            raw: [e[8], e[9], e[10], e[11]],
        };
        all.as_chunks::<12>().0.iter().map(entry).collect()
    }

    /// A text without the zeros and spaces around it; None where it is none, or says nothing.
    fn text(&self, entries: &[Entry], tag: u16) -> Option<String> {
        const ASCII: u16 = 2;
        let entry = entries.iter().find(|e| e.tag == tag && e.kind == ASCII)?;
        let len = (entry.count as usize).min(MAX_TEXT);
        let bytes = if len <= 4 { entry.raw[..len].to_vec() } else { (self.bytes)(entry.value as usize, len)? };
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn rationals(&self, entries: &[Entry], tag: u16) -> Option<[f64; 3]> {
        const RATIONAL: u16 = 5;
        let entry = entries.iter().find(|e| e.tag == tag && e.kind == RATIONAL && e.count == 3)?;
        let bytes = (self.bytes)(entry.value as usize, 24)?;
        let (parts, _) = bytes.as_chunks::<4>();
        let number = |i: usize| f64::from(self.long(parts[2 * i])) / f64::from(self.long(parts[2 * i + 1]));
        let out = (parts.len() == 6).then(|| [number(0), number(1), number(2)])?;
        // Cameras write 0/0 for seconds that they do not know.
        let out = out.map(|v| if v.is_nan() { 0.0 } else { v });
        (out.iter().all(|v| v.is_finite()) && self.long(parts[1]) > 0).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Photo, read};

    fn of(bytes: &[u8]) -> Photo {
        read(&|at, len| bytes.get(at..at.checked_add(len)?).map(<[u8]>::to_vec))
    }

    #[test]
    fn no_exif_says_nothing() {
        assert_eq!(of(b""), Photo::default());
        assert_eq!(of(b"II\x2A\0\x08\0\0\0\0\0"), Photo::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mut bytes in prop::collection::vec(any::<u8>(), 0..400), order in 0usize..3) {
            let heads: [&[u8]; 3] =
                [b"II\x2A\0\x08\0\0\0\x02\0\x69\x87\x04\0", b"MM\0\x2A\0\0\0\x08\0\x02\x88\x25\0\x04", b""];
            bytes.splice(..0, heads[order].iter().copied());
            of(&bytes);
        }
    }
}
