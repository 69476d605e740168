//! fMoW's JSON sidecars, with their oddities.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

use super::lenient::{Number, Rect, Text};
use super::{coordinates, timestamp, wkt};

/// Boxes of this many pixels a side or less are left out, as fMoW's baseline does.
const MIN_BOX: i64 = 2;

/// What a sidecar says about its image. What it does not say is None, or "" for text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sidecar<'a> {
    /// Ground sample distance, metres.
    pub gsd: Option<f64>,
    /// Cloud cover, percent.
    pub cloud_cover: Option<f64>,
    /// The satellite, as written: "WORLDVIEW02".
    pub sensor: Cow<'a, str>,
    /// Microseconds since 1970, UTC.
    pub timestamp: Option<i64>,
    /// As written: mostly ISO-3, but "KO-" and "CA-" occur.
    pub country_code: Cow<'a, str>,
    /// Centre of the image's footprint, (latitude, longitude).
    pub centre: Option<(f64, f64)>,
    /// Size of the image that the boxes belong to, if given.
    pub size: Option<(i64, i64)>,
    /// The boxes, as listed.
    pub boxes: Vec<BoundingBox<'a>>,
    /// Values that were bad and count as not said, as "what: why".
    pub problems: Vec<String>,
}

/// A labelled object in the image.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundingBox<'a> {
    /// As written; its position in the list if it has none.
    pub id: i64,
    /// "" if it has none.
    pub category: Cow<'a, str>,
    /// [x, y, width, height] in pixels from the top left; None if it is not four numbers.
    pub rect: Option<[i64; 4]>,
    /// Centre of the box's own footprint, (latitude, longitude).
    pub centre: Option<(f64, f64)>,
}

/// The boxes that can be cut from an image.
#[derive(Debug, Default, PartialEq)]
pub struct Selection<'a> {
    /// Usable boxes, clipped to the image, each area once.
    pub boxes: Vec<BoundingBox<'a>>,
    /// Boxes that repeat another one.
    pub duplicates: usize,
    /// Boxes left out for being tiny.
    pub tiny: usize,
    /// Boxes that cannot be used, as "what: why".
    pub rejected: Vec<String>,
}

/// Reads a sidecar. The error says why it is not one.
pub fn parse(bytes: &[u8]) -> Result<Sidecar<'_>, String> {
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err("the sidecar is not fMoW's JSON: it is no object".into());
    }
    let not_json = |e: serde_json::Error| format!("the sidecar is not fMoW's JSON: {e}");
    let json = std::str::from_utf8(text).map_or_else(|_| serde_json::from_slice(text), serde_json::from_str);
    match json {
        Ok(fields) => Ok(checked(fields)),
        // Python's json module writes NaN and Infinity, which JSON does not have.
        Err(error) => match without_nan(text) {
            None => Err(not_json(error)),
            Some(text) => serde_json::from_slice(&text).map(|fields| checked(fields).owned()).map_err(not_json),
        },
    }
}

/// The values that make sense, and what is wrong with the others.
fn checked(raw: Fields<'_>) -> Sidecar<'_> {
    let mut problems = Vec::new();
    let mut centre = |text: &str, of: &str| {
        if text.is_empty() {
            return None;
        }
        let found = wkt::centre(text).map_err(|why| match why.strip_prefix(wkt::SWAPPED) {
            Some(rest) => format!("{}: {of}{rest}", wkt::SWAPPED),
            None => format!("bad {of}: {why}"),
        });
        found.and_then(|(lat, lon)| coordinates::checked(lat, lon)).map_err(|why| problems.push(why)).ok()
    };
    let image_centre = centre(&raw.raw_location.0, "raw_location");
    let image_location = raw.raw_location.0;
    let boxes = raw.bounding_boxes.0.into_iter().enumerate();
    let boxes = boxes
        .map(|(i, b)| BoundingBox {
            id: b.id.0.map_or(i as i64, |id| id as i64),
            category: b.category.0,
            rect: b.rect.0,
            // fMoW writes the image's own again for the box that is the whole image.
            centre: match image_centre {
                Some(_) if b.raw_location.0 == image_location => image_centre,
                _ => centre(&b.raw_location.0, "raw_location of a box"),
            },
        })
        .collect();
    let timestamp = timestamp::micros(&raw.timestamp.0);
    if timestamp.is_none() && !raw.timestamp.0.is_empty() {
        problems.push(format!("bad timestamp: {:?}", raw.timestamp.0));
    }
    let mut in_range = |value: Number, name: &str, ok: fn(f64) -> bool| {
        if value.0.is_some_and(|v| !ok(v)) {
            problems.push(format!("bad {name}: {}", value.0.unwrap_or_default()));
        }
        value.0.filter(|&v| ok(v))
    };
    Sidecar {
        gsd: in_range(raw.gsd, "gsd", |v| v > 0.0),
        cloud_cover: in_range(raw.cloud_cover, "cloud_cover", |v| (0.0..=100.0).contains(&v)),
        sensor: raw.sensor_platform_name.0,
        timestamp,
        country_code: raw.country_code.0,
        centre: image_centre,
        size: raw.img_width.0.zip(raw.img_height.0).map(|(w, h)| (w as i64, h as i64)),
        boxes,
        problems,
    }
}

impl Sidecar<'_> {
    /// Without what it borrows.
    fn owned(self) -> Sidecar<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let own_box =
            |b: BoundingBox<'_>| BoundingBox { category: own(b.category), id: b.id, rect: b.rect, centre: b.centre };
        Sidecar {
            sensor: own(self.sensor),
            country_code: own(self.country_code),
            boxes: self.boxes.into_iter().map(own_box).collect(),
            problems: self.problems,
            gsd: self.gsd,
            cloud_cover: self.cloud_cover,
            timestamp: self.timestamp,
            centre: self.centre,
            size: self.size,
        }
    }
}

/// The boxes of an image of `width` x `height` pixels that can be used.
///
/// A box listed twice (once with the ID -1) is one crop, under the ID that is not negative. Boxes are clipped to the
/// image; one wholly outside is rejected, one of 2 pixels or less a side is left out.
pub fn select<'a>(boxes: &[BoundingBox<'a>], width: u32, height: u32) -> Selection<'a> {
    let mut out = Selection::default();
    for candidate in boxes {
        let Some([x, y, w, h]) = candidate.rect else {
            out.rejected.push(format!("a box is not [x, y, width, height]: box {}", candidate.id));
            continue;
        };
        if w <= MIN_BOX || h <= MIN_BOX {
            out.tiny += 1;
            continue;
        }
        let (x0, x1) = (x.max(0), (x + w).min(i64::from(width)));
        let (y0, y1) = (y.max(0), (y + h).min(i64::from(height)));
        if x0 >= x1 || y0 >= y1 {
            out.rejected.push(format!("a box lies outside the image: [{x}, {y}, {w}, {h}] in {width} x {height}"));
            continue;
        }
        if x1 - x0 <= MIN_BOX || y1 - y0 <= MIN_BOX {
            out.tiny += 1;
            continue;
        }
        let rect = Some([x0, y0, x1 - x0, y1 - y0]);
        if let Some(same) = out.boxes.iter_mut().find(|b| b.rect == rect) {
            out.duplicates += 1;
            same.centre = same.centre.or(candidate.centre);
            if same.id < 0 && candidate.id >= 0 {
                same.id = candidate.id;
                if !candidate.category.is_empty() {
                    same.category.clone_from(&candidate.category);
                }
            }
            continue;
        }
        out.boxes.push(BoundingBox { rect, ..candidate.clone() });
    }
    out
}

/// The text with every bare NaN and Infinity made null; None if it has none.
fn without_nan(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let (mut in_string, mut changed, mut i) = (false, false, 0);
    while i < text.len() {
        let word =
            [&b"NaN"[..], b"-Infinity", b"Infinity"].into_iter().find(|w| !in_string && text[i..].starts_with(w));
        if let Some(word) = word {
            out.extend_from_slice(b"null");
            changed = true;
            i += word.len();
            continue;
        }
        out.push(text[i]);
        if in_string && text[i] == b'\\' {
            out.extend(text.get(i + 1));
            i += 1;
        } else if text[i] == b'"' {
            in_string = !in_string;
        }
        i += 1;
    }
    changed.then_some(out)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Fields<'a> {
    gsd: Number,
    cloud_cover: Number,
    #[serde(borrow)]
    sensor_platform_name: Text<'a>,
    #[serde(borrow)]
    timestamp: Text<'a>,
    #[serde(borrow)]
    country_code: Text<'a>,
    #[serde(borrow)]
    raw_location: Text<'a>,
    img_width: Number,
    img_height: Number,
    #[serde(borrow)]
    bounding_boxes: OneOrMany<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct BoxFields<'a> {
    #[serde(rename = "ID")]
    id: Number,
    #[serde(borrow)]
    category: Text<'a>,
    #[serde(rename = "box")]
    rect: Rect,
    #[serde(borrow)]
    raw_location: Text<'a>,
}

/// A list of boxes, a bare box, or nothing.
#[derive(Default)]
struct OneOrMany<'a>(Vec<BoxFields<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for OneOrMany<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = OneOrMany<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of boxes, or one box")
            }
            fn visit_unit<E>(self) -> Result<OneOrMany<'de>, E> {
                Ok(OneOrMany(Vec::new()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany<'de>, A::Error> {
                let mut boxes = Vec::new();
                while let Some(item) = seq.next_element()? {
                    boxes.push(item);
                }
                Ok(OneOrMany(boxes))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany<'de>, A::Error> {
                BoxFields::deserialize(MapAccessDeserializer::new(map))
                    .map(|item| OneOrMany(vec![item]))
                    .map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BoundingBox, parse, select};

    const SQUARE: &str = "POLYGON ((10 20, 12 20, 12 22, 10 22, 10 20))";

    fn boxed(id: i64, rect: [i64; 4]) -> BoundingBox<'static> {
        BoundingBox { id, category: "zoo".into(), rect: Some(rect), centre: None }
    }

    #[test]
    fn a_plain_sidecar() {
        let text = format!(
            r#"{{"gsd": 0.5, "timestamp": "2012-04-02T10:32:22.25Z", "cloud_cover": 7, "country_code": "KO-",
                "sensor_platform_name": "WORLDVIEW02", "img_width": 100, "img_height": 80, "raw_location": "{SQUARE}", "unknown": [1, {{}}],
                "bounding_boxes": [{{"ID": 3, "category": "zoo", "box": [1, 2, 30, 40], "visible": true}}]}}"#
        );
        let got = parse(text.as_bytes()).unwrap();
        assert_eq!((got.gsd, got.cloud_cover, got.size), (Some(0.5), Some(7.0), Some((100, 80))));
        assert_eq!((got.timestamp, got.centre), (Some(1_333_362_742_250_000), Some((21.0, 11.0))));
        assert_eq!((&*got.country_code, &*got.sensor), ("KO-", "WORLDVIEW02"));
        assert_eq!(got.boxes, [boxed(3, [1, 2, 30, 40])]);
        assert!(got.problems.is_empty());
    }

    #[test]
    fn a_bare_box_text_numbers_byte_order_mark_and_nan() {
        let text = "\u{feff}{\"gsd\": \"0.5\", \"cloud_cover\": NaN, \"off_nadir\": -Infinity, \"note\": \"a \\\"NaN\", \
                    \"bounding_boxes\": {\"ID\": \"3\", \"category\": \"zoo\", \"box\": [\"1\", 2.4, 30, \"40\"]}}";
        let got = parse(text.as_bytes()).unwrap();
        assert_eq!((got.gsd, got.cloud_cover, got.timestamp, got.centre), (Some(0.5), None, None, None));
        assert_eq!(got.boxes, [boxed(3, [1, 2, 30, 40])]);
    }

    #[test]
    fn bad_values_are_named_and_left_out() {
        let text = br#"{"gsd": -1, "cloud_cover": 101, "timestamp": "yesterday", "raw_location": "POINT (1 2)",
                        "bounding_boxes": [{"box": [1, 2]}, {"box": null}, {"box": [0, 0, 1e300, 4]}]}"#;
        let got = parse(text).unwrap();
        assert_eq!((got.gsd, got.cloud_cover, got.timestamp, got.centre), (None, None, None, None));
        assert_eq!(got.problems.len(), 4, "{:?}", got.problems);
        assert_eq!(got.boxes.iter().map(|b| (b.id, b.rect)).collect::<Vec<_>>(), [(0, None), (1, None), (2, None)]);
        assert_eq!(select(&got.boxes, 10, 10).rejected.len(), 3);
        for text in ["", "[]", "{", "{\"gsd\": []}", "{\"gsd\": \"x\"}", "{\"bounding_boxes\": 3}", "null"] {
            assert!(parse(text.as_bytes()).unwrap_err().starts_with("the sidecar is not fMoW's JSON: "), "{text}");
        }
    }

    #[test]
    fn boxes_are_selected() {
        let centred = BoundingBox { centre: Some((1.0, 2.0)), ..boxed(-1, [10, 10, 20, 20]) };
        let boxes = [
            centred,
            boxed(5, [10, 10, 20, 20]),
            boxed(6, [0, 0, 2, 50]),
            boxed(7, [-5, -5, 20, 20]),
            boxed(8, [90, 40, 20, 20]),
            boxed(9, [100, 0, 20, 20]),
            boxed(10, [98, 0, 20, 20]),
        ];
        let got = select(&boxes, 100, 50);
        let kept: Vec<_> = got.boxes.iter().map(|b| (b.id, b.rect.unwrap(), b.centre)).collect();
        let want = [(5, [10, 10, 20, 20], Some((1.0, 2.0))), (7, [0, 0, 15, 15], None), (8, [90, 40, 10, 10], None)];
        assert_eq!(kept, want);
        assert_eq!((got.duplicates, got.tiny), (1, 2));
        assert_eq!(got.rejected, ["a box lies outside the image: [100, 0, 20, 20] in 100 x 50"]);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "\\PC*", id in any::<i64>(), rect in any::<[f64; 4]>()) {
            let _ = parse(text.as_bytes());
            let text = format!(r#"{{"timestamp": {text:?}, "raw_location": {text:?},
                "bounding_boxes": {{"ID": {id}, "box": {rect:?}}}}}"#);
            if let Ok(sidecar) = parse(text.as_bytes()) {
                for b in select(&sidecar.boxes, 100, 50).boxes {
                    let [x, y, w, h] = b.rect.unwrap();
                    prop_assert!(x >= 0 && y >= 0 && w > 2 && h > 2 && x + w <= 100 && y + h <= 50);
                }
            }
        }
    }
}
