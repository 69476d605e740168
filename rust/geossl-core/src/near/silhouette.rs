//! Silhouettes: how much nearer points are to their own cluster than to the next.

use std::collections::BTreeMap;

use crate::geo::{EARTH_RADIUS_KM, places};
use crate::parallel;
use crate::rng::{Draws, Stage};
use crate::{Error, Result};

use super::tree::squared_chord;

/// Silhouettes of some points.
#[derive(Debug, Clone)]
pub struct Silhouettes {
    /// Rows of the points, ascending.
    pub rows: Vec<u32>,
    /// Their silhouettes.
    pub scores: Vec<f64>,
}

/// Silhouettes (Rousseeuw, 1987) by great-circle distance of a seeded sample of the points, each against all points;
/// coordinates are in degrees.
///
/// With a the mean distance to the other points of its cluster and b the least mean distance to the points of another
/// one, the silhouette is (b - a) / max(a, b); 0 in a cluster of one point. Points of negative labels (noise) are left
/// out altogether. The mean over the sample is an unbiased estimate of the mean over all points; the cost is sample
/// times points.
///
/// Fails if fewer than two clusters have points, or a coordinate is not on the globe.
pub fn silhouette(
    lat: &[f64],
    lon: &[f64],
    labels: &[i64],
    sample: Option<usize>,
    seed: u64,
    threads: usize,
) -> Result<Silhouettes> {
    let all = places(lat, lon, "point")?;
    if labels.len() != all.len() {
        return Err(Error::Argument(format!("{} points and {} labels", all.len(), labels.len())));
    }
    let mut members: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (row, &label) in labels.iter().enumerate().filter(|(_, label)| **label >= 0) {
        members.entry(label).or_default().push(row as u32);
    }
    if members.len() < 2 {
        return Err(Error::Argument(format!("silhouettes need two clusters or more, there are {}", members.len())));
    }
    let clusters: Vec<Vec<[f64; 3]>> =
        members.values().map(|rows| rows.iter().map(|&row| all[row as usize].vector()).collect()).collect();
    let rank: BTreeMap<i64, usize> = members.keys().copied().zip(0..).collect();
    let rows = draw(members.into_values().flatten().collect(), sample, seed);
    let scores = parallel::map(rows.len(), threads, |i| {
        let row = rows[i] as usize;
        score(all[row].vector(), rank[&labels[row]], &clusters)
    });
    Ok(Silhouettes { rows, scores })
}

/// A seeded sample of some rows, ascending: those with the lowest draws, each of which depends on its row alone.
fn draw(mut rows: Vec<u32>, sample: Option<usize>, seed: u64) -> Vec<u32> {
    if let Some(sample) = sample.filter(|&sample| sample < rows.len()) {
        rows.sort_by_cached_key(|&row| {
            let mut draws = Draws::new(seed, 0, u64::from(row), 1, Stage::Cluster);
            (draws.bits(), draws.bits(), row)
        });
        rows.truncate(sample);
    }
    rows.sort_unstable();
    rows
}

fn score(point: [f64; 3], own: usize, clusters: &[Vec<[f64; 3]>]) -> f64 {
    if clusters[own].len() == 1 {
        return 0.0;
    }
    let (mut inside, mut outside) = (0.0, f64::INFINITY);
    for (number, cluster) in clusters.iter().enumerate() {
        let sum: f64 = cluster.iter().map(|&other| (squared_chord(point, other).sqrt() / 2.0).min(1.0).asin()).sum();
        let km = 2.0 * EARTH_RADIUS_KM * sum;
        if number == own {
            // The distance to the point itself is 0.
            inside = km / (cluster.len() - 1) as f64;
        } else {
            outside = f64::min(outside, km / cluster.len() as f64);
        }
    }
    let most = f64::max(inside, outside);
    if most > 0.0 { (outside - inside) / most } else { 0.0 }
}
