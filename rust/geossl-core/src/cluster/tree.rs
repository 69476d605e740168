//! A tree of balls over sorted points, made once; every pass of k-means walks it.

use super::chord2;
use super::points::{Points, threads_for};
use crate::parallel;

/// Most points of a leaf.
pub(super) const LEAF: usize = 16;

/// Parts of the work that threads share; a number of its own, so that results do not depend on the threads.
const TASKS: usize = 128;

/// A run of points, the ball around them and what they add to a centroid.
pub(super) struct Node {
    pub centre: [f64; 3],
    pub radius: f64,
    /// Exact sum of the weighted coordinates.
    pub sum: [i128; 3],
    /// Inputs at these points.
    pub copies: u64,
    pub start: u32,
    pub end: u32,
    /// The node after this one's descendants; they stand between. A leaf has none.
    pub next: u32,
}

/// Nodes in the order of a walk from the root, and where the walk is cut into tasks.
pub(super) struct Tree {
    pub points: Points,
    pub nodes: Vec<Node>,
    /// Nodes that together hold each point once, in order.
    pub tasks: Vec<u32>,
}

impl Tree {
    /// Builds the tree over at least one point.
    pub fn new(points: Points, threads: usize) -> Self {
        let n = points.len();
        let most = n.div_ceil(TASKS).max(LEAF);
        let mut top = Vec::new();
        cut(&points.keys, 0, n, most, &mut top);
        let tasks: Vec<usize> = (0..top.len()).filter(|&i| top[i].1 - top[i].0 <= most).collect();
        let parts = parallel::map(tasks.len(), threads_for(n, threads), |t| {
            let (start, end) = top[tasks[t]];
            let mut nodes = Vec::with_capacity((end - start) / (LEAF / 4) + 1);
            build(&points, start, end, &mut nodes);
            nodes
        });
        let mut tree = Self { points, nodes: Vec::new(), tasks: Vec::new() };
        tree.nodes.reserve_exact(top.len() - tasks.len() + parts.iter().map(Vec::len).sum::<usize>());
        tree.join(&top, most, &mut parts.into_iter(), &mut 0);
        tree
    }

    /// Whether a node holds points and no nodes.
    pub fn is_leaf(&self, i: usize) -> bool {
        self.nodes[i].next as usize == i + 1
    }

    /// Second child of a node that has children; the first follows the node.
    pub fn second(&self, i: usize) -> usize {
        self.nodes[i + 1].next as usize
    }

    /// Puts the node `top[*at]` and what is below it at the end of the nodes.
    fn join(
        &mut self,
        top: &[(usize, usize)],
        most: usize,
        parts: &mut impl Iterator<Item = Vec<Node>>,
        at: &mut usize,
    ) {
        let (start, end) = top[*at];
        *at += 1;
        let here = self.nodes.len();
        if end - start <= most {
            self.tasks.push(here as u32);
            for mut node in parts.next().into_iter().flatten() {
                node.next += here as u32;
                self.nodes.push(node);
            }
            return;
        }
        self.nodes.push(Node {
            centre: [0.0; 3],
            radius: 0.0,
            sum: [0; 3],
            copies: 0,
            start: start as u32,
            end: end as u32,
            next: 0,
        });
        self.join(top, most, parts, at);
        let second = self.nodes.len();
        self.join(top, most, parts, at);
        self.nodes[here].next = self.nodes.len() as u32;
        let (a, b) = (&self.nodes[here + 1], &self.nodes[second]);
        let share = f64::from(a.end - a.start) / (end - start) as f64;
        let centre = [0, 1, 2].map(|axis| share * a.centre[axis] + (1.0 - share) * b.centre[axis]);
        let reach = |child: &Node| chord2(centre, child.centre).sqrt() + child.radius;
        let (radius, sum, copies) = (reach(a).max(reach(b)), plus(a.sum, b.sum), a.copies + b.copies);
        let node = &mut self.nodes[here];
        (node.centre, node.radius, node.sum, node.copies) = (centre, radius, sum, copies);
    }
}

/// Sum of two sums.
pub(super) fn plus(a: [i128; 3], b: [i128; 3]) -> [i128; 3] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

/// Where a run of points is split: at the highest bit in which their keys differ, which halves their cell.
fn split(keys: &[u64], start: usize, end: usize) -> usize {
    let differ = keys[start] ^ keys[end - 1];
    if differ == 0 {
        return usize::midpoint(start, end);
    }
    let bit = 1u64 << differ.ilog2();
    start + keys[start..end].partition_point(|key| key & bit == 0)
}

/// The runs of the tree's top, in walking order, down to those of at most `most` points.
fn cut(keys: &[u64], start: usize, end: usize, most: usize, out: &mut Vec<(usize, usize)>) {
    out.push((start, end));
    if end - start > most {
        let middle = split(keys, start, end);
        cut(keys, start, middle, most, out);
        cut(keys, middle, end, most, out);
    }
}

/// Least and greatest of each coordinate.
type Extent = ([f64; 3], [f64; 3]);

fn build(points: &Points, start: usize, end: usize, nodes: &mut Vec<Node>) -> Extent {
    let here = nodes.len();
    let centre = [0.0; 3];
    nodes.push(Node { centre, radius: 0.0, sum: [0; 3], copies: 0, start: start as u32, end: end as u32, next: 0 });
    let (extent, sum, copies);
    if end - start <= LEAF {
        let mut found = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
        let mut total = ([0i128; 3], 0u64);
        for i in start..end {
            let p = points.at(i);
            found = ([0, 1, 2].map(|a| p[a].min(found.0[a])), [0, 1, 2].map(|a| p[a].max(found.1[a])));
            total = (plus(total.0, points.weighted(i).map(i128::from)), total.1 + u64::from(points.copies[i]));
        }
        (extent, sum, copies) = (found, total.0, total.1);
    } else {
        let middle = split(&points.keys, start, end);
        let a = build(points, start, middle, nodes);
        let second = nodes.len();
        let b = build(points, middle, end, nodes);
        extent = ([0, 1, 2].map(|i| a.0[i].min(b.0[i])), [0, 1, 2].map(|i| a.1[i].max(b.1[i])));
        sum = plus(nodes[here + 1].sum, nodes[second].sum);
        copies = nodes[here + 1].copies + nodes[second].copies;
    }
    let centre = [0, 1, 2].map(|a| f64::midpoint(extent.0[a], extent.1[a]));
    let (x, y, z) = (&points.x[start..end], &points.y[start..end], &points.z[start..end]);
    let radius2 = x.iter().zip(y).zip(z).fold(0f64, |r, ((&x, &y), &z)| {
        let d = chord2([x, y, z], centre);
        if d > r { d } else { r }
    });
    let next = nodes.len() as u32;
    nodes[here] = Node { centre, radius: radius2.sqrt(), sum, copies, start: start as u32, end: end as u32, next };
    extent
}

#[cfg(test)]
mod tests {
    use super::super::tests::globe;
    use super::*;

    #[test]
    fn every_node_holds_its_points() {
        let (mut lat, mut lon) = globe(5000, 9);
        // A hundred places a millimetre apart share keys.
        lat.extend((0..100).map(|i| 1e-8 * f64::from(i)));
        lon.extend([0.0; 100]);
        let tree = Tree::new(Points::new(&lat, &lon, None, 1).unwrap(), 2);
        assert_eq!((tree.nodes[0].start, tree.nodes[0].end as usize), (0, tree.points.len()));
        for (i, node) in tree.nodes.iter().enumerate() {
            let mut sum = [0i128; 3];
            for p in node.start as usize..node.end as usize {
                sum = plus(sum, tree.points.weighted(p).map(i128::from));
                assert!(chord2(tree.points.at(p), node.centre).sqrt() <= node.radius * (1.0 + 1e-12));
            }
            assert_eq!(sum, node.sum);
            if tree.is_leaf(i) {
                assert!((node.end - node.start) as usize <= LEAF);
            } else {
                let (a, b) = (&tree.nodes[i + 1], &tree.nodes[tree.second(i)]);
                assert_eq!((a.start, a.end, b.end, b.next), (node.start, b.start, node.end, node.next));
            }
        }
        let mut at = 0;
        for &t in &tree.tasks {
            assert_eq!(tree.nodes[t as usize].start, at);
            at = tree.nodes[t as usize].end;
        }
        assert_eq!(at as usize, tree.points.len());
    }
}
