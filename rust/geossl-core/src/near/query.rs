//! The nearest points, and all points within a radius.

use crate::geo::places;
use crate::parallel;
use crate::{Error, Result};

use super::tree::{Tree, squared_chord};
use super::{DOUBT, Radius};

/// Queries that a thread takes at a time.
const CHUNK: usize = 1024;

/// The k nearest points of each query.
#[derive(Debug, Clone)]
pub struct Nearest {
    /// Rows of the points, k a query, by distance and then row.
    pub index: Vec<u32>,
    /// Their great-circle distances.
    pub km: Vec<f64>,
}

/// The points within a radius of each query.
#[derive(Debug, Clone)]
pub struct Within {
    /// The neighbours of query i are at `offsets[i]..offsets[i + 1]`.
    pub offsets: Vec<u64>,
    /// Rows of the points, by distance and then row.
    pub index: Vec<u32>,
    /// Their great-circle distances.
    pub km: Vec<f64>,
}

/// The `k` points nearest to each query by great-circle distance; coordinates are (lat, lon) columns in degrees.
/// A point at a query counts, also where the queries are the points. Of equal distances the lower row comes first.
///
/// Fails if `k` is 0 or larger than the number of points, or a coordinate is not on the globe.
pub fn nearest(points: (&[f64], &[f64]), queries: (&[f64], &[f64]), k: usize, threads: usize) -> Result<Nearest> {
    let rows = places(points.0, points.1, "point")?;
    if k == 0 || k > rows.len() {
        return Err(Error::Argument(format!("k = {k}: it must be from 1 to the number of points, {}", rows.len())));
    }
    let tree = Tree::new(&rows, threads);
    // Queries that follow each other on the globe find the tree's nodes in the cache.
    let own = if points == queries { None } else { Some(Tree::new(&places(queries.0, queries.1, "query")?, threads)) };
    let asked = own.as_ref().unwrap_or(&tree);
    let found = parallel::map(asked.len().div_ceil(CHUNK), threads, |c| {
        let mut search = Search::new(&tree, k);
        let mut out = Vec::with_capacity(CHUNK * k);
        for query in c * CHUNK..((c + 1) * CHUNK).min(asked.len()) {
            search.find(asked, query, &mut out);
        }
        out
    });
    let total = queries.0.len() * k;
    let (mut index, mut km) = (vec![0; total], vec![0.0; total]);
    for (query, found) in found.iter().flat_map(|chunk| chunk.chunks_exact(k)).enumerate() {
        for &row in asked.rows(query) {
            let at = row as usize * k;
            for ((index, km), found) in index[at..at + k].iter_mut().zip(&mut km[at..at + k]).zip(found) {
                (*km, *index) = *found;
            }
        }
    }
    Ok(Nearest { index, km })
}

/// The search for the k nearest, with the room it works in.
struct Search<'a> {
    tree: &'a Tree,
    k: usize,
    /// The k + 1 nearest distinct points so far, by squared chord.
    best: Vec<(f64, u32)>,
    /// The query before, and the chord from it to the farthest of its `best`.
    last: Option<([f64; 3], f64)>,
    stack: Vec<(u32, f64)>,
    /// The candidates' rows and distances.
    rows: Vec<(f64, u32)>,
}

impl<'a> Search<'a> {
    fn new(tree: &'a Tree, k: usize) -> Self {
        Self { tree, k, best: Vec::with_capacity(k + 2), last: None, stack: Vec::new(), rows: Vec::new() }
    }

    /// A squared chord within which the k + 1 nearest of a point are: those of the query before, which stands nearby,
    /// are no farther than from it to there and on.
    fn bound(&self, point: [f64; 3]) -> f64 {
        self.last.map_or(f64::INFINITY, |(before, reach)| (squared_chord(point, before).sqrt() + reach + DOUBT).powi(2))
    }

    /// Appends the k nearest of a query: (km, row) by both.
    fn find(&mut self, asked: &Tree, query: usize, out: &mut Vec<(f64, u32)>) {
        let (tree, k) = (self.tree, self.k);
        let point = asked.vectors[query];
        let mut reach = self.bound(point);
        let best = &mut self.best;
        best.clear();
        tree.search(point, reach, &mut self.stack, |leaf| {
            for i in leaf.points() {
                let squared = squared_chord(point, tree.vectors[i]);
                if squared < reach {
                    if best.len() > k {
                        best.pop();
                    }
                    let at = best.iter().rposition(|b| b.0 <= squared).map_or(0, |at| at + 1);
                    best.insert(at, (squared, i as u32));
                    if best.len() > k {
                        reach = best[k].0;
                    }
                }
            }
            reach
        });
        self.last = (best.len() > k).then(|| (point, best[k].0.sqrt()));
        if best.len() > k {
            let (last, next) = (best[k - 1].0.sqrt(), best[k].0.sqrt());
            best.truncate(k);
            if next - last <= 2.0 * DOUBT {
                // Too close to tell by the chord which is nearer: all that may be are compared.
                let reach = (last + 2.0 * DOUBT).powi(2);
                best.clear();
                tree.search(point, reach, &mut self.stack, |leaf| {
                    let squared = |i: usize| squared_chord(point, tree.vectors[i]);
                    best.extend(leaf.points().map(|i| (squared(i), i as u32)).filter(|b| b.0 <= reach));
                    reach
                });
            }
        }
        self.rows.clear();
        for &(_, i) in best.iter() {
            let km = asked.places[query].km(tree.places[i as usize]);
            self.rows.extend(tree.rows(i as usize).iter().take(k).map(|&row| (km, row)));
        }
        sort(&mut self.rows);
        out.extend_from_slice(&self.rows[..k]);
    }
}

/// Great-circle distances of pairs of points, kilometres; coordinates are (lat, lon) columns in degrees.
///
/// Fails if the columns differ in length, or a coordinate is not on the globe.
pub fn distance_km(a: (&[f64], &[f64]), b: (&[f64], &[f64])) -> Result<Vec<f64>> {
    let (a, b) = (places(a.0, a.1, "point a")?, places(b.0, b.1, "point b")?);
    if a.len() != b.len() {
        return Err(Error::Argument(format!("distances of pairs of {} and {} points", a.len(), b.len())));
    }
    Ok(a.iter().zip(&b).map(|(a, b)| a.km(*b)).collect())
}

fn sort(found: &mut [(f64, u32)]) {
    found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
}

/// All points at most `radius_km` from each query; coordinates are (lat, lon) columns in degrees.
///
/// Fails if the radius is negative or no number, or a coordinate is not on the globe.
pub fn within(points: (&[f64], &[f64]), queries: (&[f64], &[f64]), radius_km: f64, threads: usize) -> Result<Within> {
    let radius = Radius::new(radius_km)?;
    let tree = Tree::new(&places(points.0, points.1, "point")?, threads);
    let asked = places(queries.0, queries.1, "query")?;
    let chunks = parallel::map(asked.len().div_ceil(CHUNK), threads, |c| {
        let (mut stack, mut counts, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for query in &asked[c * CHUNK..((c + 1) * CHUNK).min(asked.len())] {
            let (start, point) = (found.len(), query.vector());
            tree.search(point, radius.possibly, &mut stack, |leaf| {
                for i in leaf.points() {
                    if squared_chord(point, tree.vectors[i]) <= radius.possibly {
                        let km = query.km(tree.places[i]);
                        if km <= radius.km {
                            found.extend(tree.rows(i).iter().map(|&row| (km, row)));
                        }
                    }
                }
                radius.possibly
            });
            sort(&mut found[start..]);
            counts.push(found.len() - start);
        }
        (counts, found)
    });
    let total = chunks.iter().map(|(_, found)| found.len()).sum();
    let mut out = Within {
        offsets: Vec::with_capacity(asked.len() + 1),
        index: Vec::with_capacity(total),
        km: Vec::with_capacity(total),
    };
    out.offsets.push(0);
    let mut end = 0;
    for (counts, found) in chunks {
        for count in counts {
            end += count as u64;
            out.offsets.push(end);
        }
        out.index.extend(found.iter().map(|f| f.1));
        out.km.extend(found.iter().map(|f| f.0));
    }
    Ok(out)
}
