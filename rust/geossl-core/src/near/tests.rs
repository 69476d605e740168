//! Properties of the neighbours; the parity with other libraries is tested from Python.

use super::*;
use crate::geo::{Place, places};
use crate::near::tree::Tree;
use crate::rng::{Draws, Stage};

type Points = (Vec<f64>, Vec<f64>);

/// Crowds of all sizes, points that stand twice, lone ones, poles and the antimeridian.
fn towns(n: usize, seed: u64) -> Points {
    let mut draws = Draws::new(seed, 0, 0, 0, Stage::Cluster);
    let mut points: Vec<(f64, f64)> = vec![(90.0, 3.0), (-90.0, 5.0), (12.0, 180.0), (12.0, -180.0)];
    while points.len() < n {
        let near = points[draws.below(points.len())];
        let spread = 0.1f64.powi(draws.below(9) as i32);
        points.push(match draws.below(4) {
            0 => (draws.uniform(-1.0, 1.0).asin().to_degrees(), draws.uniform(-180.0, 180.0)),
            1 => near,
            _ => {
                ((near.0 + draws.uniform(-spread, spread)).clamp(-90.0, 90.0), near.1 + draws.uniform(-spread, spread))
            }
        });
    }
    points.into_iter().unzip()
}

fn all_km(points: &Points) -> Vec<Vec<f64>> {
    let all = places(&points.0, &points.1, "point").unwrap();
    all.iter().map(|a| all.iter().map(|b| a.km(*b)).collect()).collect()
}

fn columns(points: &Points) -> (&[f64], &[f64]) {
    (&points.0, &points.1)
}

#[test]
fn neighbours_equal_all_pairs() {
    for seed in 0..10 {
        let points = towns(150, seed);
        let km = all_km(&points);
        for (threads, k) in [(1, 1), (2, 7), (3, 150)] {
            let found = nearest(columns(&points), columns(&points), k, threads).unwrap();
            for (query, km) in km.iter().enumerate() {
                let mut expected: Vec<u32> = (0..150).collect();
                expected.sort_by(|&a, &b| km[a as usize].total_cmp(&km[b as usize]).then(a.cmp(&b)));
                assert_eq!(found.index[query * k..(query + 1) * k], expected[..k], "seed {seed}, query {query}");
            }
        }
        // A radius that is some pair's own distance is the hardest.
        for radius_km in [0.0, km[20][30], km[40][50], km[60][70], f64::INFINITY] {
            let found = within(columns(&points), columns(&points), radius_km, 2).unwrap();
            for (query, km) in km.iter().enumerate() {
                let (start, end) = (found.offsets[query] as usize, found.offsets[query + 1] as usize);
                assert_eq!(end - start, km.iter().filter(|&&km| km <= radius_km).count());
                assert!(found.index[start..end].iter().zip(&found.km[start..end]).all(|(&i, &d)| km[i as usize] == d));
            }
        }
    }
}

#[test]
fn links_and_clusters_equal_all_pairs() {
    for seed in 0..10 {
        let points = towns(150, 100 + seed);
        let km = all_km(&points);
        for radius_km in [0.0, 1e-3, km[20][30].min(500.0), 80.0, 2000.0] {
            let close = |i: usize, j: usize| km[i][j] <= radius_km;
            let linked = by_spread(150, |_| true, close);
            for min_points in [1, 3, 6] {
                let is_core = |i: usize| (0..150).filter(|&j| close(i, j)).count() >= min_points;
                let of_cores = by_spread(150, is_core, close);
                let expected: Vec<i64> = (0..150)
                    .map(|i| {
                        if is_core(i) {
                            of_cores[i]
                        } else {
                            (0..150).filter(|&j| close(i, j) && is_core(j)).map(|j| of_cores[j]).min().unwrap_or(NOISE)
                        }
                    })
                    .collect();
                for threads in [1, 3] {
                    let got = dbscan(&points.0, &points.1, radius_km, min_points, None, threads).unwrap();
                    assert_eq!(got, expected, "seed {seed}, {radius_km} km, {min_points}");
                }
            }
            for threads in [1, 3] {
                let got = link_places(&points.0, &points.1, radius_km, threads).unwrap();
                assert_eq!(got.into_iter().map(i64::from).collect::<Vec<_>>(), linked, "seed {seed}, {radius_km} km");
            }
        }
    }
}

/// Connected components of some points, numbered by their first; -1 for the others.
fn by_spread(n: usize, takes_part: impl Fn(usize) -> bool, close: impl Fn(usize, usize) -> bool) -> Vec<i64> {
    let mut labels = vec![-1; n];
    let mut count = 0;
    for start in 0..n {
        if labels[start] >= 0 || !takes_part(start) {
            continue;
        }
        let mut front = vec![start];
        labels[start] = count;
        while let Some(i) = front.pop() {
            for j in 0..n {
                if labels[j] < 0 && takes_part(j) && close(i, j) {
                    labels[j] = count;
                    front.push(j);
                }
            }
        }
        count += 1;
    }
    labels
}

#[test]
fn a_tree_depends_on_the_set_of_points_alone() {
    let points = towns(40_000, 7);
    let mut all: Vec<Place> = places(&points.0, &points.1, "point").unwrap();
    let tree = Tree::new(&all, 1);
    assert!(tree.len() < all.len());
    assert_eq!((0..tree.len()).map(|i| tree.rows(i).len()).sum::<usize>(), all.len());
    let mut draws = Draws::new(8, 0, 0, 0, Stage::Cluster);
    for i in (1..all.len()).rev() {
        all.swap(i, draws.below(i + 1));
    }
    let other = Tree::new(&all, 3);
    assert_eq!(tree.places, other.places);
    for (a, b) in tree.nodes.iter().zip(&other.nodes) {
        assert_eq!(a.points(), b.points());
    }
    for (i, place) in other.places.iter().enumerate() {
        assert!(other.rows(i).iter().all(|&row| all[row as usize] == *place));
        assert!(other.rows(i).is_sorted());
    }
}
