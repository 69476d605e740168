//! The nearest centroid of every point, found for whole nodes of the tree where one centroid is nearest to all of one.
//!
//! The filtering algorithm of Kanungo et al., "An efficient k-means clustering algorithm: analysis and
//! implementation" (PAMI 2002): on the way down, a node keeps the centroids that may be nearest to one of its points.
//! A centroid leaves when the plane between it and the one nearest to the node's centre does not touch the node's
//! ball. What is left at a leaf is compared point by point. The outcome is that of comparing every point with every
//! centroid, in the same arithmetic: the plane has to be farther off than rounding could matter.

use super::chord2;
use super::points::threads_for;
use super::tree::{LEAF, Node, Tree, plus};
use crate::parallel;

/// Centroids to choose from; a point belongs to the one with the least squared chord plus price, of equals the first.
#[derive(Debug, Clone)]
pub(super) struct Centres {
    pub at: Vec<[f64; 3]>,
    /// 0 but in balanced k-means, where it keeps points out of clusters that are full.
    pub prices: Vec<f64>,
}

impl Centres {
    /// A point's centroid, by comparing all.
    pub fn cheapest(&self, p: [f64; 3]) -> u32 {
        let mut best = (0, f64::INFINITY);
        for (i, (&at, price)) in self.at.iter().zip(&self.prices).enumerate() {
            let cost = chord2(p, at) + price;
            if cost < best.1 {
                best = (i as u32, cost);
            }
        }
        best.0
    }
}

/// What the points of one cluster add up to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    pub sum: [i128; 3],
    /// Inputs.
    pub copies: u64,
}

#[derive(Clone, Copy)]
struct Candidate {
    at: [f64; 3],
    price: f64,
    /// Cost at the centre of the node that is looked at.
    cost: f64,
    slot: u32,
}

/// A task: a node of the tree and the centroids that its points may belong to.
struct Task {
    node: usize,
    candidates: Vec<Candidate>,
    /// Cluster of each candidate; `slot` counts in these.
    clusters: Vec<u32>,
}

/// Centroids by coordinate, for loops over all of them.
struct Columns {
    x: Vec<f64>,
    y: Vec<f64>,
    z: Vec<f64>,
    price: Vec<f64>,
}

/// What a walk does with the points it has found a cluster for.
trait Visit {
    /// All points of a node belong to one.
    fn whole(&mut self, node: &Node, slot: u32);
    /// Points from `start` belong to these.
    fn each(&mut self, start: usize, slots: &[u64]);
}

/// Sums of each cluster's points.
pub(super) fn totals(tree: &Tree, centres: &Centres, threads: usize) -> Vec<Total> {
    let columns = Columns::new(centres);
    let parts = parallel::map(tree.tasks.len(), threads_for(tree.points.len(), threads), |t| {
        let task = Task::new(tree, t, &columns);
        let mut sums = Sums { tree, totals: vec![Total::default(); task.clusters.len()] };
        task.walk(tree, &mut sums);
        (task.clusters, sums.totals)
    });
    let mut totals = vec![Total::default(); centres.at.len()];
    for (clusters, part) in parts {
        for (cluster, part) in clusters.into_iter().zip(part) {
            let total = &mut totals[cluster as usize];
            *total = Total { sum: plus(total.sum, part.sum), copies: total.copies + part.copies };
        }
    }
    totals
}

/// Cluster of each point of the tree.
pub(super) fn labels(tree: &Tree, centres: &Centres, threads: usize) -> Vec<u32> {
    let columns = Columns::new(centres);
    let mut labels = vec![0; tree.points.len()];
    let mut rest = labels.as_mut_slice();
    let mut parts = Vec::with_capacity(tree.tasks.len());
    for (t, &node) in tree.tasks.iter().enumerate() {
        let node = &tree.nodes[node as usize];
        let (part, after) = rest.split_at_mut((node.end - node.start) as usize);
        parts.push((t, node.start as usize, part));
        rest = after;
    }
    parallel::each(parts.into_iter(), threads_for(tree.points.len(), threads), |(t, start, found)| {
        let task = Task::new(tree, t, &columns);
        task.walk(tree, &mut Labels { found, start, clusters: &task.clusters });
    });
    labels
}

impl Columns {
    fn new(centres: &Centres) -> Self {
        let column = |axis: usize| centres.at.iter().map(|at| at[axis]).collect();
        Self { x: column(0), y: column(1), z: column(2), price: centres.prices.clone() }
    }

    fn at(&self, i: usize) -> [f64; 3] {
        [self.x[i], self.y[i], self.z[i]]
    }

    /// Cost of each at a point.
    fn costs(&self, p: [f64; 3]) -> Vec<f64> {
        let at = self.x.iter().zip(&self.y).zip(&self.z);
        at.zip(&self.price).map(|(((&x, &y), &z), price)| chord2(p, [x, y, z]) + price).collect()
    }
}

impl Task {
    fn new(tree: &Tree, t: usize, columns: &Columns) -> Self {
        let i = tree.tasks[t] as usize;
        let node = &tree.nodes[i];
        let costs = columns.costs(node.centre);
        let least = costs.iter().fold(f64::INFINITY, |least, &cost| if cost < least { cost } else { least });
        let best = costs.iter().position(|&cost| cost <= least).unwrap_or(0);
        let mut task = Self { node: i, candidates: Vec::new(), clusters: Vec::new() };
        for (c, &cost) in costs.iter().enumerate() {
            if may_win(node, (cost, columns.at(c)), (least, columns.at(best))) {
                let slot = task.clusters.len() as u32;
                task.candidates.push(Candidate { at: columns.at(c), price: columns.price[c], cost, slot });
                task.clusters.push(c as u32);
            }
        }
        task
    }

    fn walk(&self, tree: &Tree, visit: &mut impl Visit) {
        walk(tree, self.node, &mut self.candidates.clone(), 0, f64::INFINITY, visit);
    }
}

/// How much smaller than the last one a node must be for another look at the candidates to pay.
const SMALLER: f64 = 0.6;

/// `list[from..]` are the candidates, narrowed at a node of radius `last`.
fn walk(tree: &Tree, i: usize, list: &mut Vec<Candidate>, from: usize, last: f64, visit: &mut impl Visit) {
    let node = &tree.nodes[i];
    let is_leaf = tree.is_leaf(i);
    if !is_leaf && node.radius > SMALLER * last {
        walk(tree, i + 1, list, from, last, visit);
        walk(tree, tree.second(i), list, from, last, visit);
        return;
    }
    let here = list.len();
    narrow(node, list, from);
    if list.len() == here + 1 {
        visit.whole(node, list[here].slot);
    } else if is_leaf {
        let mut slots = [0; LEAF];
        let (start, end) = (node.start as usize, node.end as usize);
        compare(tree, start, end, &list[here..], &mut slots);
        visit.each(start, &slots[..end - start]);
    } else {
        walk(tree, i + 1, list, here, node.radius, visit);
        walk(tree, tree.second(i), list, here, node.radius, visit);
    }
    list.truncate(here);
}

/// Unit roundoff of f64, times what a chain of these operations can lose: a squared chord is off by less than 5 of
/// them, and four chords, a radius and a distance of centroids are compared.
const ROUNDING: f64 = 64.0 * f64::EPSILON;

/// Appends those of `list[from..]` that may be the nearest of a point of the node, in the same order.
fn narrow(node: &Node, list: &mut Vec<Candidate>, from: usize) {
    let to = list.len();
    let mut best = from;
    for i in from..to {
        let c = &mut list[i];
        c.cost = chord2(node.centre, c.at) + c.price;
        if c.cost < list[best].cost {
            best = i;
        }
    }
    let best = list[best];
    for i in from..to {
        let c = list[i];
        if may_win(node, (c.cost, c.at), (best.cost, best.at)) {
            list.push(c);
        }
    }
}

/// Whether a candidate may be nearest to a point of the node, where `best` is nearest to its centre; each as its cost
/// there and where it is.
fn may_win(node: &Node, c: (f64, [f64; 3]), best: (f64, [f64; 3])) -> bool {
    // Cost of c less cost of best is linear in the point, and falls at most by 2 |c - best| per length.
    let radius2 = node.radius * node.radius;
    let ahead = c.0 - best.0 - ROUNDING * (c.0 + radius2);
    !(ahead > 0.0 && ahead * ahead > 4.0 * radius2 * chord2(c.1, best.1))
}

/// Slot of the best candidate of each point from `start` to `end`.
fn compare(tree: &Tree, start: usize, end: usize, candidates: &[Candidate], slots: &mut [u64; LEAF]) {
    let points = &tree.points;
    let (x, y, z) = (&points.x[start..end], &points.y[start..end], &points.z[start..end]);
    let mut best = [f64::INFINITY; LEAF];
    for c in candidates {
        let slot = u64::from(c.slot);
        for ((((&x, &y), &z), best), chosen) in x.iter().zip(y).zip(z).zip(&mut best).zip(&mut *slots) {
            let cost = chord2([x, y, z], c.at) + c.price;
            let better = cost < *best;
            *best = if better { cost } else { *best };
            *chosen = if better { slot } else { *chosen };
        }
    }
}

struct Sums<'a> {
    tree: &'a Tree,
    totals: Vec<Total>,
}

impl Visit for Sums<'_> {
    fn whole(&mut self, node: &Node, slot: u32) {
        let total = &mut self.totals[slot as usize];
        *total = Total { sum: plus(total.sum, node.sum), copies: total.copies + node.copies };
    }

    fn each(&mut self, start: usize, slots: &[u64]) {
        let points = &self.tree.points;
        for (i, &slot) in slots.iter().enumerate() {
            let total = &mut self.totals[slot as usize];
            total.sum = plus(total.sum, points.weighted(start + i).map(i128::from));
            total.copies += u64::from(points.copies[start + i]);
        }
    }
}

struct Labels<'a> {
    found: &'a mut [u32],
    start: usize,
    clusters: &'a [u32],
}

impl Visit for Labels<'_> {
    fn whole(&mut self, node: &Node, slot: u32) {
        self.found[node.start as usize - self.start..node.end as usize - self.start].fill(self.clusters[slot as usize]);
    }

    fn each(&mut self, start: usize, slots: &[u64]) {
        for (label, &slot) in self.found[start - self.start..].iter_mut().zip(slots) {
            *label = self.clusters[slot as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::points::Points;
    use super::super::tests::globe;
    use super::*;
    use proptest::prelude::*;

    fn check(lat: &[f64], lon: &[f64], at: Vec<[f64; 3]>, prices: Vec<f64>) {
        let tree = Tree::new(Points::new(lat, lon, None, 1).unwrap(), 2);
        let centres = Centres { at, prices };
        let labels = labels(&tree, &centres, 2);
        let totals = totals(&tree, &centres, 2);
        let mut expected = vec![Total::default(); centres.at.len()];
        for (i, &label) in labels.iter().enumerate() {
            let p = tree.points.at(i);
            assert_eq!(label, centres.cheapest(p));
            let total = &mut expected[label as usize];
            total.sum = plus(total.sum, tree.points.weighted(i).map(i128::from));
            total.copies += u64::from(tree.points.copies[i]);
        }
        for (got, want) in totals.iter().zip(&expected) {
            assert_eq!((got.sum, got.copies), (want.sum, want.copies));
        }
    }

    #[test]
    fn equals_comparing_all_where_everything_ties() {
        // A grid whose cells' corners, edges and centres are points and centroids: ties everywhere, poles and
        // antimeridian among them, each point twice.
        let steps = |from: i32, to: i32, step: usize| (from..=to).step_by(step).map(f64::from);
        let (lat, lon): (Vec<f64>, Vec<f64>) =
            steps(-90, 90, 3).flat_map(|lat| steps(-180, 180, 4).map(move |lon| (lat, lon))).unzip();
        let at: Vec<[f64; 3]> = steps(-90, 90, 15)
            .flat_map(|lat| steps(-180, 180, 20).map(move |lon| crate::geo::unit_vector(lat, lon)))
            .collect();
        let (lat, lon) = ([&lat[..], &lat].concat(), [&lon[..], &lon].concat());
        check(&lat, &lon, at.clone(), vec![0.0; at.len()]);
        check(&lat, &lon, vec![[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], vec![0.0; 2]);
        check(&lat, &lon, vec![[0.6, 0.8, 0.0]; 7], vec![0.0; 7]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn equals_comparing_all(seed in 0u64..1000, n in 1usize..3000, k in 1usize..60, tight in 0i32..9, priced: bool) {
            let (mut lat, mut lon) = globe(n, seed);
            let (mut near_lat, mut near_lon) = globe(k, seed + 1);
            // From the whole globe to a patch of centimetres, at a longitude of 180 degrees.
            let shrink = 10f64.powi(-tight);
            for lat in lat.iter_mut().chain(&mut near_lat) { *lat *= shrink; }
            for lon in lon.iter_mut().chain(&mut near_lon) { *lon = 180.0 + *lon * shrink; }
            let at = near_lat.iter().zip(&near_lon).map(|(&a, &b)| crate::geo::unit_vector(a, b)).collect();
            let prices = (0..k).map(|i| if priced { shrink * shrink * i as f64 / k as f64 } else { 0.0 }).collect();
            check(&lat, &lon, at, prices);
        }
    }
}
