//! What values the bands of images have: exact histograms, mean and deviation, and how much has no data.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::decode::foreign::{Foreign, Size};
use crate::decode::{self, Decoders, Samples, Want};
use crate::parallel::{ordered, resolve_threads};
use crate::sample::ForeignImages;
use crate::{Error, Result};

/// Bins of a histogram of floats: the upper half of their bits.
const FLOAT_BINS: usize = 1 << 16;
/// Pixels that are counted at once, so that no counter overflows.
const AT_ONCE: usize = 1 << 30;

/// An image that is looked at.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its file.
    pub path: PathBuf,
    /// Box [x, y, width, height], pixels, if not the whole image.
    pub bounds: Option<[i32; 4]>,
    /// Number of its kind.
    pub kind: usize,
}

/// What images of a kind have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Bands.
    pub bands: u16,
    /// Bits of a sample as decoded.
    pub bits: u8,
}

/// The values of a band of all images of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Samples with data.
    pub count: u64,
    /// Samples without; of floats, those that are not finite too.
    pub nodata: u64,
    /// Mean; NaN where no sample has data, as the three below.
    pub mean: f64,
    /// Standard deviation, of all samples as the population.
    pub std: f64,
    /// Least value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// How many samples there are in each bin: of integers, of each value; of floats, see `float_bin`.
    pub histogram: Vec<u64>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Of each kind, the images read, and the bands.
    pub kinds: Vec<(u64, Vec<Band>)>,
    /// (number, reason) of the images that could not be read.
    pub failures: Vec<(u64, String)>,
}

/// The bin of a float: bins follow each other as the values do, and each spans less than a hundredth of its values.
pub fn float_bin(value: f32) -> usize {
    // Zero has one bin, whatever its sign.
    let bits = (value + 0.0).to_bits();
    ((if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }) >> 16) as usize
}

/// Looks at the samples of images; `foreign` are those that another library reads. The result is the same for any
/// number of threads (0: all cores). `progress` is called with the number of images done, some times a second; where
/// it fails, the work ends with that error.
pub fn measure(
    items: &[Item],
    kinds: &[Kind],
    foreign: Option<&ForeignImages>,
    threads: usize,
    max_image_bytes: u64,
    mut progress: impl FnMut(u64) -> Result<()>,
) -> Result<Found> {
    let totals: Vec<Totals> = kinds.iter().copied().map(Totals::new).collect();
    let mut moments: Vec<Vec<Moments>> =
        kinds.iter().map(|kind| vec![Moments::default(); usize::from(kind.bands)]).collect();
    let (mut images, mut failures, mut done) = (vec![0; kinds.len()], Vec::new(), 0);
    progress(0)?;
    ordered(
        resolve_threads(threads),
        0..items.len() as u64,
        |number, scratch: &mut Scratch| {
            let item = &items[number as usize];
            let foreign = foreign.and_then(|foreign| foreign.get(number as usize));
            scratch.count(item, foreign, max_image_bytes, &totals[item.kind])
        },
        |result| {
            if let Some((number, outcome)) = result {
                done += 1;
                let kind = items[number as usize].kind;
                match outcome {
                    Ok(found) => {
                        images[kind] += 1;
                        // In the order of the images: sums of floats depend on it.
                        moments[kind].iter_mut().zip(found).for_each(|(all, one)| all.add(&one));
                    }
                    Err(Error::Data { reason, .. } | Error::Io { reason, .. }) => failures.push((number, reason)),
                    Err(error) => return Err(error),
                }
            }
            progress(done)
        },
    )?;
    let bands = totals.into_iter().zip(moments).map(|(totals, moments)| totals.bands(&moments));
    Ok(Found { kinds: images.into_iter().zip(bands).collect(), failures })
}

/// Counters that all threads add to: integers, so that the order does not matter.
struct Totals {
    kind: Kind,
    bins: usize,
    /// Bin by bin of each band.
    counts: Vec<AtomicU64>,
    nodata: Vec<AtomicU64>,
}

impl Totals {
    fn new(kind: Kind) -> Self {
        let bins = if kind.bits == 8 { 1 << 8 } else { FLOAT_BINS };
        let zeros = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        let bands = usize::from(kind.bands);
        Self { kind, bins, counts: zeros(bands * bins), nodata: zeros(bands) }
    }

    fn bands(self, moments: &[Moments]) -> Vec<Band> {
        let band = |((histogram, nodata), moments): ((&[AtomicU64], &AtomicU64), &Moments)| {
            let histogram: Vec<u64> = histogram.iter().map(|count| count.load(Relaxed)).collect();
            let moments = if self.kind.bits == 32 { *moments } else { Moments::of_histogram(&histogram) };
            let Moments { count, mean, squares, min, max } = moments;
            let some = |value: f64| if count == 0 { f64::NAN } else { value };
            Band {
                count,
                nodata: nodata.load(Relaxed),
                mean: some(mean),
                std: some((squares / count as f64).sqrt()),
                min: some(min),
                max: some(max),
                histogram,
            }
        };
        self.counts.chunks(self.bins).zip(&self.nodata).zip(moments).map(band).collect()
    }
}

/// Count, mean and sum of squared deviations from it, which can be joined; least and largest value.
#[derive(Debug, Clone, Copy)]
struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0, mean: 0.0, squares: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Moments {
    fn of_values(values: impl Iterator<Item = f32> + Clone) -> Self {
        let mut own = Self::default();
        let mut sum = 0.0;
        for value in values.clone().map(f64::from) {
            own.count += 1;
            sum += value;
            (own.min, own.max) = (own.min.min(value), own.max.max(value));
        }
        own.mean = sum / own.count.max(1) as f64;
        own.squares = values.map(|value| (f64::from(value) - own.mean).powi(2)).sum();
        own
    }

    /// Exact but for the last rounding.
    fn of_histogram(histogram: &[u64]) -> Self {
        let (mut count, mut sum, mut squares) = (0u128, 0u128, 0u128);
        for (value, &n) in (0u128..).zip(histogram) {
            let n = u128::from(n);
            (count, sum, squares) = (count + n, sum + n * value, squares + n * value * value);
        }
        let least = |at: Option<usize>| at.map_or(f64::NAN, |at| at as f64);
        let there = |n: &u64| *n > 0;
        let divisor = count.max(1) as f64;
        Self {
            count: count as u64,
            mean: sum as f64 / divisor,
            squares: (count * squares - sum * sum) as f64 / divisor,
            min: least(histogram.iter().position(there)),
            max: least(histogram.iter().rposition(there)),
        }
    }

    fn add(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let (own, more) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        self.count += other.count;
        self.mean += apart * more / (own + more);
        self.squares += other.squares + apart * apart * own * more / (own + more);
        (self.min, self.max) = (self.min.min(other.min), self.max.max(other.max));
    }
}

/// What a thread keeps from image to image.
#[derive(Default)]
struct Scratch {
    decoders: Decoders,
    file: Vec<u8>,
    counts: Vec<u32>,
    nodata: Vec<u32>,
}

impl Scratch {
    /// Adds an image to the totals; of floats, the moments of each band.
    fn count(
        &mut self,
        item: &Item,
        foreign: Option<(&dyn Foreign, Size)>,
        max_bytes: u64,
        totals: &Totals,
    ) -> Result<Vec<Moments>> {
        let (path, kind) = (&item.path, totals.kind);
        // The image borrows the file's bytes, and the counters are needed beside it.
        let mut file = std::mem::take(&mut self.file);
        let image = decode::open_file(path, foreign, &mut file, &mut self.decoders, max_bytes)?;
        let found = Kind { bands: image.bands, bits: image.bits };
        if found != kind {
            let words = |kind: Kind| format!("{} bands of {} bits", kind.bands, kind.bits);
            let reason = format!("has {} where the index says {}", words(found), words(kind));
            return Err(Error::data(path, reason));
        }
        let rect = image.region(item.bounds, false)?;
        let own = image.decode(Want::all(rect), &mut self.decoders)?;
        // Samples without data become 0, and no others are 0: that tells them, and not what the others are.
        let marked = if image.has_nodata && kind.bits < 32 {
            let marked = image.decode(Want { nodata: Some(0), ..Want::all(rect) }, &mut self.decoders)?;
            Some(marked.samples).filter(|_| marked.nodata.is_some())
        } else {
            None
        };
        let bands = usize::from(kind.bands);
        let lines = own.lines(rect);
        match (&own.samples, &marked) {
            (Samples::U8(values), None) => self.add(totals, lines, values, |_| true, usize::from),
            (Samples::U16(values), None) => self.add(totals, lines, values, |_| true, usize::from),
            (Samples::U8(values), Some(Samples::U8(marked))) => {
                self.add(totals, lines, values, |i| marked[i] != 0, usize::from);
            }
            (Samples::U16(values), Some(Samples::U16(marked))) => {
                self.add(totals, lines, values, |i| marked[i] != 0, usize::from);
            }
            (Samples::F32(values), _) => {
                self.add(totals, lines.clone(), values, |i| values[i].is_finite(), float_bin);
                let band = |band: usize| {
                    let samples = lines.clone().flat_map(move |line| line.skip(band).step_by(bands));
                    Moments::of_values(samples.map(|i| values[i]).filter(|value| value.is_finite()))
                };
                return Ok((0..bands).map(band).collect());
            }
            _ => return Err(Error::Internal("an image changed its kind of samples".into())),
        }
        Ok(Vec::new())
    }

    fn add<T: Copy>(
        &mut self,
        totals: &Totals,
        lines: impl Iterator<Item = Range<usize>>,
        values: &[T],
        valid: impl Fn(usize) -> bool,
        bin: impl Fn(T) -> usize,
    ) {
        let (bands, bins) = (usize::from(totals.kind.bands), totals.bins);
        self.counts.clear();
        self.counts.resize(bands * bins, 0);
        self.nodata.clear();
        self.nodata.resize(bands, 0);
        let mut pixels = 0;
        for line in lines {
            pixels += line.len() / bands;
            for first in line.step_by(bands) {
                for band in 0..bands {
                    if valid(first + band) {
                        self.counts[band * bins + bin(values[first + band])] += 1;
                    } else {
                        self.nodata[band] += 1;
                    }
                }
            }
            if pixels > AT_ONCE {
                self.hand_over(totals);
                pixels = 0;
            }
        }
        self.hand_over(totals);
    }

    fn hand_over(&mut self, totals: &Totals) {
        for (own, total) in [(&mut self.counts, &totals.counts), (&mut self.nodata, &totals.nodata)] {
            for (own, total) in own.iter_mut().zip(total).filter(|(own, _)| **own > 0) {
                total.fetch_add(u64::from(std::mem::take(own)), Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn bins_of_floats_follow_the_values() {
        let values = [f32::MIN, -1e9, -2.0, -1.9, -1e-30, 0.0, 1e-30, 0.5, 1.0, 1.01, 300.0, f32::MAX];
        assert!(values.map(float_bin).is_sorted_by(|a, b| a < b));
        assert_eq!(float_bin(-0.0), float_bin(0.0));
        assert_eq!(float_bin(1.0), float_bin(1.007));
    }

    #[test]
    fn joined_moments_are_those_of_all() {
        let values: Vec<f32> = (0..1000u32).map(|i| (i * 7919 % 1013) as f32 * 0.37 - 100.0).collect();
        let all = Moments::of_values(values.iter().copied());
        let mut joined = Moments::default();
        for part in values.chunks(77) {
            joined.add(&Moments::of_values(part.iter().copied()));
        }
        joined.add(&Moments::default());
        assert_eq!((joined.count, joined.min, joined.max), (all.count, all.min, all.max));
        assert!((joined.mean - all.mean).abs() < 1e-9 && (joined.squares / all.squares - 1.0).abs() < 1e-12);
    }

    #[test]
    fn moments_of_a_histogram_are_exact() {
        let mut histogram = vec![0; 65_536];
        for value in [3usize, 3, 10, 65_535] {
            histogram[value] += 1_000_000_000_000;
        }
        let Moments { mean, squares, min, max, count } = Moments::of_histogram(&histogram);
        assert_eq!((count, mean, min, max), (4_000_000_000_000, 16_387.75, 3.0, 65_535.0));
        let variance = (3.0 * 3.0 * 2.0 + 100.0 + 65_535.0 * 65_535.0) / 4.0 - mean * mean;
        assert!((squares / count as f64 / variance - 1.0).abs() < 1e-12);
    }

    fn png(path: &Path, width: u32, values: &[u8]) {
        let mut encoder =
            png::Encoder::new(std::fs::File::create(path).unwrap(), width, values.len() as u32 / 3 / width);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(values).unwrap();
    }

    #[test]
    fn images_are_counted_alike_by_any_threads() {
        let folder = tempfile::tempdir().unwrap();
        let kinds = [Kind { bands: 3, bits: 8 }, Kind { bands: 4, bits: 8 }];
        let mut items = Vec::new();
        let mut wanted = vec![vec![0u64; 256]; 3];
        for n in 0..20usize {
            let path = folder.path().join(format!("{n}.png"));
            let values: Vec<u8> = (0..30 * 20 * 3).map(|i| (i * (n + 3) % 251) as u8).collect();
            png(&path, 30, &values);
            let bounds = (n % 2 == 1).then_some([5, 3, 10, 12]);
            let (left, top, right, bottom) = if n % 2 == 1 { (5, 3, 15, 15) } else { (0, 0, 30, 20) };
            for (i, value) in values.iter().enumerate() {
                let (x, y) = (i / 3 % 30, i / 90);
                wanted[i % 3][usize::from(*value)] +=
                    u64::from((left..right).contains(&x) && (top..bottom).contains(&y));
            }
            items.push(Item { path, bounds, kind: 0 });
        }
        items.insert(4, Item { path: folder.path().join("none.png"), bounds: None, kind: 0 });
        items.push(Item { kind: 1, ..items[0].clone() });
        let found = measure(&items, &kinds, None, 1, 1 << 20, |_| Ok(())).unwrap();
        assert_eq!(found.failures.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [4, 21]);
        assert!(found.failures[1].1.contains("3 bands of 8 bits where the index says 4 bands"));
        let (images, bands) = &found.kinds[0];
        assert_eq!(*images, 20);
        assert!(bands.iter().map(|band| &band.histogram).eq(&wanted));
        assert!(found.kinds[1].0 == 0 && found.kinds[1].1[0].mean.is_nan());
        for threads in [2, 5] {
            let again = measure(&items, &kinds, None, threads, 1 << 20, |_| Ok(())).unwrap();
            assert_eq!(format!("{again:?}"), format!("{found:?}"));
        }
        let stopped = measure(&items, &kinds, None, 2, 1 << 20, |_| Err(Error::Argument("stop".into())));
        assert!(stopped.is_err());
    }
}
