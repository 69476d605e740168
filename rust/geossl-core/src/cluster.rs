//! Spherical k-means: clusters of places by great-circle distance.

use crate::geo::{dot, unit_vector};
use crate::parallel;
use crate::rng::{Draws, Stage};
use crate::{Error, Result};

/// Points summed together before the sums are added up in order: the result is the same for any thread count.
const CHUNK: usize = 8192;

/// Settings of k-means.
#[derive(Debug, Clone)]
pub struct KMeans {
    /// Number of clusters.
    pub k: usize,
    /// Seed of k-means++.
    pub seed: u64,
    /// Runs from different seeds, of which the one with the lowest inertia is kept.
    pub n_init: usize,
    /// Most iterations of a run.
    pub max_iter: usize,
    /// Threads; 0 is all cores.
    pub threads: usize,
}

/// A clustering.
#[derive(Debug, Clone)]
pub struct Clustering {
    /// Cluster of each point.
    pub labels: Vec<u32>,
    /// Centroids: normalised means, unit vectors.
    pub centroids: Vec<[f64; 3]>,
    /// Sum over points of the squared chord to their centroid, 2 - 2 cos(angle).
    pub inertia: f64,
    /// Iterations of the run that was kept.
    pub iterations: usize,
    /// Whether that run ended because no label changed.
    pub converged: bool,
}

/// Clusters of points given as degrees. Every cluster of the result has a point.
///
/// Lloyd's iteration with k-means++ seeding (Arthur and Vassilvitskii, 2007) on the unit sphere (Dhillon and
/// Modha, 2001): the nearest centroid by chord is the nearest by great circle, the centroid is the normalised
/// mean. A cluster that loses its last point takes the point farthest from its own centroid.
///
/// Fails if `k` is 0 or larger than the number of distinct points, or a coordinate is not finite.
pub fn kmeans(lat: &[f64], lon: &[f64], settings: &KMeans) -> Result<Clustering> {
    if lat.len() != lon.len() {
        return Err(Error::Argument(format!("{} latitudes and {} longitudes", lat.len(), lon.len())));
    }
    if let Some(i) = (0..lat.len()).find(|&i| !(lat[i].abs() <= 90.0 && lon[i].is_finite())) {
        return Err(Error::Argument(format!("point {i}: ({}, {}) is not on the globe", lat[i], lon[i])));
    }
    let points: Vec<[f64; 3]> = lat.iter().zip(lon).map(|(&lat, &lon)| unit_vector(lat, lon)).collect();
    let distinct = distinct_up_to(&points, if settings.k == 0 { points.len() } else { settings.k });
    if settings.k == 0 || settings.k > distinct {
        return Err(Error::Argument(format!(
            "k = {}: the {} points have {distinct} distinct coordinates; k must be from 1 to {distinct}",
            settings.k,
            points.len()
        )));
    }
    let mut best: Option<Clustering> = None;
    for run in 0..settings.n_init.max(1) {
        let mut draws = Draws::new(settings.seed, run as u64, 0, 0, Stage::Cluster);
        let start = plus_plus(&points, settings.k, &mut draws);
        let found = lloyd(&points, start, settings);
        if best.as_ref().is_none_or(|b| found.inertia < b.inertia) {
            best = Some(found);
        }
    }
    best.ok_or_else(|| Error::Internal("k-means made no run".into()))
}

/// Nearest centroid of each point, by great-circle distance; ties go to the lower number.
pub fn assign(lat: &[f64], lon: &[f64], centroids: &[[f64; 3]], threads: usize) -> Vec<u32> {
    let points: Vec<[f64; 3]> = lat.iter().zip(lon).map(|(&lat, &lon)| unit_vector(lat, lon)).collect();
    let chunks = parallel::map(points.len().div_ceil(CHUNK), threads, |c| {
        chunk(&points, c).iter().map(|&p| nearest(p, centroids).0).collect::<Vec<_>>()
    });
    chunks.concat()
}

fn chunk<T>(all: &[T], c: usize) -> &[T] {
    &all[c * CHUNK..((c + 1) * CHUNK).min(all.len())]
}

fn nearest(point: [f64; 3], centroids: &[[f64; 3]]) -> (u32, f64) {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, &c) in centroids.iter().enumerate() {
        let cosine = dot(point, c);
        if cosine > best.1 {
            best = (i as u32, cosine);
        }
    }
    best
}

/// Number of distinct points, counted no further than `enough`.
fn distinct_up_to(points: &[[f64; 3]], enough: usize) -> usize {
    let mut seen = std::collections::HashSet::new();
    for p in points {
        seen.insert(p.map(f64::to_bits));
        if seen.len() >= enough.max(1) {
            break;
        }
    }
    seen.len()
}

fn plus_plus(points: &[[f64; 3]], k: usize, draws: &mut Draws) -> Vec<[f64; 3]> {
    let mut centroids = vec![points[draws.below(points.len())]];
    let mut distance = vec![f64::INFINITY; points.len()];
    while centroids.len() < k {
        let last = centroids[centroids.len() - 1];
        let mut total = 0.0;
        for (d, &p) in distance.iter_mut().zip(points) {
            *d = d.min(chord2(p, last));
            total += *d;
        }
        let mut target = draws.unit() * total;
        let mut chosen = None;
        for (i, &d) in distance.iter().enumerate() {
            target -= d;
            if d > 0.0 {
                chosen = Some(i);
                if target < 0.0 {
                    break;
                }
            }
        }
        // Some point has a positive distance, as there are at least k distinct ones.
        centroids.push(points[chosen.unwrap_or(0)]);
    }
    centroids
}

fn chord2(a: [f64; 3], b: [f64; 3]) -> f64 {
    let d = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    dot(d, d)
}

struct Partial {
    sums: Vec<[f64; 3]>,
    labels: Vec<u32>,
    cosines: Vec<f64>,
}

fn lloyd(points: &[[f64; 3]], mut centroids: Vec<[f64; 3]>, settings: &KMeans) -> Clustering {
    let k = centroids.len();
    let mut labels = vec![u32::MAX; points.len()];
    let mut iterations = 0;
    let mut converged = false;
    while iterations < settings.max_iter.max(1) && !converged {
        iterations += 1;
        let partials = parallel::map(points.len().div_ceil(CHUNK), settings.threads, |c| {
            let mut partial = Partial { sums: vec![[0.0; 3]; k], labels: Vec::new(), cosines: Vec::new() };
            for &p in chunk(points, c) {
                let (label, cosine) = nearest(p, &centroids);
                partial.labels.push(label);
                partial.cosines.push(cosine);
                let sum = &mut partial.sums[label as usize];
                *sum = [sum[0] + p[0], sum[1] + p[1], sum[2] + p[2]];
            }
            partial
        });
        let mut sums = vec![[0.0; 3]; k];
        for partial in &partials {
            for (sum, s) in sums.iter_mut().zip(&partial.sums) {
                *sum = [sum[0] + s[0], sum[1] + s[1], sum[2] + s[2]];
            }
        }
        let mut new: Vec<u32> = partials.iter().flat_map(|p| p.labels.iter().copied()).collect();
        let mut cosines: Vec<f64> = partials.iter().flat_map(|p| p.cosines.iter().copied()).collect();
        fill_empty(points, &mut new, &mut cosines, &mut sums);
        converged = new == labels;
        labels = new;
        for (centroid, sum) in centroids.iter_mut().zip(&sums) {
            let length = dot(*sum, *sum).sqrt();
            // Points that cancel out (antipodes) have no mean direction: the centroid stays.
            if length > 1e-12 {
                *centroid = sum.map(|x| x / length);
            }
        }
    }
    let inertia = labels.iter().zip(points).map(|(&l, &p)| chord2(p, centroids[l as usize])).sum();
    Clustering { labels, centroids, inertia, iterations, converged }
}

/// Gives each cluster without points the point that lies farthest from its centroid, from a cluster that keeps one.
fn fill_empty(points: &[[f64; 3]], labels: &mut [u32], cosines: &mut [f64], sums: &mut [[f64; 3]]) {
    let mut sizes = vec![0usize; sums.len()];
    for &l in labels.iter() {
        sizes[l as usize] += 1;
    }
    for empty in 0..sums.len() {
        if sizes[empty] > 0 {
            continue;
        }
        let farthest = (0..points.len())
            .filter(|&i| sizes[labels[i] as usize] > 1)
            .min_by(|&a, &b| cosines[a].total_cmp(&cosines[b]));
        let Some(i) = farthest else { continue };
        let from = labels[i] as usize;
        let p = points[i];
        sums[from] = [sums[from][0] - p[0], sums[from][1] - p[1], sums[from][2] - p[2]];
        sizes[from] -= 1;
        (sums[empty], sizes[empty], labels[i], cosines[i]) = (p, 1, empty as u32, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globe(n: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
        let mut draws = Draws::new(seed, 0, 0, 0, Stage::Cluster);
        (0..n).map(|_| (draws.uniform(-1.0, 1.0).asin().to_degrees(), draws.uniform(-180.0, 180.0))).unzip()
    }

    fn settings(k: usize) -> KMeans {
        KMeans { k, seed: 3, n_init: 2, max_iter: 100, threads: 1 }
    }

    #[test]
    fn is_the_same_for_any_thread_count() {
        let (lat, lon) = globe(20_000, 1);
        let one = kmeans(&lat, &lon, &settings(17)).unwrap();
        for threads in [2, 5] {
            let other = kmeans(&lat, &lon, &KMeans { threads, ..settings(17) }).unwrap();
            assert_eq!(one.labels, other.labels);
            assert_eq!(one.inertia.to_bits(), other.inertia.to_bits());
        }
        assert_eq!(assign(&lat, &lon, &one.centroids, 2).len(), lat.len());
    }

    #[test]
    fn the_cost_never_rises_and_no_cluster_is_empty() {
        let (lat, lon) = globe(2_000, 2);
        let mut last = f64::INFINITY;
        for max_iter in 1..20 {
            let found = kmeans(&lat, &lon, &KMeans { n_init: 1, max_iter, ..settings(40) }).unwrap();
            assert!(found.inertia <= last + 1e-12);
            last = found.inertia;
            for c in 0..40 {
                assert!(found.labels.contains(&c));
            }
        }
    }

    #[test]
    fn clusters_cross_the_antimeridian_and_the_pole() {
        let lat = [10.0, 10.0, 10.5, 89.0, 89.0, 89.0];
        let lon = [179.5, -179.5, 180.0, 0.0, 120.0, -120.0];
        let found = kmeans(&lat, &lon, &settings(2)).unwrap();
        assert!(found.labels[..3].iter().all(|&l| l == found.labels[0]));
        assert!(found.labels[3..].iter().all(|&l| l == found.labels[3]));
        assert_ne!(found.labels[0], found.labels[3]);
    }

    #[test]
    fn as_many_clusters_as_points_have_no_cost() {
        let (lat, lon) = globe(50, 4);
        let found = kmeans(&lat, &lon, &settings(50)).unwrap();
        assert!(found.inertia < 1e-20);
        let message = kmeans(&lat, &lon, &settings(51)).unwrap_err().to_string();
        assert!(message.contains("from 1 to 50"), "{message}");
        let message = kmeans(&lat, &lon, &settings(0)).unwrap_err().to_string();
        assert!(message.contains("from 1 to 50"), "{message}");
        assert!(kmeans(&[f64::NAN], &[0.0], &settings(1)).is_err());
    }
}
