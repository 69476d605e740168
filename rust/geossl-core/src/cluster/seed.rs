//! k-means++ (Arthur and Vassilvitskii, SODA 2007) on the tree: a new centroid looks only at nodes that it can be
//! nearer to than what was drawn before, and a draw walks down the tree.

use super::chord2;
use super::points::threads_for;
use super::tree::Tree;
use crate::parallel;
use crate::rng::Draws;

/// Squared chord before there is a centroid: above any, and the same for all.
const FAR: f64 = 5.0;

/// Fewer points than this are updated by one thread: starting a second costs more.
const WORTH_THREADS: usize = 1 << 16;

/// One task's part of the tree.
struct Part {
    root: usize,
    /// Squared chord of each point to its nearest centroid.
    nearest: Vec<f64>,
    /// Largest of them of each node.
    most: Vec<f64>,
    /// Sum of weight times squared chord of each node.
    sum: Vec<f64>,
}

/// `k` points of the tree, each drawn with a chance in proportion to its weight times squared chord to those before.
pub(super) fn plus_plus(tree: &Tree, k: usize, draws: &mut Draws, threads: usize) -> Vec<[f64; 3]> {
    let mut parts: Vec<Part> = tree
        .tasks
        .iter()
        .map(|&root| {
            let node = &tree.nodes[root as usize];
            let nodes = node.next as usize - root as usize;
            let nearest = vec![FAR; (node.end - node.start) as usize];
            Part { root: root as usize, nearest, most: vec![FAR; nodes], sum: vec![0.0; nodes] }
        })
        .collect();
    let refresh = |parts: &mut Vec<Part>, at: [f64; 3], least: f64| {
        let touched: Vec<&mut Part> = parts.iter_mut().filter(|p| p.can_gain(tree, p.root, at, least)).collect();
        let points: usize = touched.iter().map(|p| p.nearest.len()).sum();
        let threads = if points < WORTH_THREADS { 1 } else { threads_for(tree.points.len(), threads) };
        parallel::each(touched.into_iter(), threads, |part| part.update(tree, part.root, at, least));
    };
    // Farther than any point: leaves FAR everywhere, and so sums of weights.
    refresh(&mut parts, [3.0, 3.0, 3.0], FAR);
    let mut centroids = Vec::with_capacity(k);
    while centroids.len() < k {
        let at = tree.points.at(draw(tree, &parts, draws));
        centroids.push(at);
        refresh(&mut parts, at, 0.0);
    }
    centroids
}

impl Part {
    /// Whether a centroid can be nearer to a point of the node than its nearest; always, if all are at least `least`
    /// away and `least` is above 0.
    fn can_gain(&self, tree: &Tree, i: usize, at: [f64; 3], least: f64) -> bool {
        let node = &tree.nodes[i];
        let gap = chord2(node.centre, at).sqrt() * (1.0 - 1e-12) - node.radius;
        least > 0.0 || gap <= 0.0 || gap * gap < self.most[i - self.root]
    }

    fn update(&mut self, tree: &Tree, i: usize, at: [f64; 3], least: f64) {
        if !self.can_gain(tree, i, at, least) {
            return;
        }
        let (node, first) = (&tree.nodes[i], tree.nodes[self.root].start as usize);
        let (most, sum);
        if tree.is_leaf(i) {
            let (start, end) = (node.start as usize, node.end as usize);
            let (mut found, mut total) = (0f64, 0.0);
            for (p, nearest) in (start..end).zip(&mut self.nearest[start - first..end - first]) {
                *nearest = nearest.min(chord2(tree.points.at(p), at));
                found = found.max(*nearest);
                total += tree.points.weight[p] * *nearest;
            }
            (most, sum) = (found, total);
        } else {
            let (a, b) = (i + 1, tree.second(i));
            self.update(tree, a, at, least);
            self.update(tree, b, at, least);
            let (a, b) = (a - self.root, b - self.root);
            (most, sum) = (self.most[a].max(self.most[b]), self.sum[a] + self.sum[b]);
        }
        (self.most[i - self.root], self.sum[i - self.root]) = (most, sum);
    }
}

/// Draws a point. Rounding never leads to one of chance 0.
fn draw(tree: &Tree, parts: &[Part], draws: &mut Draws) -> usize {
    let total: f64 = parts.iter().map(|p| p.sum[0]).sum();
    let mut target = draws.unit() * total;
    let part = pick(parts.iter().map(|p| p.sum[0]), &mut target);
    let part = &parts[part];
    let mut i = part.root;
    while !tree.is_leaf(i) {
        let children = [i + 1, tree.second(i)];
        i = children[pick(children.iter().map(|&c| part.sum[c - part.root]), &mut target)];
    }
    let (start, end) = (tree.nodes[i].start as usize, tree.nodes[i].end as usize);
    let first = tree.nodes[part.root].start as usize;
    start + pick((start..end).map(|p| tree.points.weight[p] * part.nearest[p - first]), &mut target)
}

/// The first share that reaches beyond the target, else the last above 0; takes those before it off the target.
fn pick(shares: impl Iterator<Item = f64>, target: &mut f64) -> usize {
    let (mut chosen, mut rest) = (0, *target);
    for (i, share) in shares.enumerate().filter(|&(_, share)| share > 0.0) {
        (chosen, *target) = (i, rest);
        if rest < share {
            break;
        }
        rest -= share;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::points::Points;
    use super::super::tests::globe;
    use super::*;
    use crate::rng::Stage;

    #[test]
    fn draws_in_proportion_to_weight_and_squared_chord() {
        // Three places: the chances of the second draw follow from the first.
        let (lat, lon, weights) = ([0.0, 0.0, 0.0], [0.0, 60.0, 180.0], [1.0, 2.0, 1.0]);
        let tree = Tree::new(Points::new(&lat, &lon, Some(&weights), 1).unwrap(), 1);
        let mut counts = std::collections::HashMap::new();
        let runs = 20_000;
        for seed in 0..runs {
            let drawn = plus_plus(&tree, 2, &mut Draws::new(seed, 0, 0, 0, Stage::Cluster), 1);
            let of = drawn.iter().map(|v| crate::geo::lat_lon(*v).1.abs().round() as i32).collect::<Vec<_>>();
            *counts.entry((of[0], of[1])).or_insert(0) += 1;
        }
        // From 0: 60 degrees has chord² 1 and weight 2, 180 degrees chord² 4. From 60: 1 and 3. From 180: 4 and 2 x 3.
        for (pair, chance) in [
            ((0, 60), 0.25 / 3.0),
            ((0, 180), 0.5 / 3.0),
            ((60, 0), 0.125),
            ((60, 180), 0.375),
            ((180, 0), 0.1),
            ((180, 60), 0.15),
        ] {
            let got = f64::from(counts[&pair]) / runs as f64;
            assert!((got - chance).abs() < 0.012, "{pair:?}: {got} for {chance}");
        }
    }

    #[test]
    fn distances_are_those_to_the_nearest_drawn() {
        let (lat, lon) = globe(40_000, 3);
        let tree = Tree::new(Points::new(&lat, &lon, None, 1).unwrap(), 1);
        let draws = || Draws::new(1, 0, 0, 0, Stage::Cluster);
        let drawn = plus_plus(&tree, 30, &mut draws(), 2);
        assert_eq!(drawn, plus_plus(&tree, 30, &mut draws(), 1));
        // The same draws with every distance taken anew.
        let mut again = draws();
        let mut centroids = vec![drawn[0]];
        let _ = again.unit();
        let mut nearest = vec![FAR; lat.len()];
        while centroids.len() < 30 {
            let last = centroids[centroids.len() - 1];
            for (i, d) in nearest.iter_mut().enumerate() {
                *d = d.min(chord2(tree.points.at(i), last));
            }
            let mut target = again.unit() * nearest.iter().sum::<f64>();
            centroids.push(tree.points.at(pick(nearest.iter().copied(), &mut target)));
        }
        assert_eq!(drawn, centroids);
    }
}
