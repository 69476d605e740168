//! Clusters by H3 cells (<https://h3geo.org>): hexagons of nearly one size.

use std::collections::BTreeMap;

use h3o::{CellIndex, LatLng, Resolution};

use crate::geo::{Place, places};
use crate::parallel;
use crate::{Error, Result};

use super::query::nearest;

/// Points that a thread takes at a time.
const CHUNK: usize = 8192;

/// A clustering by cells.
#[derive(Debug, Clone)]
pub struct Cells {
    /// Cluster of each point: the rank of its cell among the cells that are kept.
    pub labels: Vec<u32>,
    /// The cell that each point's cluster stands for, an H3 index.
    pub cells: Vec<u64>,
}

/// The H3 cell of each point, where cells of fewer than `min_points` points are merged into others; coordinates are in
/// degrees.
///
/// A small cell's points go, all together, to the kept cell whose centre is nearest to its own centre by great-circle
/// distance, of equal ones to the lower index. Small cells never merge with each other, so the result does not depend
/// on an order, and every kept cell has its own points at least.
///
/// Fails if `resolution` is above 15, no cell has `min_points` points, or a coordinate is not on the globe.
pub fn h3_clusters(lat: &[f64], lon: &[f64], resolution: u8, min_points: usize, threads: usize) -> Result<Cells> {
    let size = Resolution::try_from(resolution)
        .map_err(|_| Error::Argument(format!("resolution = {resolution}: H3 has 0 to 15")))?;
    let rows = places(lat, lon, "point")?;
    let chunks = parallel::map(rows.len().div_ceil(CHUNK), threads, |c| {
        rows[c * CHUNK..((c + 1) * CHUNK).min(rows.len())].iter().map(|&p| cell(p, size)).collect::<Result<Vec<_>>>()
    });
    let mut own = Vec::with_capacity(rows.len());
    for chunk in chunks {
        own.extend(chunk?);
    }
    let mut counts: BTreeMap<CellIndex, usize> = BTreeMap::new();
    for &cell in &own {
        *counts.entry(cell).or_default() += 1;
    }
    let (kept, small): (Vec<_>, Vec<_>) = counts.iter().partition(|(_, count)| **count >= min_points);
    let [kept, small] = [kept, small].map(|cells| cells.into_iter().map(|(&cell, _)| cell).collect::<Vec<_>>());
    if kept.is_empty() && !own.is_empty() {
        let most = counts.values().max().copied().unwrap_or(0);
        return Err(Error::Argument(format!(
            "no cell of resolution {resolution} has min_points = {min_points} points, the fullest has {most}: \
             take a lower resolution or fewer points"
        )));
    }
    let mut label: BTreeMap<CellIndex, u32> = (0..).zip(&kept).map(|(rank, &cell)| (cell, rank)).collect();
    if !small.is_empty() {
        let [(kept_lat, kept_lon), (small_lat, small_lon)] = [&kept, &small].map(|cells| centres(cells));
        let found = nearest((&kept_lat, &kept_lon), (&small_lat, &small_lon), 1, threads)?;
        label.extend(small.iter().copied().zip(found.index));
    }
    let labels: Vec<u32> = own.iter().map(|cell| label[cell]).collect();
    let cells = labels.iter().map(|&label| u64::from(kept[label as usize])).collect();
    Ok(Cells { labels, cells })
}

fn cell(place: Place, size: Resolution) -> Result<CellIndex> {
    let point = LatLng::new(place.lat(), place.lon()).map_err(|e| Error::Internal(format!("H3: {e}")))?;
    Ok(point.to_cell(size))
}

fn centres(cells: &[CellIndex]) -> (Vec<f64>, Vec<f64>) {
    cells.iter().map(|&cell| LatLng::from(cell)).map(|centre| (centre.lat(), centre.lng())).unzip()
}
