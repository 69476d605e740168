//! Points in an order of their own: distinct places with weights, sorted along a curve over the globe.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicU32, Ordering as AtomicOrdering};

use crate::geo::unit_vector;
use crate::{Error, Result, parallel};

/// Inputs that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// Weights are scaled by a power of two so that the largest lies in (2^61, 2^62]: a weighted coordinate is then an
/// `i64`, and sums of them are exact and the same in any order.
const WEIGHT_BITS: i32 = 62;

/// Distinct points on the unit sphere, sorted so that what is near in the order is near on the globe. The order, and
/// so everything made from it, does not depend on the order of the input.
pub(super) struct Points {
    pub x: Vec<f64>,
    pub y: Vec<f64>,
    pub z: Vec<f64>,
    /// Sum of the weights of the inputs at this point, scaled.
    pub weight: Vec<f64>,
    /// What the weights were multiplied by: a power of two.
    pub weight_scale: f64,
    /// Inputs at this point.
    pub copies: Vec<u32>,
    /// Position along the curve; rises.
    pub keys: Vec<u64>,
    /// Distinct point of each input; `LEFT_OUT` for an input of weight 0.
    pub of: Vec<u32>,
}

/// Stands for the point of an input that has weight 0.
pub(super) const LEFT_OUT: u32 = u32::MAX;

#[derive(Clone, Copy, Default)]
struct Entry {
    key: u64,
    input: u32,
}

impl Points {
    /// Takes degrees and, where given, weights of 0 or more.
    pub fn new(lat: &[f64], lon: &[f64], weights: Option<&[f64]>, threads: usize) -> Result<Self> {
        check(lat, lon, weights)?;
        let n = lat.len();
        let mut vectors = vec![[0.0; 3]; n];
        let mut entries = vec![Entry::default(); n];
        let chunks = vectors.chunks_mut(CHUNK).zip(entries.chunks_mut(CHUNK)).enumerate();
        parallel::each(chunks, threads_for(n, threads), |(c, (vectors, entries))| {
            for (i, (vector, entry)) in vectors.iter_mut().zip(entries).enumerate() {
                let input = c * CHUNK + i;
                *vector = unit_vector(lat[input], lon[input]);
                *entry = Entry { key: curve(*vector), input: input as u32 };
            }
        });
        if let Some(weights) = weights {
            entries.retain(|e| weights[e.input as usize] > 0.0);
        }
        let mut entries = by_bucket(&entries);
        sort_buckets(&mut entries, threads_for(n, threads));
        order_equal_keys(&mut entries, &vectors, weights);
        Ok(Self::merge(&entries, &vectors, weights, threads_for(n, threads)))
    }

    /// Number of distinct points.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// A point's unit vector.
    pub fn at(&self, i: usize) -> [f64; 3] {
        [self.x[i], self.y[i], self.z[i]]
    }

    /// A point's weighted coordinates as integers.
    pub fn weighted(&self, i: usize) -> [i64; 3] {
        let w = self.weight[i];
        [(self.x[i] * w) as i64, (self.y[i] * w) as i64, (self.z[i] * w) as i64]
    }

    /// Makes one point of the sorted entries that share a vector.
    fn merge(entries: &[Entry], vectors: &[[f64; 3]], weights: Option<&[f64]>, threads: usize) -> Self {
        let m = entries.len();
        let mut points = Self {
            x: vec![0.0; m],
            y: vec![0.0; m],
            z: vec![0.0; m],
            weight: vec![0.0; m],
            weight_scale: 1.0,
            copies: vec![0; m],
            keys: vec![0; m],
            of: Vec::new(),
        };
        let at = |i: usize| vectors[entries[i].input as usize];
        let mut first = vec![false; m];
        let mut made = vec![0; m.div_ceil(CHUNK)];
        let columns = points.x.chunks_mut(CHUNK).zip(points.y.chunks_mut(CHUNK)).zip(points.z.chunks_mut(CHUNK));
        let columns = columns.zip(points.weight.chunks_mut(CHUNK)).zip(points.copies.chunks_mut(CHUNK));
        let columns = columns.zip(points.keys.chunks_mut(CHUNK)).zip(first.chunks_mut(CHUNK)).zip(&mut made);
        // A part makes the points whose first entry is in it, with their entries in later parts.
        parallel::each(
            columns.enumerate(),
            threads,
            |(c, (((((((x, y), z), weight), copies), keys), first), made))| {
                for (i, first) in (c * CHUNK..).zip(first) {
                    let vector = at(i);
                    if i > 0 && vector == at(i - 1) {
                        continue;
                    }
                    *first = true;
                    [x[*made], y[*made], z[*made]] = vector;
                    keys[*made] = entries[i].key;
                    for e in entries[i..].iter().take_while(|e| vectors[e.input as usize] == vector) {
                        weight[*made] += weights.map_or(1.0, |w| w[e.input as usize]);
                        copies[*made] += 1;
                    }
                    *made += 1;
                }
            },
        );
        points.of = numbers(entries, &first, &made, vectors.len(), threads);
        points.close_up(&made);
        let largest = points.weight.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        points.weight_scale = 2f64.powi(WEIGHT_BITS - largest.log2().ceil() as i32);
        for w in &mut points.weight {
            *w *= points.weight_scale;
        }
        points
    }

    /// Moves the points that each part made to the front.
    fn close_up(&mut self, made: &[usize]) {
        let mut end = 0;
        for (c, &made) in made.iter().enumerate() {
            let part = c * CHUNK..c * CHUNK + made;
            if part.start != end {
                for column in [&mut self.x, &mut self.y, &mut self.z, &mut self.weight] {
                    column.copy_within(part.clone(), end);
                }
                self.copies.copy_within(part.clone(), end);
                self.keys.copy_within(part, end);
            }
            end += made;
        }
        for column in [&mut self.x, &mut self.y, &mut self.z, &mut self.weight] {
            column.truncate(end);
        }
        self.copies.truncate(end);
        self.keys.truncate(end);
    }
}

/// Point of each of `n` inputs, where `first` tells which entries begin a point and `made` how many do in each part.
fn numbers(entries: &[Entry], first: &[bool], made: &[usize], n: usize, threads: usize) -> Vec<u32> {
    let of: Vec<AtomicU32> = std::iter::repeat_with(|| AtomicU32::new(LEFT_OUT)).take(n).collect();
    let begun = made.iter().scan(0, |begun, made| Some(std::mem::replace(begun, *begun + made)));
    let parts = entries.chunks(CHUNK).zip(first.chunks(CHUNK)).zip(begun);
    parallel::each(parts, threads, |((entries, first), mut begun)| {
        for (e, &first) in entries.iter().zip(first) {
            begun += usize::from(first);
            // The first entry of all begins a point.
            of[e.input as usize].store((begun - 1) as u32, AtomicOrdering::Relaxed);
        }
    });
    of.into_iter().map(AtomicU32::into_inner).collect()
}

/// Threads worth starting for `n` points.
pub(super) fn threads_for(n: usize, threads: usize) -> usize {
    if n < 2 * CHUNK { 1 } else { threads }
}

fn check(lat: &[f64], lon: &[f64], weights: Option<&[f64]>) -> Result<()> {
    if lat.len() != lon.len() {
        return Err(Error::Argument(format!("{} latitudes and {} longitudes", lat.len(), lon.len())));
    }
    if lat.len() >= LEFT_OUT as usize {
        return Err(Error::Argument(format!(
            "{} points: at most {} can be clustered at once",
            lat.len(),
            LEFT_OUT - 1
        )));
    }
    if let Some(i) = (0..lat.len()).find(|&i| !(lat[i].abs() <= 90.0 && lon[i].is_finite())) {
        return Err(Error::Argument(format!("point {i}: ({}, {}) is not on the globe", lat[i], lon[i])));
    }
    let Some(weights) = weights else { return Ok(()) };
    if weights.len() != lat.len() {
        return Err(Error::Argument(format!("{} weights for {} points", weights.len(), lat.len())));
    }
    if let Some(i) = (0..weights.len()).find(|&i| !(weights[i] >= 0.0 && weights[i].is_finite())) {
        return Err(Error::Argument(format!("weight {i} is {}: weights are finite and at least 0", weights[i])));
    }
    if !weights.iter().any(|&w| w > 0.0) {
        return Err(Error::Argument("no point has a weight above 0".into()));
    }
    Ok(())
}

/// Position along a Z-order curve on each face of a cube around the globe: 3 bits of face, 2 x 30 bits on it.
fn curve(p: [f64; 3]) -> u64 {
    let size = p.map(f64::abs);
    let axis = if size[0] >= size[1] && size[0] >= size[2] {
        0
    } else if size[1] >= size[2] {
        1
    } else {
        2
    };
    let face = 2 * axis as u64 + u64::from(p[axis] < 0.0);
    let on_face = |other: usize| (((p[other] / size[axis] + 1.0) * f64::from(1u32 << 29)) as u64).min((1 << 30) - 1);
    let (u, v) = (on_face((axis + 1) % 3), on_face((axis + 2) % 3));
    face << 60 | spread(u) << 1 | spread(v)
}

/// Puts a zero between any two of the low 32 bits.
fn spread(mut x: u64) -> u64 {
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x << 2) & 0x3333_3333_3333_3333;
    (x | x << 1) & 0x5555_5555_5555_5555
}

/// Top bits of a key, by which entries are dealt out before they are sorted.
fn bucket(key: u64) -> usize {
    (key >> 51) as usize
}

fn by_bucket(entries: &[Entry]) -> Vec<Entry> {
    let mut starts = vec![0usize; bucket(6 << 60) + 1];
    for e in entries {
        starts[bucket(e.key) + 1] += 1;
    }
    for b in 1..starts.len() {
        starts[b] += starts[b - 1];
    }
    let mut out = vec![Entry::default(); entries.len()];
    for e in entries {
        let at = &mut starts[bucket(e.key)];
        out[*at] = *e;
        *at += 1;
    }
    out
}

fn sort_buckets(entries: &mut [Entry], threads: usize) {
    let buckets = entries.chunk_by_mut(|a, b| bucket(a.key) == bucket(b.key));
    parallel::each(buckets, threads, |bucket| bucket.sort_unstable_by_key(|e| e.key));
}

/// Orders points that share a key, about a centimetre, by what they are instead of by where they stood in the input.
fn order_equal_keys(entries: &mut [Entry], vectors: &[[f64; 3]], weights: Option<&[f64]>) {
    for same in entries.chunk_by_mut(|a, b| a.key == b.key).filter(|same| same.len() > 1) {
        same.sort_unstable_by(|a, b| {
            let (a, b) = (a.input as usize, b.input as usize);
            let weight = || weights.map_or(Ordering::Equal, |w| w[a].total_cmp(&w[b]));
            (0..3)
                .map(|axis| vectors[a][axis].total_cmp(&vectors[b][axis]))
                .find(|&order| order != Ordering::Equal)
                .unwrap_or_else(weight)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_is_one_point() {
        let lat = [90.0, 90.0, 10.0, 10.0, 10.0, 0.0, -0.0, 10.0];
        let lon = [12.0, -70.0, 180.0, -180.0, 540.0, 0.0, -0.0, 179.0];
        let points = Points::new(&lat, &lon, None, 1).unwrap();
        assert_eq!(points.len(), 4);
        assert_eq!(points.of[0], points.of[1]);
        assert!(points.of[2] == points.of[3] && points.of[3] == points.of[4]);
        assert_eq!(points.of[5], points.of[6]);
        assert_eq!(points.copies[points.of[2] as usize], 3);
        assert_eq!(points.weight[points.of[2] as usize] / points.weight_scale, 3.0);
    }

    #[test]
    fn weights_fill_the_integers_and_zero_is_left_out() {
        let weights = [0.0, 3.0, 1e-3];
        let points = Points::new(&[1.0, 90.0, 3.0], &[0.0; 3], Some(&weights), 1).unwrap();
        assert_eq!((points.len(), points.of[0]), (2, LEFT_OUT));
        let pole = points.of[1] as usize;
        assert_eq!(points.weighted(pole)[2], 3 << 60);
        assert!(points.keys.is_sorted());
    }

    #[test]
    fn wrong_weights_are_named() {
        for (weights, words) in
            [(vec![1.0], "1 weights for 2"), (vec![1.0, -1.0], "weight 1 is -1"), (vec![0.0, 0.0], "no point has")]
        {
            let error = Points::new(&[0.0, 1.0], &[0.0, 1.0], Some(&weights), 1).err().unwrap();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
