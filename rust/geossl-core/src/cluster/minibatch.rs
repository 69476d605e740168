//! Mini-batch k-means for points that do not fit into memory.

use super::filter::{self, Centres};
use super::lloyd::direction;
use super::points::Points;
use super::seed::plus_plus;
use super::too_few;
use super::tree::Tree;
use crate::Result;
use crate::rng::{Draws, Stage};

/// Centroids that learn from one part of the points after the other.
///
/// Sculley, "Web-scale k-means clustering" (WWW 2010), on the sphere: a part's points go to their nearest centroid,
/// which moves towards their mean at a rate of its own, the share of these points in all that it was ever given.
/// That is, it is the normalised mean of all of them.
#[derive(Debug, Clone)]
pub struct MiniBatch {
    k: usize,
    seed: u64,
    threads: usize,
    centroids: Vec<[f64; 3]>,
    sums: Vec<[f64; 3]>,
}

impl MiniBatch {
    /// `k` clusters; the first part of the points seeds them by k-means++.
    pub fn new(k: usize, seed: u64, threads: usize) -> Self {
        Self { k, seed, threads, centroids: Vec::new(), sums: Vec::new() }
    }

    /// Learns from a part of the points, in degrees. Their order does not matter; that of the parts does.
    ///
    /// Fails where `kmeans` does; the first part needs `k` distinct places.
    pub fn partial_fit(&mut self, lat: &[f64], lon: &[f64], weights: Option<&[f64]>) -> Result<()> {
        let points = Points::new(lat, lon, weights, self.threads)?;
        if self.centroids.is_empty() && !(1..=points.len()).contains(&self.k) {
            return Err(too_few(self.k, &points));
        }
        if points.len() == 0 {
            return Ok(());
        }
        let tree = Tree::new(points, self.threads);
        if self.centroids.is_empty() {
            let mut draws = Draws::new(self.seed, 0, 0, 0, Stage::Cluster);
            self.centroids = plus_plus(&tree, self.k, &mut draws, self.threads);
            self.sums = vec![[0.0; 3]; self.k];
        }
        let centres = Centres { at: self.centroids.clone(), prices: vec![0.0; self.k] };
        let totals = filter::totals(&tree, &centres, self.threads);
        for ((centroid, sum), total) in self.centroids.iter_mut().zip(&mut self.sums).zip(totals) {
            // Parts scale their weights as it suits them; the sums have the caller's.
            *sum = [0, 1, 2].map(|axis| sum[axis] + total.sum[axis] as f64 / tree.points.weight_scale);
            if let Some(mean) = direction(*sum, tree.points.weight_scale) {
                *centroid = mean;
            }
        }
        Ok(())
    }

    /// Unit vectors of the centroids; none before the first part.
    pub fn centroids(&self) -> &[[f64; 3]] {
        &self.centroids
    }
}
