//! Lloyd's iteration on the tree.

use super::filter::{self, Centres, Total};
use super::points::threads_for;
use super::tree::Tree;
use super::{Clustering, chord2};
use crate::geo::dot;
use crate::parallel;

/// Moves centroids to the means of their points until they stay, or `max_iter` times. Labels are the tree's points'.
pub(super) fn lloyd(tree: &Tree, start: Vec<[f64; 3]>, max_iter: usize, threads: usize) -> Clustering {
    let mut centres = Centres { prices: vec![0.0; start.len()], at: start };
    let mut iterations = 0;
    let mut converged = false;
    while iterations < max_iter && !converged {
        iterations += 1;
        let totals = filled_totals(tree, &mut centres, threads);
        // Sums are exact: the same labels give the same bits, and the same bits the same labels.
        converged = !move_to_means(&mut centres.at, &totals);
    }
    let mut labels = filter::labels(tree, &centres, threads);
    if !converged && !all_in_use(&labels, centres.at.len()) {
        filled_totals(tree, &mut centres, threads);
        labels = filter::labels(tree, &centres, threads);
    }
    let inertia = inertia(tree, &centres.at, &labels, threads);
    Clustering { centroids: centres.at, labels, inertia, iterations, converged }
}

fn all_in_use(labels: &[u32], k: usize) -> bool {
    let mut used = vec![false; k];
    for &label in labels {
        used[label as usize] = true;
    }
    used.into_iter().all(|used| used)
}

/// Sums of each cluster's points. A centroid that is nearest to no point is first put on the point farthest from its
/// centroid, one after the other, so that each has a point.
pub(super) fn filled_totals(tree: &Tree, centres: &mut Centres, threads: usize) -> Vec<Total> {
    loop {
        let totals = filter::totals(tree, centres, threads);
        let Some(empty) = totals.iter().position(|t| t.copies == 0) else { return totals };
        centres.at[empty] = tree.points.at(farthest(tree, centres, threads));
        centres.prices[empty] = 0.0;
    }
}

/// Puts each centroid on the normalised mean of its points; whether one moved.
pub(super) fn move_to_means(centroids: &mut [[f64; 3]], totals: &[Total]) -> bool {
    let mut moved = false;
    for (centroid, total) in centroids.iter_mut().zip(totals) {
        if let Some(mean) = direction(total.sum.map(|s| s as f64), 1.0)
            && mean != *centroid
        {
            (*centroid, moved) = (mean, true);
        }
    }
    moved
}

/// The unit vector along a sum of weighted points, if it is longer than rounding makes that of points that cancel out
/// (antipodes), which have no mean direction. `scale` is what the weights were multiplied by.
pub(super) fn direction(sum: [f64; 3], scale: f64) -> Option<[f64; 3]> {
    let length = dot(sum, sum).sqrt();
    (length * scale > 2f64.powi(20)).then(|| sum.map(|s| s / length))
}

/// Sum of weight times squared chord.
fn inertia(tree: &Tree, centroids: &[[f64; 3]], labels: &[u32], threads: usize) -> f64 {
    let points = &tree.points;
    let parts = parallel::map(tree.tasks.len(), threads_for(points.len(), threads), |t| {
        let node = &tree.nodes[tree.tasks[t] as usize];
        (node.start as usize..node.end as usize)
            .map(|i| points.weight[i] * chord2(points.at(i), centroids[labels[i] as usize]))
            .sum::<f64>()
    });
    parts.iter().sum::<f64>() / points.weight_scale
}

fn farthest(tree: &Tree, centres: &Centres, threads: usize) -> usize {
    let labels = filter::labels(tree, centres, threads);
    let parts = parallel::map(tree.tasks.len(), threads_for(tree.points.len(), threads), |t| {
        let node = &tree.nodes[tree.tasks[t] as usize];
        let distance = |i: usize| chord2(tree.points.at(i), centres.at[labels[i] as usize]);
        farther((node.start as usize..node.end as usize).map(|i| (i, distance(i))))
    });
    farther(parts.into_iter()).0
}

/// The greatest, of equals the first.
fn farther(distances: impl Iterator<Item = (usize, f64)>) -> (usize, f64) {
    distances.fold((0, -1.0), |best, d| if d.1 > best.1 { d } else { best })
}
