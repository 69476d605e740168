//! DBSCAN: clusters of crowded points.

use crate::geo::places;
use crate::parallel;
use crate::{Error, Result};

use super::Radius;
use super::link::components;
use super::tree::Tree;

/// Points that a thread takes at a time.
const CHUNK: usize = 1024;

/// The label of points in no cluster.
pub const NOISE: i64 = -1;

/// DBSCAN (Ester et al., 1996) by great-circle distance; coordinates are in degrees.
///
/// A point is a core point if the points at most `radius_km` from it, itself among them, are at least `min_points`, or
/// weigh as much where `weights` are given. Core points within the radius of each other are in one cluster; clusters
/// are numbered by their first core point. Another point is in the lowest-numbered cluster that has a core point within
/// the radius, or is [`NOISE`].
///
/// Fails if `radius_km`, `min_points` or a weight is negative or no number, or a coordinate is not on the globe.
pub fn dbscan(
    lat: &[f64],
    lon: &[f64],
    radius_km: f64,
    min_points: usize,
    weights: Option<&[f64]>,
    threads: usize,
) -> Result<Vec<i64>> {
    let radius = Radius::new(radius_km)?;
    let rows = places(lat, lon, "point")?;
    check_weights(weights, rows.len())?;
    let tree = Tree::new(&rows, threads);
    let weight: Vec<f64> = (0..tree.len())
        .map(|i| weights.map_or(tree.rows(i).len() as f64, |w| tree.rows(i).iter().map(|&row| w[row as usize]).sum()))
        .collect();
    let is_core = core_points(&tree, &weight, min_points as f64, &radius, threads);
    let cores: Vec<usize> = (0..tree.len()).filter(|&i| is_core[i]).collect();
    let core_tree = Tree::new(&cores.iter().map(|&i| tree.places[i]).collect::<Vec<_>>(), threads);
    let component = components(&core_tree, &radius, threads);

    // The lowest row of each component, then its rank among them.
    let lowest_row = |core: usize| tree.rows(cores[core_tree.rows(core)[0] as usize])[0];
    let mut lowest = vec![u32::MAX; core_tree.len()];
    for core in 0..core_tree.len() {
        let of_component = &mut lowest[component[core] as usize];
        *of_component = (*of_component).min(lowest_row(core));
    }
    let mut order: Vec<usize> = (0..core_tree.len()).filter(|&core| lowest[core] < u32::MAX).collect();
    order.sort_unstable_by_key(|&core| lowest[core]);
    let mut number = vec![u32::MAX; core_tree.len()];
    for (rank, &core) in order.iter().enumerate() {
        number[core] = rank as u32;
    }
    let cluster: Vec<u32> = component.iter().map(|&c| number[c as usize]).collect();

    let mut of_point = vec![u32::MAX; tree.len()];
    for (core, &cluster) in cluster.iter().enumerate() {
        of_point[cores[core_tree.rows(core)[0] as usize]] = cluster;
    }
    let others: Vec<usize> = (0..tree.len()).filter(|&i| !is_core[i]).collect();
    let least = least_clusters(&core_tree, &cluster);
    let joined = parallel::map(others.len().div_ceil(CHUNK), threads, |c| {
        let others = &others[c * CHUNK..((c + 1) * CHUNK).min(others.len())];
        let join = |&other: &usize| {
            let mut best = u32::MAX;
            join_border(&core_tree, &least, &cluster, (&tree, other), &radius, 0, &mut best);
            best
        };
        others.iter().map(join).collect::<Vec<_>>()
    });
    for (&point, cluster) in others.iter().zip(joined.concat()) {
        of_point[point] = cluster;
    }

    let mut labels = vec![NOISE; lat.len()];
    for (point, &cluster) in of_point.iter().enumerate() {
        for &row in tree.rows(point) {
            labels[row as usize] = if cluster == u32::MAX { NOISE } else { i64::from(cluster) };
        }
    }
    Ok(labels)
}

fn check_weights(weights: Option<&[f64]>, rows: usize) -> Result<()> {
    let Some(weights) = weights else { return Ok(()) };
    if weights.len() != rows {
        return Err(Error::Argument(format!("{rows} points and {} weights", weights.len())));
    }
    match weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
        Some(i) => Err(Error::Argument(format!("weight {i}: {} is not 0 or more", weights[i]))),
        None => Ok(()),
    }
}

/// Whether the points within the radius of each point weigh enough.
fn core_points(tree: &Tree, weight: &[f64], enough: f64, radius: &Radius, threads: usize) -> Vec<bool> {
    let sums = from_leaves(tree, |i| weight[i], |a, b| a + b);
    let chunks = parallel::map(tree.len().div_ceil(CHUNK), threads, |c| {
        (c * CHUNK..((c + 1) * CHUNK).min(tree.len()))
            .map(|point| {
                let mut sum = 0.0;
                weigh(tree, weight, &sums, point, radius, enough, 0, &mut sum);
                sum >= enough
            })
            .collect::<Vec<_>>()
    });
    chunks.concat()
}

/// Adds the weight of a node's points within the radius of a point to `sum`, until there is enough.
#[allow(clippy::too_many_arguments)] // a recursion without allocation
fn weigh(
    tree: &Tree,
    weight: &[f64],
    sums: &[f64],
    point: usize,
    radius: &Radius,
    enough: f64,
    at: usize,
    sum: &mut f64,
) {
    let (node, vector) = (&tree.nodes[at], tree.vectors[point]);
    if *sum >= enough || node.nearest(vector) > radius.possibly {
        return;
    }
    if node.farthest(vector) <= radius.surely {
        *sum += sums[at];
    } else if let Some((left, right)) = tree.children(at) {
        // The side that holds the point is the one that soon has enough.
        let (one, two) = if point >= tree.nodes[right].start as usize { (right, left) } else { (left, right) };
        weigh(tree, weight, sums, point, radius, enough, one, sum);
        weigh(tree, weight, sums, point, radius, enough, two, sum);
    } else {
        for other in node.points() {
            if tree.close(point, tree, other, radius) {
                *sum += weight[other];
            }
        }
    }
}

/// The least cluster number below each node.
fn least_clusters(tree: &Tree, cluster: &[u32]) -> Vec<u32> {
    from_leaves(tree, |i| cluster[i], u32::min)
}

/// A value of each node, from those of its points.
fn from_leaves<T: Copy>(tree: &Tree, of_point: impl Fn(usize) -> T, both: impl Fn(T, T) -> T + Copy) -> Vec<T> {
    let mut values: Vec<Option<T>> = vec![None; tree.nodes.len()];
    for at in (0..tree.nodes.len()).rev() {
        // Children stand behind their parent, so theirs are known.
        values[at] = match tree.children(at) {
            Some((left, right)) => values[left].zip(values[right]).map(|(a, b)| both(a, b)),
            None => tree.nodes[at].points().map(&of_point).reduce(both),
        };
    }
    values.into_iter().flatten().collect()
}

/// Lowers `best` to the least number of a cluster with a core point within the radius of a point of another tree.
fn join_border(
    cores: &Tree,
    least: &[u32],
    cluster: &[u32],
    point: (&Tree, usize),
    radius: &Radius,
    at: usize,
    best: &mut u32,
) {
    let Some(node) = cores.nodes.get(at) else { return };
    let vector = point.0.vectors[point.1];
    if least[at] >= *best || node.nearest(vector) > radius.possibly {
        return;
    }
    if node.farthest(vector) <= radius.surely {
        *best = least[at];
    } else if let Some((left, right)) = cores.children(at) {
        join_border(cores, least, cluster, point, radius, left, best);
        join_border(cores, least, cluster, point, radius, right, best);
    } else {
        for core in node.points() {
            if cluster[core] < *best && point.0.close(point.1, cores, core, radius) {
                *best = cluster[core];
            }
        }
    }
}
