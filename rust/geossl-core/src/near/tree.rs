//! The tree: boxes in space around the unit vectors of distinct points.

use crate::geo::Place;
use crate::parallel;

use super::Radius;

/// Most distinct points of a leaf.
const LEAF: usize = 8;

/// Fewer points than this are sorted into a tree by one thread.
const SERIAL: usize = 1 << 14;

/// A kd-tree over distinct places: half the points on each side of a cut across the widest extent, but equal
/// coordinates on one side. Points are stored in the order of the leaves. Its shape depends on the set of points
/// alone, not on their order.
pub struct Tree {
    /// In preorder: a left child follows its parent.
    pub nodes: Vec<Node>,
    /// Unit vectors of the distinct points.
    pub vectors: Vec<[f64; 3]>,
    /// The distinct points.
    pub places: Vec<Place>,
    /// Point i stands for `rows[first[i]..first[i + 1]]`.
    first: Vec<u32>,
    rows: Vec<u32>,
}

/// A box around some points.
#[derive(Clone, Copy)]
pub struct Node {
    low: [f64; 3],
    high: [f64; 3],
    /// The points: `start..end`.
    pub start: u32,
    pub end: u32,
    /// How far behind this node its right child stands; 0 for a leaf.
    right: u32,
}

#[derive(Clone, Copy)]
struct Item {
    vector: [f64; 3],
    row: u32,
}

impl Tree {
    /// The tree of some places, built by up to `threads` threads.
    pub fn new(places: &[Place], threads: usize) -> Self {
        const CHUNK: usize = 1 << 14;
        let chunks = parallel::map(places.len().div_ceil(CHUNK), threads, |c| {
            let start = c * CHUNK;
            let part = &places[start..(start + CHUNK).min(places.len())];
            let item = |(i, p): (usize, &Place)| Item { vector: p.vector(), row: (start + i) as u32 };
            part.iter().enumerate().map(item).collect::<Vec<_>>()
        });
        let mut items = chunks.concat();
        let mut nodes = Vec::with_capacity(2 * items.len().div_ceil(LEAF / 2));
        if !items.is_empty() {
            grow(&mut items, 0, places, parallel::resolve_threads(threads), &mut nodes);
        }
        Self::of_leaves(&items, nodes, places)
    }

    /// Joins the items of one place, which stand beside each other within a leaf.
    fn of_leaves(items: &[Item], mut nodes: Vec<Node>, places: &[Place]) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            vectors: Vec::with_capacity(items.len()),
            places: Vec::with_capacity(items.len()),
            first: Vec::with_capacity(items.len() + 1),
            rows: items.iter().map(|item| item.row).collect(),
        };
        // Distinct points before each item, kept only where there are fewer points than items.
        let mut before = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let place = places[item.row as usize];
            if tree.places.last() == Some(&place) {
                if before.is_empty() {
                    before = (0..i as u32).collect();
                }
            } else {
                tree.places.push(place);
                tree.vectors.push(item.vector);
                tree.first.push(i as u32);
            }
            if !before.is_empty() {
                before.push(tree.places.len() as u32 - 1);
            }
        }
        tree.first.push(items.len() as u32);
        if !before.is_empty() {
            before.push(tree.places.len() as u32);
            for node in &mut nodes {
                (node.start, node.end) = (before[node.start as usize], before[node.end as usize]);
            }
        }
        tree.nodes = nodes;
        tree
    }

    /// Number of distinct points.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The rows of a point, ascending.
    pub fn rows(&self, point: usize) -> &[u32] {
        &self.rows[self.first[point] as usize..self.first[point + 1] as usize]
    }

    /// The children of a node; `None` for a leaf.
    pub fn children(&self, node: usize) -> Option<(usize, usize)> {
        let right = self.nodes[node].right as usize;
        (right > 0).then_some((node + 1, node + right))
    }

    /// Whether two points, of this tree and of another, are within the radius.
    pub fn close(&self, a: usize, other: &Self, b: usize, radius: &Radius) -> bool {
        let squared = squared_chord(self.vectors[a], other.vectors[b]);
        squared <= radius.surely || (squared <= radius.possibly && self.places[a].km(other.places[b]) <= radius.km)
    }

    /// Calls `visit` with each leaf whose box reaches within the squared chord `reach` of `point`; it says how far to
    /// look from then on. Nearer boxes come first. `stack` is room to work in.
    pub fn search(
        &self,
        point: [f64; 3],
        mut reach: f64,
        stack: &mut Vec<(u32, f64)>,
        mut visit: impl FnMut(&Node) -> f64,
    ) {
        stack.clear();
        if !self.nodes.is_empty() {
            stack.push((0, 0.0));
        }
        while let Some((node, squared)) = stack.pop() {
            if squared > reach {
                continue;
            }
            let mut at = node as usize;
            loop {
                let Some((left, right)) = self.children(at) else {
                    reach = visit(&self.nodes[at]);
                    break;
                };
                let (to_left, to_right) = (self.nodes[left].nearest(point), self.nodes[right].nearest(point));
                let (near, far) = if to_right < to_left {
                    ((right, to_right), (left, to_left))
                } else {
                    ((left, to_left), (right, to_right))
                };
                if far.1 <= reach {
                    stack.push((far.0 as u32, far.1));
                }
                if near.1 > reach {
                    break;
                }
                at = near.0;
            }
        }
    }
}

impl Node {
    fn around(items: &[Item], start: u32) -> Self {
        let mut node = Self { low: [2.0; 3], high: [-2.0; 3], start, end: start + items.len() as u32, right: 0 };
        for item in items {
            for i in 0..3 {
                node.low[i] = node.low[i].min(item.vector[i]);
                node.high[i] = node.high[i].max(item.vector[i]);
            }
        }
        node
    }

    /// The points.
    pub fn points(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Squared distance of the box from a point: no point of the box has a smaller one, rounding included.
    pub fn nearest(&self, point: [f64; 3]) -> f64 {
        let gap = |i: usize| (self.low[i] - point[i]).max(point[i] - self.high[i]).max(0.0);
        gap(0) * gap(0) + gap(1) * gap(1) + gap(2) * gap(2)
    }

    /// Squared distance of the box's farthest corner from a point: no point of the box has a larger one.
    pub fn farthest(&self, point: [f64; 3]) -> f64 {
        let gap = |i: usize| (point[i] - self.low[i]).max(self.high[i] - point[i]);
        gap(0) * gap(0) + gap(1) * gap(1) + gap(2) * gap(2)
    }

    /// The smallest squared distance that points of two boxes may have.
    pub fn apart(&self, other: &Self) -> f64 {
        let gap = |i: usize| (self.low[i] - other.high[i]).max(other.low[i] - self.high[i]).max(0.0);
        gap(0) * gap(0) + gap(1) * gap(1) + gap(2) * gap(2)
    }

    /// The largest squared distance that points of two boxes, or of one, may have.
    pub fn across(&self, other: &Self) -> f64 {
        let gap = |i: usize| (self.high[i] - other.low[i]).max(other.high[i] - self.low[i]);
        gap(0) * gap(0) + gap(1) * gap(1) + gap(2) * gap(2)
    }
}

/// Squared distance of two points in space.
pub fn squared_chord(a: [f64; 3], b: [f64; 3]) -> f64 {
    let d = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
}

/// Sorts items into the leaves of a subtree, whose nodes are appended in preorder.
fn grow(items: &mut [Item], start: u32, places: &[Place], threads: usize, nodes: &mut Vec<Node>) {
    let at = nodes.len();
    let node = Node::around(items, start);
    nodes.push(node);
    let extent = [0, 1, 2].map(|i| node.high[i] - node.low[i]);
    let widest =
        if extent[0] >= extent[1] && extent[0] >= extent[2] { 0 } else { 1 + usize::from(extent[2] > extent[1]) };
    if items.len() <= LEAF || extent[widest] == 0.0 {
        let place = |item: &Item| places[item.row as usize];
        items.sort_unstable_by(|a, b| {
            let (p, q) = (place(a), place(b));
            p.lat().total_cmp(&q.lat()).then(p.lon().total_cmp(&q.lon())).then(a.row.cmp(&b.row))
        });
        return;
    }
    let cut = cut(items, widest);
    let (left, right) = items.split_at_mut(cut);
    let right_start = start + cut as u32;
    if threads > 1 && left.len() + right.len() > SERIAL {
        let mut behind = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| grow(right, right_start, places, threads - threads / 2, &mut behind));
            grow(left, start, places, threads / 2, nodes);
        });
        nodes[at].right = (nodes.len() - at) as u32;
        nodes.append(&mut behind);
    } else {
        grow(left, start, places, 1, nodes);
        nodes[at].right = (nodes.len() - at) as u32;
        grow(right, right_start, places, 1, nodes);
    }
}

/// Orders items for a cut near their middle and returns it. Equal coordinates stay on one side, so that items of one
/// place come into one leaf.
fn cut(items: &mut [Item], axis: usize) -> usize {
    let middle = items.len() / 2;
    let (_, at, _) = items.select_nth_unstable_by(middle, |a, b| a.vector[axis].total_cmp(&b.vector[axis]));
    let value = at.vector[axis];
    let below = partition(&mut items[..middle], |item| item.vector[axis] < value);
    let above = middle + partition(&mut items[middle..], |item| item.vector[axis] <= value);
    if above == items.len() || (below > 0 && middle - below <= above - middle) { below } else { above }
}

/// Moves the items that `is_left` to the front; returns how many there are.
fn partition(items: &mut [Item], is_left: impl Fn(&Item) -> bool) -> usize {
    let mut left = 0;
    for i in 0..items.len() {
        if is_left(&items[i]) {
            items.swap(left, i);
            left += 1;
        }
    }
    left
}
