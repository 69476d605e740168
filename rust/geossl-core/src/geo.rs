//! Points on the sphere: degrees to unit vectors and back, great-circle distances.

/// Mean radius of the Earth, kilometres (IUGG's R1).
pub const EARTH_RADIUS_KM: f64 = 6371.0088;

/// Unit vector of a point given in degrees.
pub fn unit_vector(lat: f64, lon: f64) -> [f64; 3] {
    let (lat, lon) = (lat.to_radians(), lon.to_radians());
    [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
}

/// (lat, lon) in degrees of a vector; it need not have length one.
pub fn lat_lon(v: [f64; 3]) -> (f64, f64) {
    (v[2].atan2(v[0].hypot(v[1])).to_degrees(), v[1].atan2(v[0]).to_degrees())
}

/// Dot product.
pub fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Great-circle distance of two points given in degrees, kilometres, by the haversine formula.
pub fn haversine_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let half_lat = ((lat_b - lat_a) / 2.0).sin();
    let half_lon = ((b.1 - a.1).to_radians() / 2.0).sin();
    let h = half_lat * half_lat + lat_a.cos() * lat_b.cos() * half_lon * half_lon;
    2.0 * EARTH_RADIUS_KM * h.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_distances() {
        assert!((haversine_km((0.0, 0.0), (0.0, 90.0)) - EARTH_RADIUS_KM * std::f64::consts::FRAC_PI_2).abs() < 1e-9);
        assert!((haversine_km((90.0, 12.0), (-90.0, -77.0)) - EARTH_RADIUS_KM * std::f64::consts::PI).abs() < 1e-9);
        assert!((haversine_km((10.0, 179.9), (10.0, -179.9)) - haversine_km((10.0, 0.0), (10.0, 0.2))).abs() < 1e-9);
        // Paris to London on the sphere of radius 6371.0088 km, by the spherical law of cosines.
        let (paris, london) = ((48.8566, 2.3522), (51.5074, -0.1278));
        let cosine = dot(unit_vector(paris.0, paris.1), unit_vector(london.0, london.1));
        assert!((haversine_km(paris, london) - EARTH_RADIUS_KM * cosine.acos()).abs() < 1e-6);
    }

    #[test]
    fn vectors_go_back_to_degrees() {
        for (lat, lon) in [(0.0, 0.0), (45.0, -120.0), (-89.9, 179.9), (12.5, 90.0)] {
            let (lat2, lon2) = lat_lon(unit_vector(lat, lon));
            assert!((lat - lat2).abs() < 1e-12 && (lon - lon2).abs() < 1e-12);
        }
    }
}
