//! Properties of k-means as a whole.

use super::filter::Centres;
use super::*;
use crate::geo::{dot, lat_lon, unit_vector};
use proptest::prelude::*;

/// Points even on the globe, degrees.
pub(super) fn globe(n: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let draws = |i: usize| Draws::new(seed, 0, i as u64, 0, Stage::Cluster);
    (0..n)
        .map(|i| {
            let mut draws = draws(i);
            (draws.uniform(-1.0, 1.0).asin().to_degrees(), draws.uniform(-180.0, 180.0))
        })
        .unzip()
}

fn settings(k: usize) -> KMeans {
    KMeans { k, start: None, max_size: None, seed: 3, n_init: 2, max_iter: 100, threads: 1 }
}

fn vectors(lat: &[f64], lon: &[f64]) -> Vec<[f64; 3]> {
    lat.iter().zip(lon).map(|(&lat, &lon)| unit_vector(lat, lon)).collect()
}

fn message(found: Result<Clustering>) -> String {
    found.unwrap_err().to_string()
}

#[test]
fn is_the_same_for_any_thread_count() {
    let (lat, lon) = globe(60_000, 1);
    for max_size in [None, Some(3600)] {
        let one = kmeans(&lat, &lon, None, &KMeans { max_size, ..settings(17) }).unwrap();
        for threads in [2, 5] {
            let other = kmeans(&lat, &lon, None, &KMeans { max_size, threads, ..settings(17) }).unwrap();
            assert_eq!(one.labels, other.labels);
            assert_eq!(one.centroids, other.centroids);
            assert_eq!(one.inertia.to_bits(), other.inertia.to_bits());
        }
    }
}

#[test]
fn equals_a_plain_lloyd() {
    let (lat, lon) = globe(4_000, 8);
    let weights: Vec<f64> = (0..4_000).map(|i| f64::from(i % 5)).collect();
    let all = vectors(&lat, &lon);
    let mut centres = Centres { at: all[..40].to_vec(), prices: vec![0.0; 40] };
    let given = KMeans { start: Some(centres.at.clone()), max_iter: 15, ..settings(40) };
    let found = kmeans(&lat, &lon, Some(&weights), &given).unwrap();
    for _ in 0..found.iterations {
        let mut sums = vec![[0.0; 3]; 40];
        for (&p, w) in all.iter().zip(&weights) {
            let sum: &mut [f64; 3] = &mut sums[centres.cheapest(p) as usize];
            *sum = [0, 1, 2].map(|a| sum[a] + w * p[a]);
        }
        for (at, sum) in centres.at.iter_mut().zip(&sums) {
            *at = sum.map(|s| s / dot(*sum, *sum).sqrt());
        }
    }
    let labels: Vec<u32> = all.iter().map(|&p| centres.cheapest(p)).collect();
    assert_eq!(found.labels, labels);
    let inertia: f64 =
        all.iter().zip(&labels).zip(&weights).map(|((&p, &l), w)| w * chord2(p, centres.at[l as usize])).sum();
    assert!((found.inertia / inertia - 1.0).abs() < 1e-12);
    assert_eq!(assign(&lat, &lon, &found.centroids, 2).unwrap(), found.labels);
}

#[test]
fn clusters_cross_the_antimeridian_and_the_pole() {
    let lat = [10.0, 10.0, 10.5, 89.0, 89.0, 89.0];
    let lon = [179.5, -179.5, 180.0, 0.0, 120.0, -120.0];
    let found = kmeans(&lat, &lon, None, &settings(2)).unwrap();
    assert!(found.labels[..3].iter().all(|&l| l == found.labels[0]));
    assert!(found.labels[3..].iter().all(|&l| l == found.labels[3]));
    assert_ne!(found.labels[0], found.labels[3]);
}

#[test]
fn as_many_clusters_as_points_have_no_cost() {
    let (mut lat, mut lon) = globe(50, 4);
    // A place a nanometre from another is a place of its own; a second one at the same place is none.
    lat.extend([0.0, 1e-14, lat[7]]);
    lon.extend([5.0, 5.0, lon[7]]);
    let found = kmeans(&lat, &lon, None, &settings(52)).unwrap();
    assert!(found.inertia < 1e-20);
    assert_eq!(found.labels[7], found.labels[52]);
    let words = "the 53 points have 52 distinct coordinates; k must be from 1 to 52";
    assert!(message(kmeans(&lat, &lon, None, &settings(53))).contains(words));
    assert!(message(kmeans(&lat, &lon, None, &settings(0))).contains(words));
}

#[test]
fn antipodes_have_no_mean_and_keep_their_centroid() {
    let start = Some(vec![unit_vector(0.0, 0.0)]);
    let found = kmeans(&[90.0, -90.0], &[0.0, 0.0], None, &KMeans { start: start.clone(), ..settings(1) }).unwrap();
    assert_eq!((found.labels, Some(found.centroids)), (vec![0, 0], start));
}

#[test]
fn clusters_that_start_at_one_place_are_spread() {
    let (lat, lon) = globe(500, 5);
    let start = Some(vec![unit_vector(40.0, 40.0); 60]);
    let found = kmeans(&lat, &lon, None, &KMeans { start, max_iter: 1, ..settings(60) }).unwrap();
    assert!((0..60).all(|c| found.labels.contains(&c)));
    assert_eq!(found.labels, assign(&lat, &lon, &found.centroids, 1).unwrap());
}

#[test]
fn points_of_weight_zero_have_labels_and_no_pull() {
    let (lat, lon, weights) = ([0.0, 1.0, 50.0, 51.0], [0.0; 4], [1.0, 0.0, 2.0, 0.0]);
    let found = kmeans(&lat, &lon, Some(&weights), &settings(2)).unwrap();
    assert!(found.inertia < 1e-20);
    assert_eq!((found.labels[0], found.labels[2]), (found.labels[1], found.labels[3]));
    let text = message(kmeans(&lat, &lon, Some(&weights), &settings(3)));
    assert!(text.contains("2 distinct coordinates among those of weight above 0; k must be from 1 to 2"), "{text}");
}

#[test]
fn balanced_clusters_hold_the_cap() {
    // Half of the points lie in a patch that plain k-means gives few clusters to; many share a place.
    let (mut lat, mut lon) = globe(1500, 6);
    for i in 0..750 {
        (lat[i], lon[i]) = (lat[i] / 20.0, 180.0 + lon[i] / 30.0);
    }
    lat[800..900].fill(12.0);
    lon[800..900].fill(34.0);
    let mut last = f64::INFINITY;
    let plain = kmeans(&lat, &lon, None, &settings(30)).unwrap();
    for max_size in [50, 55, 70, 1500] {
        let found = kmeans(&lat, &lon, None, &KMeans { max_size: Some(max_size), ..settings(30) }).unwrap();
        let sizes: Vec<usize> = (0..30).map(|c| found.labels.iter().filter(|&&l| l == c).count()).collect();
        assert!(sizes.iter().all(|size| (1..=max_size).contains(size)), "{sizes:?}");
        assert!(found.inertia <= last * 1.05);
        last = found.inertia;
    }
    assert_eq!(last, plain.inertia);
    let text = message(kmeans(&lat, &lon, None, &KMeans { max_size: Some(49), ..settings(30) }));
    assert!(text.contains("it must be at least 50"), "{text}");
    let text = message(kmeans(&lat, &lon, Some(&[1.0; 1500]), &KMeans { max_size: Some(50), ..settings(30) }));
    assert!(text.contains("does not go together with weights"), "{text}");
}

#[test]
fn mini_batches_come_near_the_whole() {
    let (lat, lon) = globe(40_000, 7);
    let mut learner = MiniBatch::new(12, 0, 1);
    assert!(learner.partial_fit(&lat[..5], &lon[..5], None).is_err());
    for _ in 0..5 {
        for part in 0..40 {
            let range = part * 1000..(part + 1) * 1000;
            learner.partial_fit(&lat[range.clone()], &lon[range], None).unwrap();
        }
    }
    let cost: f64 = vectors(&lat, &lon)
        .iter()
        .map(|&p| learner.centroids().iter().map(|&c| chord2(p, c)).fold(f64::INFINITY, f64::min))
        .sum();
    let whole = kmeans(&lat, &lon, None, &settings(12)).unwrap();
    assert!(cost < 1.1 * whole.inertia, "{cost} {}", whole.inertia);
}

#[test]
fn wrong_settings_are_named() {
    for (wrong, words) in [
        (KMeans { max_iter: 0, ..settings(1) }, "at least 1"),
        (KMeans { n_init: 0, ..settings(1) }, "at least 1"),
        (KMeans { start: Some(vec![[0.0; 3]; 2]), ..settings(1) }, "start has 2 centroids, k is 1"),
    ] {
        let text = message(kmeans(&[0.0], &[0.0], None, &wrong));
        assert!(text.contains(words), "{text}");
    }
    assert!(message(kmeans(&[f64::NAN], &[0.0], None, &settings(1))).contains("point 0: (NaN, 0) is not on the globe"));
    assert!(assign(&[91.0], &[0.0], &[[1.0, 0.0, 0.0]], 1).is_err());
    assert!(assign(&[1.0], &[0.0], &[], 1).is_err());
    assert!(assign(&[], &[], &[[1.0, 0.0, 0.0]], 1).unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_cost_never_rises_and_no_cluster_is_empty(seed in 0u64..1000, k in 1usize..40) {
        let (lat, lon) = globe(600, seed);
        let mut last = f64::INFINITY;
        for max_iter in 1..12 {
            let found = kmeans(&lat, &lon, None, &KMeans { n_init: 1, max_iter, ..settings(k) }).unwrap();
            prop_assert!(found.inertia <= last * (1.0 + 1e-14));
            last = found.inertia;
            for c in 0..k as u32 {
                prop_assert!(found.labels.contains(&c));
            }
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(seed in 0u64..1000, k in 1usize..40) {
        let (mut lat, mut lon) = globe(600, seed);
        lat.extend_from_within(..100);
        lon.extend_from_within(..100);
        let weights: Vec<f64> = (0..700).map(|i| f64::from(i % 7) / 3.0).collect();
        let mut order: Vec<usize> = (0..700).collect();
        let mut draws = Draws::new(seed, 1, 0, 0, Stage::Order);
        for i in (1..700).rev() {
            order.swap(i, draws.below(i + 1));
        }
        let shuffled = |of: &[f64]| order.iter().map(|&i| of[i]).collect::<Vec<_>>();
        let first = kmeans(&lat, &lon, Some(&weights), &settings(k)).unwrap();
        let second = kmeans(&shuffled(&lat), &shuffled(&lon), Some(&shuffled(&weights)), &settings(k)).unwrap();
        prop_assert_eq!(&first.centroids, &second.centroids);
        prop_assert_eq!(first.inertia.to_bits(), second.inertia.to_bits());
        let labels: Vec<u32> = order.iter().map(|&i| first.labels[i]).collect();
        prop_assert_eq!(labels, second.labels);
    }

    #[test]
    fn turning_the_globe_turns_the_clusters(seed in 0u64..1000, k in 1usize..30, axis in 0usize..3, angle in -3.0f64..3.0) {
        let (lat, lon) = globe(500, seed);
        let turn = |p: [f64; 3]| {
            let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
            let mut out = p;
            (out[a], out[b]) = (p[a] * angle.cos() - p[b] * angle.sin(), p[a] * angle.sin() + p[b] * angle.cos());
            out
        };
        let start = vectors(&lat, &lon)[..k].to_vec();
        let turned: Vec<[f64; 3]> = start.iter().map(|&p| turn(p)).collect();
        let (far_lat, far_lon): (Vec<f64>, Vec<f64>) = vectors(&lat, &lon).into_iter().map(|p| lat_lon(turn(p))).unzip();
        let first = kmeans(&lat, &lon, None, &KMeans { start: Some(start), ..settings(k) }).unwrap();
        let second = kmeans(&far_lat, &far_lon, None, &KMeans { start: Some(turned), ..settings(k) }).unwrap();
        prop_assert_eq!(&first.labels, &second.labels);
        for (&a, &b) in first.centroids.iter().zip(&second.centroids) {
            prop_assert!(chord2(turn(a), b) < 1e-24);
        }
    }
}
