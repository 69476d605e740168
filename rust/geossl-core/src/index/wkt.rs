//! The centre of a footprint given as WKT.

/// How the error begins where latitude and longitude are swapped.
pub const SWAPPED: &str = "swapped latitude and longitude";

/// Smallest share of its bounding box that a ring must cover for its area to mean anything.
const MIN_FILL: f64 = 1e-9;

/// Centre (latitude, longitude) in degrees of a `POLYGON` or `MULTIPOLYGON` whose vertices are "longitude latitude".
///
/// It is the area centroid of the outer rings, computed in degrees; a ring without an area (a point, a line) counts
/// by the mean of its vertices. A ring across the antimeridian is unwrapped first: two neighbours are never more than
/// 180 degrees apart. Longitudes of -360 to 360 are taken, the answer lies in -180..180.
/// The error says what is wrong with the text.
pub fn centre(wkt: &str) -> Result<(f64, f64), String> {
    let mut shapes = Reader { text: wkt, at: 0 }.shapes()?;
    // Parts cut at the antimeridian are brought to the first part's side of it.
    let first_x = shapes[0].x;
    for shape in &mut shapes {
        shape.x = near(shape.x, first_x);
    }
    let total: f64 = shapes.iter().map(|s| s.area).sum();
    let weight = |s: &Shape| if total > 0.0 { s.area / total } else { 1.0 / shapes.len() as f64 };
    let x: f64 = shapes.iter().map(|s| s.x * weight(s)).sum();
    let y: f64 = shapes.iter().map(|s| s.y * weight(s)).sum();
    Ok((y, wrap(x)))
}

/// The longitude in -180..180.
pub fn wrap(lon: f64) -> f64 {
    if (-180.0..180.0).contains(&lon) { lon } else { (lon + 180.0).rem_euclid(360.0) - 180.0 }
}

/// `lon` plus the multiple of 360 that brings it next to `reference`.
fn near(lon: f64, reference: f64) -> f64 {
    lon - ((lon - reference) / 360.0).round() * 360.0
}

/// Area and centre of a ring, degrees.
struct Shape {
    area: f64,
    x: f64,
    y: f64,
}

impl Shape {
    /// Of a ring that has a vertex.
    fn of_ring(ring: &mut Vec<(f64, f64)>) -> Self {
        if ring.len() > 1 && ring.first() == ring.last() {
            ring.pop();
        }
        let origin = ring[0];
        for i in 1..ring.len() {
            ring[i].0 = near(ring[i].0, ring[i - 1].0);
        }
        // Coordinates relative to a vertex: a small footprint far from (0, 0) keeps its digits.
        for p in ring.iter_mut() {
            *p = (p.0 - origin.0, p.1 - origin.1);
        }
        let span = |axis: fn(&(f64, f64)) -> f64| {
            ring.iter().map(axis).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
        };
        let ((x0, x1), (y0, y1)) = (span(|p| p.0), span(|p| p.1));
        let (mut twice, mut x, mut y) = (0.0, 0.0, 0.0);
        for (a, b) in ring.iter().zip(ring.iter().cycle().skip(1)) {
            let cross = a.0 * b.1 - b.0 * a.1;
            twice += cross;
            x += (a.0 + b.0) * cross;
            y += (a.1 + b.1) * cross;
        }
        (x, y) = (x / (3.0 * twice), y / (3.0 * twice));
        let area = twice.abs() / 2.0;
        // A ring that crosses itself can have a centroid outside of itself.
        let inside = (x0..=x1).contains(&x) && (y0..=y1).contains(&y);
        if area > MIN_FILL * (x1 - x0) * (y1 - y0) && inside {
            return Self { area, x: x + origin.0, y: y + origin.1 };
        }
        let n = ring.len() as f64;
        let (x, y) = ring.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
        Self { area: 0.0, x: x + origin.0, y: y + origin.1 }
    }
}

/// Reads WKT from left to right.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The outer ring of every polygon; there is at least one.
    fn shapes(&mut self) -> Result<Vec<Shape>, String> {
        let (mut shapes, mut ring) = (Vec::with_capacity(1), Vec::with_capacity(8));
        let kind = self.word();
        if kind.eq_ignore_ascii_case("POLYGON") {
            self.skip_dimension();
            shapes.push(self.polygon(&mut ring)?);
        } else if kind.eq_ignore_ascii_case("MULTIPOLYGON") {
            self.skip_dimension();
            self.list(|reader| {
                shapes.push(reader.polygon(&mut ring)?);
                Ok(())
            })?;
        } else if kind.is_empty() {
            return Err("not WKT".into());
        } else {
            return Err(format!("{} is not a POLYGON or MULTIPOLYGON", kind.to_ascii_uppercase()));
        }
        match self.peek() {
            None => Ok(shapes),
            Some(_) => Err(format!("unexpected text after the polygon at byte {}", self.at)),
        }
    }

    /// The outer ring of the polygon; inner rings are read and left out. `ring` is memory to use.
    fn polygon(&mut self, ring: &mut Vec<(f64, f64)>) -> Result<Shape, String> {
        let mut outer = None;
        self.list(|reader| {
            ring.clear();
            reader.list(|reader| {
                ring.push(reader.vertex()?);
                Ok(())
            })?;
            outer.get_or_insert_with(|| Shape::of_ring(ring));
            Ok(())
        })?;
        outer.ok_or_else(|| "a polygon without a ring".into())
    }

    /// `(item, item, ..)`, at least one item.
    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        self.expect(b'(')?;
        loop {
            item(self)?;
            if self.peek() == Some(b',') {
                self.at += 1;
            } else {
                return self.expect(b')');
            }
        }
    }

    /// Longitude and latitude; further numbers (height, measure) are left out.
    fn vertex(&mut self) -> Result<(f64, f64), String> {
        let (lon, lat) = (self.number()?, self.number()?);
        for _ in 0..2 {
            if !matches!(self.peek(), Some(b',' | b')') | None) {
                self.number()?;
            }
        }
        if !(-360.0..=360.0).contains(&lon) {
            return Err(format!("longitude {lon} is out of range"));
        }
        if lat.abs() > 90.0 && lat.abs() <= 180.0 && lon.abs() <= 90.0 {
            return Err(format!("{SWAPPED}, {lon} {lat}"));
        }
        if !(-90.0..=90.0).contains(&lat) {
            return Err(format!("latitude {lat} is out of range"));
        }
        Ok((lon, lat))
    }

    fn number(&mut self) -> Result<f64, String> {
        self.peek();
        let start = self.at;
        while self.byte().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.')) {
            self.at += 1;
        }
        match self.text[start..self.at].parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(format!("expected a number at byte {start}")),
        }
    }

    /// The letters that come next.
    fn word(&mut self) -> &'a str {
        self.peek();
        let start = self.at;
        while self.byte().is_some_and(|c| c.is_ascii_alphabetic()) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn skip_dimension(&mut self) {
        let start = self.at;
        let word = self.word();
        if !["Z", "M", "ZM"].iter().any(|dimension| word.eq_ignore_ascii_case(dimension)) {
            self.at = start;
        }
    }

    /// The next byte that is not a space.
    fn peek(&mut self) -> Option<u8> {
        while self.byte().is_some_and(|c| c.is_ascii_whitespace()) {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.peek() != Some(byte) {
            return Err(format!("expected '{}' at byte {}", char::from(byte), self.at));
        }
        self.at += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{centre, wrap};

    #[track_caller]
    fn assert_centre(wkt: &str, lat: f64, lon: f64) {
        let (got_lat, got_lon) = centre(wkt).unwrap();
        assert!((got_lat - lat).abs() < 1e-9 && (got_lon - lon).abs() < 1e-9, "{wkt}: {got_lat}, {got_lon}");
    }

    #[test]
    fn centroids() {
        assert_centre("POLYGON ((0 0, 4 0, 4 2, 0 2, 0 0))", 1.0, 2.0);
        assert_centre("polygon((0 0,4 0,4 2,0 2))", 1.0, 2.0);
        // An L: 3 unit squares around (0.5, 0.5), (1.5, 0.5) and (0.5, 1.5).
        assert_centre("POLYGON ((0 0, 2 0, 2 1, 1 1, 1 2, 0 2, 0 0))", 2.5 / 3.0, 2.5 / 3.0);
        assert_centre("POLYGON Z ((10 20 5, 12 20 5, 12 22 5, 10 22 5, 10 20 5))", 21.0, 11.0);
        // The hole is left out on purpose: the crop is centred on the outline.
        assert_centre("POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (0 0, 1 0, 1 1, 0 0))", 2.0, 2.0);
        assert_centre("MULTIPOLYGON (((0 0, 1 0, 1 1, 0 1, 0 0)), ((10 0, 13 0, 13 1, 10 1, 10 0)))", 0.5, 8.75);
    }

    #[test]
    fn antimeridian() {
        assert_centre("POLYGON ((179 0, -179 0, -179 1, 179 1, 179 0))", 0.5, -180.0);
        assert_centre("POLYGON ((179 0, 182 0, 182 1, 179 1, 179 0))", 0.5, -179.5);
        let halves = "MULTIPOLYGON (((179 0, 180 0, 180 1, 179 1, 179 0)), ((-180 0, -178 0, -178 1, -180 1, -180 0)))";
        assert_centre(halves, 0.5, (179.5 + 2.0 * 181.0) / 3.0 - 360.0);
    }

    #[test]
    fn degenerate() {
        assert_centre("POLYGON ((5 6, 5 6, 5 6))", 6.0, 5.0);
        assert_centre("POLYGON ((0 0, 1 1, 2 2, 0 0))", 1.0, 1.0);
        assert_centre("POLYGON ((5 6))", 6.0, 5.0);
        // A bow tie has no net area.
        assert_centre("POLYGON ((0 0, 2 2, 2 0, 0 2, 0 0))", 1.0, 1.0);
    }

    #[test]
    fn small_and_far() {
        let (lat, lon, d) = (47.123_456_7, 8.765_432_1, 1e-5);
        let (e, n) = (lon + d, lat + d);
        let wkt = format!("POLYGON (({lon} {lat}, {e} {lat}, {e} {n}, {lon} {n}, {lon} {lat}))");
        let (got_lat, got_lon) = centre(&wkt).unwrap();
        assert!((got_lat - lat - d / 2.0).abs() < 1e-10 && (got_lon - lon - d / 2.0).abs() < 1e-10);
    }

    #[test]
    fn garbage_is_named() {
        for (wkt, why) in [
            ("", "not WKT"),
            ("POINT (1 2)", "POINT is not a POLYGON"),
            ("POLYGON EMPTY", "expected '('"),
            ("POLYGON ((nan 0, 1 0, 1 1))", "expected a number at byte 10"),
            ("POLYGON ((inf 0, 1 0, 1 1))", "expected a number"),
            ("POLYGON ((0 0, 1 0, 1", "expected a number"),
            ("POLYGON ((0 0, 1 0, 1 1)", "expected ')'"),
            ("POLYGON ((0 0, 1 0, 1 1)) x", "unexpected text"),
            ("POLYGON ((0 191, 1 0, 1 1))", "latitude 191 is out of range"),
            ("POLYGON ((-40 91, 1 0, 1 1))", "swapped latitude and longitude, -40 91"),
            ("POLYGON ((400 1, 1 0, 1 1))", "longitude 400 is out of range"),
        ] {
            let error = centre(wkt).unwrap_err();
            assert!(error.contains(why), "{wkt}: {error}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "\\PC*") {
            let _ = centre(&text);
            let _ = centre(&format!("POLYGON (({text}"));
        }

        #[test]
        fn rectangles_have_their_centre(lat in -80f64..80.0, lon in -180f64..180.0, h in 1e-4f64..9.0, w in 1e-4f64..89.0) {
            // The vertices are written as files have them: within -180..180.
            let (s, n, west, east) = (lat - h, lat + h, wrap(lon - w), wrap(lon + w));
            let wkt = format!("POLYGON (({west} {s}, {east} {s}, {east} {n}, {west} {n}, {west} {s}))");
            let (got_lat, got_lon) = centre(&wkt).unwrap();
            prop_assert!((got_lat - lat).abs() < 1e-6, "{got_lat} {lat}");
            prop_assert!(wrap(got_lon - lon).abs() < 1e-6, "{got_lon} {lon}");
            prop_assert!((-180.0..180.0).contains(&got_lon));
        }
    }
}
