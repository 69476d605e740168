//! Rows as columns, in the form that Arrow takes without a copy.

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

    /// The texts.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.offsets
            .windows(2)
            .map(|ends| std::str::from_utf8(&self.bytes[ends[0] as usize..ends[1] as usize]).unwrap_or_default())
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
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// The place, "" if not known.
    pub location_id: String,
    /// Centre (latitude, longitude), degrees.
    pub centre: Option<(f64, f64)>,
    /// Microseconds since 1970, UTC.
    pub timestamp: Option<i64>,
    /// "" if not known.
    pub category: String,
    /// [x, y, width, height], pixels; None is the whole image.
    pub rect: Option<[i64; 4]>,
    /// Ground sample distance, metres.
    pub gsd: Option<f64>,
    /// Percent.
    pub cloud_cover: Option<f64>,
    /// The satellite; "" if not known.
    pub sensor: String,
    /// "" if not known.
    pub country_code: String,
    /// "" if not known.
    pub split: String,
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
}

impl Columns {
    /// Adds a row.
    pub fn push(&mut self, path: &str, header: &super::Header, row: &Row) {
        let (lat, lon) = row.centre.unwrap_or((f64::NAN, f64::NAN));
        let [x, y, w, h] = row.rect.unwrap_or([-1; 4]);
        self.path.push(path);
        self.location_id.push(&row.location_id);
        self.lat.push(lat);
        self.lon.push(lon);
        self.timestamp.push(row.timestamp.unwrap_or(i64::MIN));
        self.category.push(&row.category);
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
        self.sensor.push(&row.sensor);
        self.country_code.push(&row.country_code);
        self.split.push(&row.split);
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
