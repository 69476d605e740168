//! Spherical k-means: clusters of places by great-circle distance, exact and pruned.
//!
//! Points are sorted along a curve and put into a tree of balls once (`points`, `tree`). k-means++ (`seed`), Lloyd's
//! iteration (`lloyd`), mini-batches (`minibatch`) and balanced clusters (`balanced`) walk that tree (`filter`).

// Points and centroids are compared for being the very same.
#![allow(clippy::float_cmp)]

mod balanced;
mod chains;
mod filter;
mod lloyd;
mod minibatch;
mod points;
mod seed;
mod tree;

pub use minibatch::MiniBatch;

use crate::rng::{Draws, Stage};
use crate::{Error, Result, parallel};
use filter::Centres;
use points::{LEFT_OUT, Points, threads_for};
use tree::Tree;

/// Settings of k-means.
#[derive(Debug, Clone)]
pub struct KMeans {
    /// Number of clusters.
    pub k: usize,
    /// Centroids to start from instead of those that k-means++ draws: `k` unit vectors.
    pub start: Option<Vec<[f64; 3]>>,
    /// Most points of a cluster; points then have no weights.
    pub max_size: Option<usize>,
    /// Seed of k-means++.
    pub seed: u64,
    /// Runs from different seeds, of which the one with the lowest inertia is kept; one where a start is given.
    pub n_init: usize,
    /// Most iterations of a run, at least 1. Balanced runs have as many again for their sizes.
    pub max_iter: usize,
    /// Threads; 0 is all cores. The result does not depend on them.
    pub threads: usize,
}

/// A clustering.
#[derive(Debug, Clone)]
pub struct Clustering {
    /// Cluster of each point. Without `max_size` that of the nearest centroid, of equals the first.
    pub labels: Vec<u32>,
    /// Centroids: normalised means, unit vectors.
    pub centroids: Vec<[f64; 3]>,
    /// Sum over points of weight times the squared chord to their centroid, 2 - 2 cos(angle).
    pub inertia: f64,
    /// Iterations of the run that was kept.
    pub iterations: usize,
    /// Whether that run ended before `max_iter`, as no centroid moved.
    pub converged: bool,
}

/// Clusters of points given as degrees, with weights where given. Every cluster has a point of positive weight. The
/// order of the points does not matter: it changes neither the centroids nor who shares a cluster.
///
/// Lloyd's iteration with k-means++ seeding (Arthur and Vassilvitskii, 2007) on the unit sphere (Dhillon and
/// Modha, 2001): the nearest centroid by chord is the nearest by great circle, the centroid is the normalised
/// mean. A cluster that loses its last point starts anew at the point farthest from its own centroid. Points of
/// weight 0 get the label of their nearest centroid and are else left out.
///
/// Fails if `k` is 0 or larger than the number of distinct points with a weight, a coordinate is not on the globe, a
/// weight is negative or not finite, or `max_size` leaves no room for all points.
pub fn kmeans(lat: &[f64], lon: &[f64], weights: Option<&[f64]>, settings: &KMeans) -> Result<Clustering> {
    let points = Points::new(lat, lon, weights, settings.threads)?;
    check(settings, weights, &points)?;
    let tree = Tree::new(points, settings.threads);
    let mut best: Option<Clustering> = None;
    let runs = if settings.start.is_some() { 1 } else { settings.n_init };
    for run in 0..runs {
        let start = settings.start.clone().unwrap_or_else(|| {
            let mut draws = Draws::new(settings.seed, run as u64, 0, 0, Stage::Cluster);
            seed::plus_plus(&tree, settings.k, &mut draws, settings.threads)
        });
        let found = one_run(&tree, start, settings);
        if best.as_ref().is_none_or(|b| found.inertia < b.inertia) {
            best = Some(found);
        }
    }
    let mut best = best.ok_or_else(|| Error::Internal("k-means made no run".into()))?;
    if settings.max_size.is_some() {
        best.labels = hand_out(&tree, &best.labels);
        return Ok(best);
    }
    best.labels = of_inputs(&tree, &best.labels, settings.threads);
    let left_out: Vec<usize> = (0..lat.len()).filter(|&i| tree.points.of[i] == LEFT_OUT).collect();
    let take = |of: &[f64]| left_out.iter().map(|&i| of[i]).collect::<Vec<_>>();
    let theirs = assign(&take(lat), &take(lon), &best.centroids, settings.threads)?;
    for (&i, label) in left_out.iter().zip(theirs) {
        best.labels[i] = label;
    }
    Ok(best)
}

/// Nearest centroid (unit vectors, at least one) of each point, by great-circle distance; ties go to the lower number.
pub fn assign(lat: &[f64], lon: &[f64], centroids: &[[f64; 3]], threads: usize) -> Result<Vec<u32>> {
    let points = Points::new(lat, lon, None, threads)?;
    if centroids.is_empty() {
        return Err(Error::Argument("there are no centroids to assign points to".into()));
    }
    if points.len() == 0 {
        return Ok(Vec::new());
    }
    let tree = Tree::new(points, threads);
    let centres = Centres { at: centroids.to_vec(), prices: vec![0.0; centroids.len()] };
    let labels = filter::labels(&tree, &centres, threads);
    Ok(of_inputs(&tree, &labels, threads))
}

fn check(settings: &KMeans, weights: Option<&[f64]>, points: &Points) -> Result<()> {
    let (k, inputs) = (settings.k, points.of.len());
    if !(1..=points.len()).contains(&k) {
        return Err(too_few(k, points));
    }
    if settings.n_init == 0 || settings.max_iter == 0 {
        return Err(Error::Argument("n_init and max_iter must be at least 1".into()));
    }
    if let Some(start) = &settings.start
        && start.len() != k
    {
        return Err(Error::Argument(format!("start has {} centroids, k is {k}", start.len())));
    }
    let Some(max_size) = settings.max_size else { return Ok(()) };
    if weights.is_some() {
        return Err(Error::Argument("max_size counts points: it does not go together with weights".into()));
    }
    if max_size.saturating_mul(k) < inputs {
        return Err(Error::Argument(format!(
            "max_size = {max_size}: {k} clusters of that size do not hold {inputs} points; it must be at least {}",
            inputs.div_ceil(k)
        )));
    }
    Ok(())
}

fn too_few(k: usize, points: &Points) -> Error {
    let (distinct, inputs) = (points.len(), points.of.len());
    let weighted = if points.of.contains(&LEFT_OUT) { " among those of weight above 0" } else { "" };
    Error::Argument(format!(
        "k = {k}: the {inputs} points have {distinct} distinct coordinates{weighted}; k must be from 1 to {distinct}"
    ))
}

fn one_run(tree: &Tree, start: Vec<[f64; 3]>, settings: &KMeans) -> Clustering {
    match settings.max_size {
        Some(max_size) => balanced::balanced(tree, start, max_size, settings.max_iter, settings.threads),
        None => lloyd::lloyd(tree, start, settings.max_iter, settings.threads),
    }
}

/// Labels of the inputs from those of the points; 0 for those left out.
fn of_inputs(tree: &Tree, of_points: &[u32], threads: usize) -> Vec<u32> {
    const CHUNK: usize = 1 << 16;
    let mut labels = vec![0; tree.points.of.len()];
    let chunks = labels.chunks_mut(CHUNK).zip(tree.points.of.chunks(CHUNK));
    parallel::each(chunks, threads_for(tree.points.len(), threads), |(labels, points)| {
        for (label, &point) in labels.iter_mut().zip(points) {
            *label = of_points.get(point as usize).copied().unwrap_or(0);
        }
    });
    labels
}

/// Labels of the inputs from a list by point, with as many for each point as it has inputs.
fn hand_out(tree: &Tree, by_point: &[u32]) -> Vec<u32> {
    let mut next: Vec<usize> = Vec::with_capacity(tree.points.len());
    let mut at = 0;
    for &copies in &tree.points.copies {
        next.push(at);
        at += copies as usize;
    }
    let mut take = |point: u32| {
        let at = &mut next[point as usize];
        *at += 1;
        by_point[*at - 1]
    };
    tree.points.of.iter().map(|&point| take(point)).collect()
}

/// Squared chord between two points.
fn chord2(a: [f64; 3], b: [f64; 3]) -> f64 {
    let d = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
}

#[cfg(test)]
mod tests;
