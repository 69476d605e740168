//! Balanced k-means: no cluster has more than so many points.
//!
//! With the centroids given, the cheapest assignment under a cap on sizes is a power diagram: a point goes to the
//! centroid with the least squared chord plus price, where full clusters have a price (Aurenhammer, Hoffmann and
//! Aronov, "Minkowski-type theorems and least-squares clustering", Algorithmica 1998). Prices follow the sizes while
//! the centroids follow the means, at the cost of a Lloyd iteration each. What is then left over the cap is moved
//! along chains of clusters (`chains`).

use super::chains::Chains;
use super::filter::{self, Centres, Total};
use super::lloyd::{filled_totals, lloyd, move_to_means};
use super::tree::{Tree, plus};
use super::{Clustering, chord2};
use crate::geo::dot;

/// The share of the points that may be over the cap when prices end and chains begin, as one over this.
const LEFT_OVER: u64 = 1000;

/// Clusters of at most `max_size` inputs each, which together must have room for all. Weights
/// are 1. Labels are by point of the tree, one for each input there: inputs at one point may have to part.
pub(super) fn balanced(
    tree: &Tree,
    start: Vec<[f64; 3]>,
    max_size: u64,
    max_iter: usize,
    threads: usize,
) -> Clustering {
    let plain = lloyd(tree, start, max_iter, threads);
    let mut iterations = plain.iterations;
    let mut centres = Centres { prices: vec![0.0; plain.centroids.len()], at: plain.centroids };
    let mut totals = filled_totals(tree, &mut centres, threads);
    let mut settled = false;
    for _ in 0..max_iter {
        let over: u64 = totals.iter().map(|t| t.copies.saturating_sub(max_size)).sum();
        settled = over * LEFT_OVER <= tree.nodes[0].copies;
        if settled {
            break;
        }
        iterations += 1;
        move_to_means(&mut centres.at, &totals);
        for (price, total) in centres.prices.iter_mut().zip(&totals) {
            *price = (*price + step(total, max_size, tree.points.weight_scale)).max(0.0);
        }
        totals = filled_totals(tree, &mut centres, threads);
    }
    let of_points = filter::labels(tree, &centres, threads);
    let mut inputs = Vec::with_capacity(tree.nodes[0].copies as usize);
    let mut labels = Vec::with_capacity(inputs.capacity());
    for (i, &label) in of_points.iter().enumerate() {
        for _ in 0..tree.points.copies[i] {
            inputs.push(tree.points.at(i));
            labels.push(label);
        }
    }
    let mut centroids = centres.at.clone();
    let labels = Chains::new(&inputs, labels, centres, max_size as usize, threads).settle();
    let mut totals = vec![Total::default(); centroids.len()];
    let scale = 2f64.powi(62);
    for (p, &label) in inputs.iter().zip(&labels) {
        let total = &mut totals[label as usize];
        total.sum = plus(total.sum, p.map(|x| i128::from((x * scale) as i64)));
    }
    move_to_means(&mut centroids, &totals);
    let inertia = inputs.iter().zip(&labels).map(|(&p, &l)| chord2(p, centroids[l as usize])).sum();
    Clustering { centroids, labels, inertia, iterations, converged: plain.converged && settled }
}

/// Change of a cluster's price. On a disc of even density a price of four times the mean squared chord to the centroid
/// halves the size; a half of that step is stable as neighbours' prices change too.
fn step(total: &Total, max_size: u64, scale: f64) -> f64 {
    let sum = total.sum.map(|s| s as f64 / scale);
    let (size, cap) = (total.copies as f64, max_size as f64);
    let spread = 2.0 * (1.0 - dot(sum, sum).sqrt() / size).max(0.0);
    2.0 * spread * (size - cap) / size.max(cap)
}
