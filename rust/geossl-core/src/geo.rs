//! Points on the sphere: degrees to unit vectors and back, great-circle distances.

use std::f64::consts::PI;

use crate::{Error, Result};

/// Mean radius of the Earth, kilometres (IUGG's R1).
pub const EARTH_RADIUS_KM: f64 = 6371.0088;

/// Below this angle in radians a few terms of a sine's series are exact to the last bit or so, and fast.
const SMALL: f64 = 0.02;

/// A point on the globe, made ready for many distances. The same point is the same value: longitudes that differ by
/// 360 degrees are one, and a pole has one longitude.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    lat: f64,
    lon: f64,
    cos_lat: f64,
}

impl Place {
    /// The place at degrees; the longitude is taken modulo 360.
    pub fn new(lat: f64, lon: f64) -> Self {
        // Adding zero turns -0 into 0.
        let lon = if lat.abs() < 90.0 { reduced(lon) + 0.0 } else { 0.0 };
        Self { lat: lat + 0.0, lon, cos_lat: cosine(lat) }
    }

    /// Latitude, degrees.
    pub fn lat(self) -> f64 {
        self.lat
    }

    /// Longitude, degrees from -180 up to 180, without 180 itself.
    pub fn lon(self) -> f64 {
        self.lon
    }

    /// Unit vector.
    pub fn vector(self) -> [f64; 3] {
        let lon = self.lon.to_radians();
        [self.cos_lat * lon.cos() + 0.0, self.cos_lat * lon.sin() + 0.0, self.lat.to_radians().sin() + 0.0]
    }

    /// Great-circle distance by the haversine formula, kilometres.
    ///
    /// The relative error stays near 1e-15 for points a millimetre apart, across the antimeridian and the poles, and
    /// for antipodes, where the formula is taken for the antipode instead. a.km(b) and b.km(a) have the same bits.
    pub fn km(self, other: Self) -> f64 {
        let half_lat = half_sine(other.lat - self.lat);
        let d_lon = difference(self.lon, other.lon);
        let half_lon = half_sine(d_lon);
        let cosines = self.cos_lat * other.cos_lat;
        let h = half_lat * half_lat + cosines * (half_lon * half_lon);
        let angle = if h <= 0.5 {
            2.0 * arc_sine(h.sqrt())
        } else {
            let (half_lat, half_lon) = (half_sine(other.lat + self.lat), half_sine(180.0 - d_lon.abs()));
            PI - 2.0 * arc_sine((half_lat * half_lat + cosines * (half_lon * half_lon)).sqrt())
        };
        EARTH_RADIUS_KM * angle
    }
}

/// The longitude from -180 up to 180, without rounding.
fn reduced(lon: f64) -> f64 {
    if (-180.0..180.0).contains(&lon) {
        return lon;
    }
    let rest = lon % 360.0;
    if rest >= 180.0 {
        rest - 360.0
    } else if rest < -180.0 {
        rest + 360.0
    } else {
        rest
    }
}

/// Degrees from one reduced longitude to another the short way, as exact as two longitudes of one sign.
fn difference(from: f64, to: f64) -> f64 {
    let d = to - from;
    if d.abs() <= 180.0 {
        return d;
    }
    // What rounding took from the difference counts after 360 is taken off (Knuth's two-sum).
    let back = d - to;
    let lost = (to - (d - back)) - (from + back);
    (d - 360.0f64.copysign(d)) + lost
}

/// Cosine of a latitude in degrees, exact near the poles too.
fn cosine(lat: f64) -> f64 {
    if lat.abs() > 45.0 { (90.0 - lat.abs()).to_radians().sin() } else { lat.to_radians().cos() }
}

/// Sine of half an angle in degrees.
fn half_sine(degrees: f64) -> f64 {
    let x = degrees * (PI / 360.0);
    if x.abs() < SMALL {
        let x2 = x * x;
        x * (1.0 - x2 / 6.0 * (1.0 - x2 / 20.0 * (1.0 - x2 / 42.0)))
    } else {
        x.sin()
    }
}

/// Arc sine of a number from 0 to 1.
fn arc_sine(s: f64) -> f64 {
    if s < SMALL {
        let s2 = s * s;
        s * (1.0 + s2 * (1.0 / 6.0 + s2 * (3.0 / 40.0 + s2 * (15.0 / 336.0 + s2 * (105.0 / 3456.0)))))
    } else {
        s.min(1.0).asin()
    }
}

/// The places of coordinates in degrees. `what` names them in the error about the first that is not on the globe.
pub fn places(lat: &[f64], lon: &[f64], what: &str) -> Result<Vec<Place>> {
    if lat.len() != lon.len() {
        return Err(Error::Argument(format!("{what}s: {} latitudes and {} longitudes", lat.len(), lon.len())));
    }
    if u32::try_from(lat.len()).is_err() {
        return Err(Error::Argument(format!("{what}s: {} are more than the {} that fit", lat.len(), u32::MAX)));
    }
    if let Some(i) = (0..lat.len()).find(|&i| !(lat[i].abs() <= 90.0 && lon[i].is_finite())) {
        return Err(Error::Argument(format!("{what} {i}: (lat {}, lon {}) is not on the globe", lat[i], lon[i])));
    }
    Ok(lat.iter().zip(lon).map(|(&lat, &lon)| Place::new(lat, lon)).collect())
}

/// Unit vector of a point given in degrees; the same place has the same bits, as for `Place`.
pub fn unit_vector(lat: f64, lon: f64) -> [f64; 3] {
    Place::new(lat, lon).vector()
}

/// (lat, lon) in degrees of a vector; it need not have length one.
pub fn lat_lon(v: [f64; 3]) -> (f64, f64) {
    (v[2].atan2(v[0].hypot(v[1])).to_degrees(), v[1].atan2(v[0]).to_degrees())
}

/// Dot product.
pub fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Draws, Stage};

    #[test]
    fn known_distances() {
        let km = |a: (f64, f64), b: (f64, f64)| Place::new(a.0, a.1).km(Place::new(b.0, b.1));
        assert!((km((0.0, 0.0), (0.0, 90.0)) - EARTH_RADIUS_KM * std::f64::consts::FRAC_PI_2).abs() < 1e-9);
        assert!((km((90.0, 12.0), (-90.0, -77.0)) - EARTH_RADIUS_KM * PI).abs() < 1e-9);
        assert!((km((10.0, 179.9), (10.0, -179.9)) - km((10.0, 0.0), (10.0, 0.2))).abs() < 1e-9);
        // Paris to London on the sphere of radius 6371.0088 km, by the spherical law of cosines.
        let (paris, london) = ((48.8566, 2.3522), (51.5074, -0.1278));
        let cosine = dot(unit_vector(paris.0, paris.1), unit_vector(london.0, london.1));
        assert!((km(paris, london) - EARTH_RADIUS_KM * cosine.acos()).abs() < 1e-6);
    }

    #[test]
    fn a_place_has_one_value() {
        for (a, b) in [
            ((10.0, 180.0), (10.0, -180.0)),
            ((10.0, 190.0), (10.0, -170.0)),
            ((-10.0, -540.0), (-10.0, 180.0)),
            ((0.0, 0.0), (-0.0, -0.0)),
            ((0.0, 720.0), (0.0, 0.0)),
            ((90.0, 12.0), (90.0, -77.0)),
            ((-90.0, 1e9), (-90.0, 0.0)),
        ] {
            let (a, b) = (Place::new(a.0, a.1), Place::new(b.0, b.1));
            assert_eq!(a, b);
            assert_eq!(a.vector().map(f64::to_bits), b.vector().map(f64::to_bits));
            assert_eq!(a.km(b).to_bits(), 0);
        }
    }

    /// The series join the functions, both ways give the same, and the vectors agree.
    #[test]
    fn distances_are_symmetric_and_agree_with_the_chord() {
        let mut draws = Draws::new(1, 0, 0, 0, Stage::Cluster);
        for round in 0..20_000 {
            let a = Place::new(draws.uniform(-90.0, 90.0), draws.uniform(-180.0, 180.0));
            let apart = 200.0 * 0.5f64.powi(round % 30);
            let b = Place::new((a.lat + draws.uniform(-apart, apart)).clamp(-90.0, 90.0), a.lon + apart * draws.unit());
            assert_eq!(a.km(b).to_bits(), b.km(a).to_bits());
            let (u, v) = (a.vector(), b.vector());
            let chord = dot([0, 1, 2].map(|i| u[i] - v[i]), [0, 1, 2].map(|i| u[i] - v[i])).sqrt();
            assert!((2.0 * (a.km(b) / EARTH_RADIUS_KM / 2.0).sin() - chord).abs() < 4e-15, "{a:?} {b:?}");
        }
        for at in [SMALL, -SMALL] {
            let degrees = at / (PI / 360.0);
            for x in [degrees * (1.0 - 1e-9), degrees * (1.0 + 1e-9)] {
                assert!((half_sine(x) / (x * (PI / 360.0)).sin() - 1.0).abs() < 4e-16);
            }
        }
        assert!((arc_sine(SMALL * (1.0 - 1e-12)) / (SMALL * (1.0 - 1e-12)).asin() - 1.0).abs() < 4e-16);
    }

    #[test]
    fn what_is_not_on_the_globe_is_named() {
        for (lat, lon) in [(90.1, 0.0), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            let message = places(&[0.0, lat], &[0.0, lon], "point").unwrap_err().to_string();
            assert!(message.starts_with("point 1: (lat "), "{message}");
        }
        assert!(places(&[0.0], &[], "point").is_err());
    }

    #[test]
    fn vectors_go_back_to_degrees() {
        for (lat, lon) in [(0.0, 0.0), (45.0, -120.0), (-89.9, 179.9), (12.5, 90.0)] {
            let (lat2, lon2) = lat_lon(unit_vector(lat, lon));
            assert!((lat - lat2).abs() < 1e-12 && (lon - lon2).abs() < 1e-12);
        }
    }
}
