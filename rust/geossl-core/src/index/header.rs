//! Size, bands and sample type of an image from its header, without decoding.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::path::Path;

use crate::Error;
use crate::decode::exif::{self, Turn};
use crate::decode::input::is_tiff;
use crate::decode::tiff::{GeoHeader, Tiff};
use crate::decode::{Dtype, Input};

/// Bytes of one read; the header of most images lies within the first.
const BUFFER_BYTES: usize = 4096;
/// Segments looked at for a JPEG's size; thumbnails and profiles take a few hundred at most.
const MAX_SEGMENTS: usize = 4096;

/// What stands before EXIF's TIFF signature in a JPEG's segment.
const EXIF_HEAD: usize = b"Exif\0\0".len();

/// What the header says.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Pixels, of the upright image.
    pub width: i32,
    /// Pixels, of the upright image.
    pub height: i32,
    /// Bands as they are read: a JPEG or PNG gives three (gray is repeated, alpha dropped), a TIFF what it has.
    pub bands: i16,
    /// Type of a sample in the file.
    pub dtype: Dtype,
    /// What a TIFF has besides.
    pub tiff: Option<Box<TiffHeader>>,
}

/// What only a TIFF has.
#[derive(Debug, Clone, PartialEq)]
pub struct TiffHeader {
    /// The value of samples without data; NaN where a mask or alpha says which these are.
    pub nodata: Option<f64>,
    /// Number of the band that is alpha.
    pub alpha: Option<u16>,
    /// Width and height of the overviews, the largest first.
    pub overviews: Vec<(u32, u32)>,
    /// Place and date.
    pub geo: GeoHeader,
}

/// A file whose header was read.
#[derive(Debug)]
pub struct Opened {
    /// What the header says.
    pub header: Header,
    /// A JPEG's or PNG's EXIF, from its TIFF signature on.
    pub exif: Option<Vec<u8>>,
}

/// Reads the header of the image at `path`. At most some kilobytes are read, and a JPEG's EXIF, wherever they lie in the file.
/// The error says why the image cannot be used, as "what: why" or "what".
pub fn read(path: &Path) -> Result<Header, String> {
    let file = File::open(path).map_err(|e| cannot_open(&e))?;
    read_open(path, &file, &mut Vec::new()).map(|opened| opened.header)
}

/// Why an image cannot be opened.
pub fn cannot_open(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => format!("cannot be opened: {error}"),
    }
}

/// As `read`, of a file that is at its start; `path` names it. `buffer` is memory to use.
pub fn read_open(path: &Path, file: &File, buffer: &mut Vec<u8>) -> Result<Opened, String> {
    let broken = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => "the header is cut short".to_owned(),
        _ => format!("cannot be read: {e}"),
    };
    if buffer.len() < BUFFER_BYTES {
        buffer.resize(BUFFER_BYTES, 0);
    }
    let mut file = file;
    let len = file.read(&mut buffer[..BUFFER_BYTES]).map_err(broken)?;
    let start = &buffer[..len];
    let format: fn(&mut dyn Source) -> Result<Fields, Fault> = match start {
        [] => return Err("the file is empty".into()),
        [_] | [_, _] | [_, _, _] => return Err("the header is cut short".into()),
        [0xFF, 0xD8, ..] => jpeg,
        [0x89, b'P', b'N', b'G', ..] => png,
        _ if is_tiff(&start[..4]) => {
            let file = file.try_clone().map_err(broken)?;
            return tiff(path, Input::File(file)).map(|header| Opened { header, exif: None });
        }
        _ => return Err("not a JPEG, PNG or TIFF".into()),
    };
    let mut found = format(&mut Cursor::new(start));
    let cut = match &found {
        Err(Fault::Io(e)) => e.kind() == io::ErrorKind::UnexpectedEof,
        found => found.as_ref().is_ok_and(|fields| fields.cut),
    };
    if cut && len == BUFFER_BYTES {
        file.rewind().map_err(broken)?;
        found = format(&mut BufReader::with_capacity(BUFFER_BYTES, file));
    }
    let Fields { size: (width, height), dtype, exif, .. } = found.map_err(|e| e.explain(broken))?;
    match (i32::try_from(width), i32::try_from(height)) {
        (Ok(width @ 1..), Ok(height @ 1..)) => {
            Ok(Opened { header: Header { width, height, bands: 3, dtype, tiff: None }, exif })
        }
        _ => Err(format!("impossible size: {width} x {height}")),
    }
}

/// What JPEG's and PNG's headers say.
struct Fields {
    size: (u32, u32),
    dtype: Dtype,
    exif: Option<Vec<u8>>,
    /// Whether EXIF may come behind what could be read.
    cut: bool,
}

/// The file, or its first bytes.
trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// Why a header is not taken: the system's error, or a reason of ours.
enum Fault {
    Io(io::Error),
    Reason(String),
}

impl Fault {
    fn explain(self, io: impl FnOnce(io::Error) -> String) -> String {
        match self {
            Self::Io(error) => io(error),
            Self::Reason(reason) => reason,
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.to_owned())
    }
}

/// From the start-of-image marker to the frame header. The size is the upright image's, by EXIF's orientation.
fn jpeg(reader: &mut dyn Source) -> Result<Fields, Fault> {
    reader.seek_relative(2)?;
    let mut exif: Option<Vec<u8>> = None;
    for _ in 0..MAX_SEGMENTS {
        if byte(reader)? != 0xFF {
            return Err("a broken JPEG: no marker where one should be".into());
        }
        let mut marker = byte(reader)?;
        while marker == 0xFF {
            marker = byte(reader)?;
        }
        match marker {
            // Markers without a segment.
            0x01 | 0xD0..=0xD7 => continue,
            0xD8..=0xDA => return Err("a broken JPEG: no frame header".into()),
            _ => {}
        }
        let length = i64::from(u16::from_be_bytes([byte(reader)?, byte(reader)?]));
        match marker {
            // Baseline, extended, progressive, lossless; the same with arithmetic coding.
            0xC0..=0xC3 | 0xC9..=0xCB => {
                let mut frame = [0; 6];
                reader.read_exact(&mut frame)?;
                let [bits, h1, h2, w1, w2, components] = frame;
                if bits != 8 {
                    return Err(Fault::Reason(format!("a JPEG of {bits} bits a sample: only 8 are read")));
                }
                if !matches!(components, 1 | 3 | 4) {
                    return Err(Fault::Reason(format!("a JPEG of {components} components: 1, 3 and 4 are read")));
                }
                let size = (u16::from_be_bytes([w1, w2]).into(), u16::from_be_bytes([h1, h2]).into());
                let turn = exif.as_deref().and_then(exif::orientation).map_or(Turn::of(1), Turn::of);
                let exif = exif.map(|mut segment| segment.split_off(EXIF_HEAD));
                return Ok(Fields { size: turn.size(size), dtype: Dtype::Uint8, exif, cut: false });
            }
            0xC5..=0xC7 | 0xCD..=0xCF => return Err("a hierarchical JPEG, which is not read".into()),
            _ if length < 2 => return Err("a broken JPEG: a segment without a length".into()),
            0xE1 if exif.is_none() => {
                let mut segment = vec![0; length as usize - 2];
                reader.read_exact(&mut segment)?;
                exif = exif::orientation(&segment).is_some().then_some(segment);
            }
            // Within the buffer this costs nothing; past the end of the file the next read says so.
            _ => reader.seek_relative(length - 2)?,
        }
    }
    Err("a broken JPEG: no frame header".into())
}

/// From the signature to the end of IHDR, and the EXIF that may stand between it and the pixels.
fn png(reader: &mut dyn Source) -> Result<Fields, Fault> {
    let mut head = [0; 26];
    reader.read_exact(&mut head)?;
    if head[4..8] != *b"\r\n\x1a\n" || head[12..16] != *b"IHDR" {
        return Err("a broken PNG: no IHDR".into());
    }
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let dtype = match head[24] {
        1 | 2 | 4 | 8 => Dtype::Uint8,
        16 => Dtype::Uint16,
        bits => return Err(Fault::Reason(format!("a broken PNG: {bits} bits a sample"))),
    };
    let (exif, cut) = png_exif(reader).map_or((None, true), |exif| (exif, false));
    Ok(Fields { size: (number(16), number(20)), dtype, exif, cut })
}

/// The content of the eXIf chunk, if one comes before the pixels. A chunk that is cut short is the decoder's to name.
fn png_exif(reader: &mut dyn Source) -> io::Result<Option<Vec<u8>>> {
    const REST_OF_IHDR: i64 = 7;
    reader.seek_relative(REST_OF_IHDR)?;
    for _ in 0..MAX_SEGMENTS {
        let mut head = [0; 8];
        reader.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        match &head[4..] {
            b"eXIf" if u16::try_from(length).is_ok() => {
                let mut content = vec![0; length as usize];
                reader.read_exact(&mut content)?;
                return Ok(Some(content));
            }
            b"IDAT" | b"IEND" => break,
            _ => reader.seek_relative(i64::from(length) + 4)?,
        }
    }
    Ok(None)
}

fn byte(reader: &mut dyn Source) -> Result<u8, Fault> {
    let mut one = [0];
    reader.read_exact(&mut one)?;
    Ok(one[0])
}

/// The header of the first image of a TIFF or `BigTIFF`, by the reader that will decode it. The error says why it cannot
/// be used.
pub fn tiff(path: &Path, input: Input<'_>) -> Result<Header, String> {
    let reason = |e: Error| match e {
        Error::Data { reason, .. } | Error::Io { reason, .. } => reason,
        e => e.to_string(),
    };
    let tiff = Tiff::open(path, input).map_err(reason)?;
    let geo = tiff.geo().map_err(reason)?;
    Ok(Header {
        // The reader takes none that do not fit.
        width: tiff.width() as i32,
        height: tiff.height() as i32,
        bands: tiff.bands() as i16,
        dtype: tiff.dtype(),
        tiff: Some(Box::new(TiffHeader {
            nodata: tiff.nodata(),
            alpha: tiff.alpha(),
            overviews: tiff.overviews(),
            geo,
        })),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Dtype, Header, read};

    /// A frame header after `padding` bytes of application segments.
    fn jpeg(padding: usize) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8];
        for start in (0..padding).step_by(60_000) {
            let n = (padding - start).min(60_000);
            bytes.extend([0xFF, 0xFF, 0xE2]);
            bytes.extend(((n + 2) as u16).to_be_bytes());
            bytes.extend(std::iter::repeat_n(0xFF, n));
        }
        bytes.extend([0xFF, 0xC2, 0, 17, 8, 0x01, 0x02, 0x03, 0x04, 3, 0, 0, 0]);
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<Header, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path())
    }

    #[test]
    fn jpeg_headers() {
        let want = Header { width: 0x304, height: 0x102, bands: 3, dtype: Dtype::Uint8, tiff: None };
        for padding in [0, 100, 5000, 1_000_000] {
            assert_eq!(read_bytes(&jpeg(padding)), Ok(want.clone()), "{padding}");
        }
        let whole = jpeg(100);
        for n in 0..whole.len() - 3 {
            let error = read_bytes(&whole[..n]).unwrap_err();
            assert!(error == "the file is empty" || error == "the header is cut short", "{n}: {error}");
        }
    }

    #[test]
    fn jpegs_that_are_turned() {
        let plain = jpeg(0);
        for (orientation, size) in [(1, (0x304, 0x102)), (3, (0x304, 0x102)), (6, (0x102, 0x304)), (9, (0x304, 0x102))]
        {
            let exif = [b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(), &[orientation, 0, 0]]
                .concat();
            let xmp = [0xFF, 0xE1, 0, 8, b'h', b't', b't', b'p', b':', b'/'];
            let length = (exif.len() as u16 + 2).to_be_bytes();
            let bytes = [&plain[..2], &xmp, &[0xFF, 0xE1], &length, &exif, &plain[2..]].concat();
            assert_eq!(read_bytes(&bytes).map(|h| (h.width, h.height)), Ok(size), "{orientation}");
        }
    }

    #[test]
    fn png_headers() {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0\0\0\x02\0\x10\x06\0\0\0\0\0\0\0".to_vec();
        assert_eq!(
            read_bytes(&bytes),
            Ok(Header { width: 256, height: 512, bands: 3, dtype: Dtype::Uint16, tiff: None })
        );
        bytes[16] = 0x80;
        assert!(read_bytes(&bytes).unwrap_err().starts_with("impossible size: "));
    }

    #[test]
    fn other_files() {
        assert_eq!(read(Path::new("/nowhere/x.jpg")), Err("no such file".into()));
        assert_eq!(read_bytes(b"GIF89a.."), Err("not a JPEG, PNG or TIFF".into()));
        // No tags at all.
        assert!(read_bytes(b"II\x2A\0\x08\0\0\0\0\0\0\0\0\0").is_err());
    }
}
