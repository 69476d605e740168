//! Balanced k-means: no cluster has more than so many points.
//!
//! In turn, the cheapest assignment under the cap to the centroids as they are (`chains`), and the means of that
//! assignment. The cheapest assignment is a power diagram: a point goes to the centroid with the least squared chord
//! plus price, where full clusters have a price (Aurenhammer, Hoffmann and Aronov, "Minkowski-type theorems and
//! least-squares clustering", Algorithmica 1998). Prices of a sample are nearly those of all points, so a coarse sample
//! comes first, then finer ones, each from the prices and centroids of the one before: few points are left to move.

use super::chains::Chains;
use super::filter::{Centres, Total};
use super::lloyd::{lloyd, move_to_means};
use super::points::threads_for;
use super::tree::{Tree, plus};
use super::{Clustering, chord2};
use crate::parallel;

/// Points per cluster of the first sample, at least.
const SAMPLE: usize = 32;

/// How many times more points the next sample has.
const FINER: usize = 4;

/// Turns at a sample end when they save less than this share of the cost.
const WORTH: f64 = 1e-3;

/// Points that a thread labels at a time.
const CHUNK: usize = 1 << 12;

/// Clusters of at most `max_size` inputs each, which together must have room for all. Weights are 1. Labels are by
/// point of the tree, one for each input there: inputs at one point may have to part.
pub(super) fn balanced(
    tree: &Tree,
    start: Vec<[f64; 3]>,
    max_size: usize,
    max_iter: usize,
    threads: usize,
) -> Clustering {
    let mut plain = lloyd(tree, start, max_iter, threads);
    let copies = |i: usize| tree.points.copies[i] as usize;
    let each = 0..tree.points.len();
    plain.labels = each.clone().flat_map(|i| std::iter::repeat_n(plain.labels[i], copies(i))).collect();
    let k = plain.centroids.len();
    if sizes(&plain.labels, k).into_iter().all(|size| size <= max_size) {
        return plain;
    }
    let inputs: Vec<[f64; 3]> = each.flat_map(|i| std::iter::repeat_n(tree.points.at(i), copies(i))).collect();
    let mut centres = Centres { prices: vec![0.0; k], at: plain.centroids };
    let mut stride = 1;
    while inputs.len() / (stride * FINER) >= k * SAMPLE {
        stride *= FINER;
    }
    let mut labels = Vec::new();
    let mut iterations = plain.iterations;
    let mut converged = plain.converged;
    while stride > 0 {
        // Inputs are sorted along a curve: each stride takes its share of every region.
        let sample: Vec<[f64; 3]> = inputs.iter().copied().skip(stride / 2).step_by(stride).collect();
        let cap = if stride == 1 { max_size } else { (max_size / stride).max(sample.len().div_ceil(k)) };
        let mut last = f64::INFINITY;
        let mut settled = false;
        for _ in 0..max_iter {
            let nearest = cheapest(&sample, &centres, threads);
            let chains = Chains::new(&sample, nearest, &mut centres, cap, threads);
            labels = chains.settle();
            fill_empty(&sample, &mut labels, &centres.at);
            let before = centres.at.clone();
            move_to_means(&mut centres.at, &means(&sample, &labels, k));
            iterations += 1;
            let now = cost(&sample, &labels, &centres.at);
            settled = now > last * (1.0 - WORTH) || before == centres.at;
            last = now;
            if settled {
                break;
            }
        }
        converged = converged && settled;
        stride /= FINER;
    }
    let inertia = cost(&inputs, &labels, &centres.at);
    Clustering { centroids: centres.at, labels, inertia, iterations, converged }
}

/// Each point's centroid by squared chord plus price.
fn cheapest(points: &[[f64; 3]], centres: &Centres, threads: usize) -> Vec<u32> {
    let chunks = parallel::map(points.len().div_ceil(CHUNK), threads_for(points.len(), threads), |c| {
        let chunk = &points[c * CHUNK..((c + 1) * CHUNK).min(points.len())];
        chunk.iter().map(|&p| centres.cheapest(p)).collect::<Vec<_>>()
    });
    chunks.concat()
}

fn sizes(labels: &[u32], k: usize) -> Vec<usize> {
    let mut sizes = vec![0; k];
    for &label in labels {
        sizes[label as usize] += 1;
    }
    sizes
}

/// Gives each cluster without points the one that lies farthest from its centroid, from a cluster that keeps one.
fn fill_empty(points: &[[f64; 3]], labels: &mut [u32], centroids: &[[f64; 3]]) {
    let mut sizes = sizes(labels, centroids.len());
    while let Some(empty) = sizes.iter().position(|&size| size == 0) {
        let distance = |i: usize| chord2(points[i], centroids[labels[i] as usize]);
        let movable = (0..points.len()).filter(|&i| sizes[labels[i] as usize] > 1);
        let Some(far) = movable.max_by(|&a, &b| distance(a).total_cmp(&distance(b))) else { break };
        sizes[labels[far] as usize] -= 1;
        sizes[empty] = 1;
        labels[far] = empty as u32;
    }
}

fn means(points: &[[f64; 3]], labels: &[u32], k: usize) -> Vec<Total> {
    let mut totals = vec![Total::default(); k];
    let scale = (1u64 << 62) as f64;
    for (p, &label) in points.iter().zip(labels) {
        let total = &mut totals[label as usize];
        total.sum = plus(total.sum, p.map(|x| i128::from((x * scale) as i64)));
    }
    totals
}

fn cost(points: &[[f64; 3]], labels: &[u32], centroids: &[[f64; 3]]) -> f64 {
    points.iter().zip(labels).map(|(&p, &l)| chord2(p, centroids[l as usize])).sum()
}
