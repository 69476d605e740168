//! Neighbours on the globe: the nearest points, all within a radius, places linked by distance, DBSCAN, H3 cells.
//!
//! A tree over unit vectors finds the candidates by their chord, which grows with the great-circle distance; where
//! rounding could matter the haversine distance (`geo::Place::km`) decides. So every result is that of comparing
//! all pairs by that distance, and depends neither on the number of threads nor on the shape of the tree.

mod cells;
mod dbscan;
mod link;
mod query;
mod silhouette;
#[cfg(test)]
mod tests;
mod tree;

pub use cells::{Cells, h3_clusters};
pub use dbscan::{NOISE, dbscan};
pub use link::link_places;
pub use query::{Nearest, Within, distance_km, nearest, within};
pub use silhouette::{Silhouettes, silhouette};

use crate::geo::EARTH_RADIUS_KM;
use crate::{Error, Result};

/// A computed chord of the unit sphere and the chord of a computed haversine distance are less than this apart:
/// each coordinate of a vector has an error of a few 1e-16.
const DOUBT: f64 = 1e-14;

/// A radius, as squared chords.
#[derive(Debug, Clone, Copy)]
struct Radius {
    km: f64,
    /// Up to this squared chord two points are within the radius.
    surely: f64,
    /// Above this squared chord they are not.
    possibly: f64,
}

impl Radius {
    fn new(km: f64) -> Result<Self> {
        if km.is_nan() || km < 0.0 {
            return Err(Error::Argument(format!("radius_km = {km}: it must be 0 or more")));
        }
        let chord = 2.0 * (km / EARTH_RADIUS_KM / 2.0).min(std::f64::consts::FRAC_PI_2).sin();
        let surely = if chord > DOUBT { (chord - DOUBT).powi(2) } else { -1.0 };
        Ok(Self { km, surely, possibly: (chord + DOUBT).powi(2) })
    }
}
