//! Coordinates that people write down, and what is wrong with them.

use super::wkt::wrap;

/// Degrees around 0, 0 that count as it: what programs write that know no place. Nothing lies there but a buoy.
const NULL_ISLAND: f64 = 1e-6;

/// The coordinates, with the longitude in -180..180, if they can be a place on Earth. Longitudes up to 360 are taken.
/// The error says why not, as "what: why".
pub fn checked(lat: f64, lon: f64) -> Result<(f64, f64), String> {
    if !(lat.is_finite() && lon.is_finite()) {
        return Err(format!("coordinates that are no numbers: {lat}, {lon}"));
    }
    if lat.abs() > 90.0 {
        let swapped = lon.abs() <= 90.0 && (-180.0..=360.0).contains(&lat);
        let what = if swapped { "swapped latitude and longitude" } else { "latitude out of range" };
        return Err(format!("{what}: {lat}, {lon}"));
    }
    if !(-180.0..=360.0).contains(&lon) {
        return Err(format!("longitude out of range: {lat}, {lon}"));
    }
    let lon = wrap(lon);
    if lat.abs() <= NULL_ISLAND && lon.abs() <= NULL_ISLAND {
        return Err(format!("null island, which stands for no place: {lat}, {lon}"));
    }
    Ok((lat, lon))
}

#[cfg(test)]
mod tests {
    use super::checked;

    #[test]
    fn each_fault_has_its_name() {
        for (lat, lon, what) in [
            (f64::NAN, 1.0, "coordinates that are no numbers"),
            (1.0, f64::INFINITY, "coordinates that are no numbers"),
            (120.0, 45.0, "swapped latitude and longitude"),
            (-179.0, -90.0, "swapped latitude and longitude"),
            (120.0, 95.0, "latitude out of range"),
            (400.0, 45.0, "latitude out of range"),
            (45.0, 361.0, "longitude out of range"),
            (45.0, -180.5, "longitude out of range"),
            (0.0, 0.0, "null island, which stands for no place"),
            (-1e-7, 360.0, "null island, which stands for no place"),
        ] {
            assert_eq!(checked(lat, lon).unwrap_err().split(": ").next(), Some(what), "{lat}, {lon}");
        }
    }

    #[test]
    fn places_are_kept() {
        for (lat, lon, want) in [
            (90.0, 12.0, 12.0),
            (-90.0, 0.0, 0.0),
            (45.0, 180.0, -180.0),
            (45.0, -180.0, -180.0),
            (45.0, 181.0, -179.0),
            (45.0, 360.0, 0.0),
            (0.0, 10.0, 10.0),
            (10.0, 0.0, 0.0),
        ] {
            assert_eq!(checked(lat, lon), Ok((lat, want)));
        }
    }
}
