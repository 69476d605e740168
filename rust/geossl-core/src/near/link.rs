//! Single link: points that chains of short steps join.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::Result;
use crate::geo::places;
use crate::parallel;

use super::Radius;
use super::tree::Tree;

/// Pieces of work that the pairs of a tree are cut into, enough for the threads of any machine to share evenly.
const PIECES: usize = 512;

/// The place of each point, where points at most `radius_km` apart are in one place, and so are all that a chain of
/// such points joins (single link). Places are numbered by their first point. Coordinates are in degrees.
///
/// Fails if the radius is negative or no number, or a coordinate is not on the globe.
pub fn link_places(lat: &[f64], lon: &[f64], radius_km: f64, threads: usize) -> Result<Vec<u32>> {
    let radius = Radius::new(radius_km)?;
    let tree = Tree::new(&places(lat, lon, "point")?, threads);
    let component = components(&tree, &radius, threads);
    let mut of_row = vec![0; lat.len()];
    for (point, &component) in component.iter().enumerate() {
        for &row in tree.rows(point) {
            of_row[row as usize] = component;
        }
    }
    let mut number = vec![u32::MAX; tree.len()];
    let mut count = 0;
    for label in &mut of_row {
        let number = &mut number[*label as usize];
        if *number == u32::MAX {
            *number = count;
            count += 1;
        }
        *label = *number;
    }
    Ok(of_row)
}

/// For each point of the tree the lowest point that it is linked with.
pub fn components(tree: &Tree, radius: &Radius, threads: usize) -> Vec<u32> {
    let linking = Linking {
        tree,
        radius,
        forest: Forest::new(tree.len()),
        whole: tree.nodes.iter().map(|node| AtomicBool::new(node.end - node.start == 1)).collect(),
    };
    let mut pieces = if tree.len() == 0 { Vec::new() } else { vec![(0, 0)] };
    while pieces.len() < PIECES {
        let mut finer = Vec::new();
        for &(a, b) in &pieces {
            match tree.children(a) {
                Some((left, right)) if a == b => finer.extend([(left, left), (right, right), (left, right)]),
                _ => finer.push((a, b)),
            }
        }
        if finer.len() == pieces.len() {
            break;
        }
        pieces = finer;
    }
    // What is linked within the parts spares comparisons between them.
    pieces.sort_by_key(|(a, b)| a != b);
    parallel::map(pieces.len(), threads, |i| linking.join(pieces[i].0, pieces[i].1));
    (0..tree.len() as u32).map(|point| linking.forest.root(point)).collect()
}

struct Linking<'a> {
    tree: &'a Tree,
    radius: &'a Radius,
    forest: Forest,
    /// Nodes whose points are known to be linked with each other.
    whole: Vec<AtomicBool>,
}

impl Linking<'_> {
    /// Links the points of two nodes, or of one, that are within the radius.
    ///
    /// What is already linked is not looked at again: boxes whose points are all within the radius are joined as
    /// wholes, so crowded places cost no more than the boxes around them.
    fn join(&self, a: usize, b: usize) {
        let (one, two) = (&self.tree.nodes[a], &self.tree.nodes[b]);
        if a == b && self.is_whole(a) || one.apart(two) > self.radius.possibly {
            return;
        }
        if self.is_linked(a, b) {
            return;
        }
        if one.across(two) <= self.radius.surely {
            self.make_whole(a);
            self.make_whole(b);
            self.forest.link(one.start, two.start);
            return;
        }
        match (self.tree.children(a), self.tree.children(b)) {
            (Some((left, right)), _) if a == b => {
                self.join(left, left);
                self.join(right, right);
                self.join(left, right);
                if self.is_linked(left, right) {
                    self.whole[a].store(true, Ordering::Relaxed);
                }
            }
            (None, None) => self.compare(a, b),
            (Some((left, right)), other) if other.is_none() || one.points().len() >= two.points().len() => {
                self.join(left, b);
                self.join(right, b);
            }
            (_, Some((left, right))) => {
                self.join(a, left);
                self.join(a, right);
            }
            (Some(_), None) => {}
        }
    }

    /// Compares all pairs of two leaves.
    fn compare(&self, a: usize, b: usize) {
        for i in self.tree.nodes[a].points() {
            for j in self.tree.nodes[b].points() {
                if i < j && self.tree.close(i, self.tree, j, self.radius) {
                    self.forest.link(i as u32, j as u32);
                }
            }
        }
    }

    fn is_whole(&self, node: usize) -> bool {
        self.whole[node].load(Ordering::Relaxed)
    }

    fn is_linked(&self, a: usize, b: usize) -> bool {
        let start = |node: usize| self.tree.nodes[node].start;
        self.is_whole(a) && self.is_whole(b) && self.forest.root(start(a)) == self.forest.root(start(b))
    }

    fn make_whole(&self, node: usize) {
        if !self.is_whole(node) {
            let points = &self.tree.nodes[node];
            for point in points.start + 1..points.end {
                self.forest.link(points.start, point);
            }
            self.whole[node].store(true, Ordering::Relaxed);
        }
    }
}

/// Disjoint sets that threads join at the same time (Anderson and Woll, 1991): a set's root is its lowest member, so
/// the result does not depend on the order of the links.
struct Forest {
    parent: Vec<AtomicU32>,
}

impl Forest {
    fn new(n: usize) -> Self {
        Self { parent: (0..n as u32).map(AtomicU32::new).collect() }
    }

    fn parent(&self, at: u32) -> u32 {
        self.parent[at as usize].load(Ordering::Relaxed)
    }

    fn root(&self, mut at: u32) -> u32 {
        loop {
            let parent = self.parent(at);
            if parent == at {
                return at;
            }
            // A path is halved on the way; a lost race leaves it longer, but right.
            let above = self.parent(parent);
            if above != parent {
                let entry = &self.parent[at as usize];
                let _ = entry.compare_exchange(parent, above, Ordering::Relaxed, Ordering::Relaxed);
            }
            at = above;
        }
    }

    fn link(&self, a: u32, b: u32) {
        loop {
            let (a, b) = (self.root(a), self.root(b));
            if a == b {
                return;
            }
            let (low, high) = (a.min(b), a.max(b));
            // Only a root is hung under another point, so a root that was hung meanwhile is looked up again.
            let entry = &self.parent[high as usize];
            if entry.compare_exchange(high, low, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}
