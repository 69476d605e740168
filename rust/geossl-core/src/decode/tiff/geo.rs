//! Where and when a TIFF's image was taken, as its tags have it.

use super::ifd::{Directory, Reader, Window};
use super::tags::GDAL_METADATA;
use crate::Result;

const DATE_TIME: u16 = 306;
const PIXEL_SCALE: u16 = 33550;
const TIE_POINTS: u16 = 33922;
const TRANSFORMATION: u16 = 34264;
const GEO_KEYS: u16 = 34735;

/// Geo keys that are looked at; there are about a hundred.
const MAX_KEYS: u64 = 1024;
/// A code that stands for "described by other keys".
const USER_DEFINED: u64 = 32767;

/// What the tags of a TIFF say of place and date.
#[derive(Debug, Clone, PartialEq)]
pub struct GeoHeader {
    /// a, b, c, d, e, f: a pixel's column and row, from the image's upper left corner, are the coordinates
    /// (a * column + b * row + c, d * column + e * row + f).
    pub transform: Option<[f64; 6]>,
    /// EPSG's code of the coordinates.
    pub epsg: Option<u32>,
    /// `DateTime`, as it stands.
    pub datetime: Option<String>,
    /// GDAL's metadata, XML.
    pub metadata: Option<String>,
    /// `PhotometricInterpretation`.
    pub photometric: u16,
}

/// The keys that matter here.
#[derive(Default)]
struct Keys {
    model: u64,
    raster: u64,
    geographic: Option<u64>,
    projected: Option<u64>,
}

/// Reads the tags of the image's directory.
pub fn read(reader: &Reader<'_>, window: &mut Window, directory: &Directory, photometric: u16) -> Result<GeoHeader> {
    let keys = keys(reader, window, directory)?;
    let code = match (keys.projected, keys.geographic) {
        (Some(code), _) => Some(code),
        // A projection that is described by its parameters.
        (None, _) if keys.model == 1 => None,
        (None, code) => code,
    };
    let mut text = |tag| directory.get(tag).map_or(Ok(None), |entry| reader.text(window, entry));
    let (datetime, metadata) = (text(DATE_TIME)?, text(GDAL_METADATA)?);
    Ok(GeoHeader {
        transform: transform(reader, window, directory, keys.raster == 2)?,
        epsg: code.filter(|&code| code != 0 && code < USER_DEFINED).map(|code| code as u32),
        datetime,
        metadata,
        photometric,
    })
}

fn keys(reader: &Reader<'_>, window: &mut Window, directory: &Directory) -> Result<Keys> {
    let mut keys = Keys::default();
    let Some(entry) = directory.get(GEO_KEYS).filter(|entry| entry.count >= 4) else { return Ok(keys) };
    let listed = reader.number(window, entry, 3)?.min(entry.count / 4 - 1).min(MAX_KEYS);
    for n in 1..=listed {
        // Values that stand elsewhere have the number of that tag here.
        if reader.number(window, entry, 4 * n + 1)? != 0 {
            continue;
        }
        let (key, value) = (reader.number(window, entry, 4 * n)?, reader.number(window, entry, 4 * n + 3)?);
        match key {
            1024 => keys.model = value,
            1025 => keys.raster = value,
            2048 => keys.geographic = Some(value),
            3072 => keys.projected = Some(value),
            _ => {}
        }
    }
    Ok(keys)
}

/// As GDAL has it: scale and tie point before the matrix.
fn transform(
    reader: &Reader<'_>,
    window: &mut Window,
    directory: &Directory,
    pixel_is_point: bool,
) -> Result<Option<[f64; 6]>> {
    let mut doubles = |tag| {
        directory.get(tag).map_or(Ok(None), |entry| reader.doubles(window, entry, 16)).map(Option::unwrap_or_default)
    };
    let (scale, tie, matrix) = (doubles(PIXEL_SCALE)?, doubles(TIE_POINTS)?, doubles(TRANSFORMATION)?);
    let [a, b, mut c, d, e, mut f] = match (&scale[..], &tie[..], &matrix[..]) {
        (&[sx, sy, ..], &[i, j, _, x, y, _, ..], _) if sx != 0.0 && sy != 0.0 => {
            let (a, e) = (sx, -sy.abs());
            [a, 0.0, x - i * a, 0.0, e, y - j * e]
        }
        (_, _, &[a, b, _, c, d, e, _, f, ..]) if matrix.len() == 16 => [a, b, c, d, e, f],
        _ => return Ok(None),
    };
    if pixel_is_point {
        c -= f64::midpoint(a, b);
        f -= f64::midpoint(d, e);
    }
    let found = [a, b, c, d, e, f];
    Ok(found.iter().all(|value| value.is_finite()).then_some(found))
}
