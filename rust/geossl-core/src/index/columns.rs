//! Rows as columns, in the form that Arrow takes without a copy.

use std::ops::Range;

/// Texts end to end. An empty text stands for null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strings {
    /// Where each text begins in `bytes`, and where the last one ends.
    pub offsets: Vec<i64>,
    /// UTF-8.
    pub bytes: Vec<u8>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

impl Strings {
    /// Adds a text.
    pub fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.offsets.push(self.bytes.len() as i64);
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds some of the texts of another.
    fn append(&mut self, other: &Self, rows: Range<usize>) {
        let (begin, end) = (other.offsets[rows.start], other.offsets[rows.end]);
        let shift = self.bytes.len() as i64 - begin;
        self.bytes.extend_from_slice(&other.bytes[begin as usize..end as usize]);
        self.offsets.extend(other.offsets[rows.start + 1..=rows.end].iter().map(|offset| offset + shift));
    }

    /// The bytes of a text.
    fn bytes_of(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// A text.
    pub fn get(&self, row: usize) -> &str {
        std::str::from_utf8(self.bytes_of(row)).unwrap_or_default()
    }

    /// The texts.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|row| self.get(row))
    }
}

impl<'a> FromIterator<&'a str> for Strings {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut out = Self::default();
        for text in texts {
            out.push(text);
        }
        out
    }
}

/// One row of the index.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Row<'a> {
    /// The place, "" if not known.
    pub location_id: &'a str,
    /// Centre (latitude, longitude), degrees.
    pub centre: Option<(f64, f64)>,
    /// Microseconds since 1970, UTC.
    pub timestamp: Option<i64>,
    /// "" if not known.
    pub category: &'a str,
    /// [x, y, width, height], pixels; None is the whole image.
    pub rect: Option<[i64; 4]>,
    /// Ground sample distance, metres.
    pub gsd: Option<f64>,
    /// Percent.
    pub cloud_cover: Option<f64>,
    /// The satellite; "" if not known.
    pub sensor: &'a str,
    /// "" if not known.
    pub country_code: &'a str,
    /// "" if not known.
    pub split: &'static str,
}

/// The rows of an index, column by column. Nulls: "" in texts, NaN in floats, `i64::MIN` in timestamps, -1 in boxes.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)] // the fields are `Row`'s and `Header`'s
pub struct Columns {
    pub path: Strings,
    pub location_id: Strings,
    pub lat: Vec<f64>,
    pub lon: Vec<f64>,
    pub timestamp: Vec<i64>,
    pub category: Strings,
    pub box_x: Vec<i32>,
    pub box_y: Vec<i32>,
    pub box_w: Vec<i32>,
    pub box_h: Vec<i32>,
    pub width: Vec<i32>,
    pub height: Vec<i32>,
    pub bands: Vec<i16>,
    pub dtype: Strings,
    pub gsd: Vec<f32>,
    pub cloud_cover: Vec<f32>,
    pub sensor: Strings,
    pub country_code: Strings,
    pub split: Strings,
    /// Of the files that the row was read from: another one once they change; 0 for files to be read again.
    pub stamp: Vec<i64>,
}

impl Columns {
    /// Adds a row.
    pub fn push(&mut self, path: &str, header: &super::Header, row: &Row<'_>, stamp: i64) {
        let (lat, lon) = row.centre.unwrap_or((f64::NAN, f64::NAN));
        let [x, y, w, h] = row.rect.unwrap_or([-1; 4]);
        self.path.push(path);
        self.location_id.push(row.location_id);
        self.lat.push(lat);
        self.lon.push(lon);
        self.timestamp.push(row.timestamp.unwrap_or(i64::MIN));
        self.category.push(row.category);
        self.box_x.push(x as i32);
        self.box_y.push(y as i32);
        self.box_w.push(w as i32);
        self.box_h.push(h as i32);
        self.width.push(header.width);
        self.height.push(header.height);
        self.bands.push(header.bands);
        self.dtype.push(header.dtype.name());
        self.gsd.push(row.gsd.map_or(f32::NAN, |v| v as f32));
        self.cloud_cover.push(row.cloud_cover.map_or(f32::NAN, |v| v as f32));
        self.sensor.push(row.sensor);
        self.country_code.push(row.country_code);
        self.split.push(row.split);
        self.stamp.push(stamp);
    }

    /// Adds some of the rows of another.
    pub fn append(&mut self, other: &Self, rows: &Range<usize>) {
        self.path.append(&other.path, rows.clone());
        self.location_id.append(&other.location_id, rows.clone());
        self.category.append(&other.category, rows.clone());
        self.dtype.append(&other.dtype, rows.clone());
        self.sensor.append(&other.sensor, rows.clone());
        self.country_code.append(&other.country_code, rows.clone());
        self.split.append(&other.split, rows.clone());
        self.lat.extend_from_slice(&other.lat[rows.clone()]);
        self.lon.extend_from_slice(&other.lon[rows.clone()]);
        self.timestamp.extend_from_slice(&other.timestamp[rows.clone()]);
        self.box_x.extend_from_slice(&other.box_x[rows.clone()]);
        self.box_y.extend_from_slice(&other.box_y[rows.clone()]);
        self.box_w.extend_from_slice(&other.box_w[rows.clone()]);
        self.box_h.extend_from_slice(&other.box_h[rows.clone()]);
        self.width.extend_from_slice(&other.width[rows.clone()]);
        self.height.extend_from_slice(&other.height[rows.clone()]);
        self.bands.extend_from_slice(&other.bands[rows.clone()]);
        self.gsd.extend_from_slice(&other.gsd[rows.clone()]);
        self.cloud_cover.extend_from_slice(&other.cloud_cover[rows.clone()]);
        self.stamp.extend_from_slice(&other.stamp[rows.clone()]);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.path.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The rows of all parts in order of their paths: the number of the part, and its rows. Those of one path stay in the
/// order that they have; they are in one part.
pub fn in_order(parts: &[Columns]) -> Vec<(usize, Range<usize>)> {
    let folder = |path: &[u8]| path.iter().rposition(|&c| c == b'/').unwrap_or(0);
    let mut pieces = Vec::new();
    for (part, Columns { path, .. }) in parts.iter().enumerate() {
        let mut start = 0;
        for row in 1..=path.len() {
            let ends = row == path.len() || {
                let (a, b) = (path.bytes_of(row - 1), path.bytes_of(row));
                a > b || a[..folder(a)] != b[..folder(b)]
            };
            if ends {
                pieces.push((part, start..row));
                start = row;
            }
        }
    }
    let path = |part: usize, row: usize| parts[part].path.bytes_of(row);
    let by_first =
        |a: &(usize, Range<usize>), b: &(usize, Range<usize>)| path(a.0, a.1.start).cmp(path(b.0, b.1.start));
    pieces.sort_by(by_first);
    if pieces.windows(2).any(|w| path(w[0].0, w[0].1.end - 1) > path(w[1].0, w[1].1.start)) {
        // Folders lie between the files of the folder that they lie in.
        pieces = pieces.into_iter().flat_map(|(part, rows)| rows.map(move |row| (part, row..row + 1))).collect();
        pieces.sort_by(by_first);
    }
    pieces
}
