//! Antialiased bilinear resampling of a window, bands together, as Pillow and torchvision do it.

mod eight;
mod linear;
mod taps;
#[cfg(test)]
mod tests;

use self::eight::Eight;
use self::linear::Linear;
use crate::Result;
use crate::crop::{Geometry, Rect};
use crate::decode::{Raster, Samples};

/// A resampler and its buffers; one a thread.
#[derive(Default)]
pub struct Resampler {
    eight: Eight,
    linear: Linear,
    middle: Vec<u8>,
}

/// Pixels in memory, row after row, bands within the pixel.
#[derive(Clone, Copy)]
struct Pixels<'a> {
    data: &'a [u8],
    width: u32,
    height: u32,
    bands: usize,
    /// Of a sample: 1 or 2 of an unsigned integer, 4 of a float.
    bytes: usize,
    /// The value of samples without data, if there may be any.
    nodata: Option<f32>,
}

/// What is resampled, and to what.
#[derive(Clone, Copy)]
struct Job {
    /// The pixels that are seen.
    area: Rect,
    /// Left, top, width and height of what is shown, in pixels of `area`; None: all of it.
    part: Option<[f64; 4]>,
    /// Width and height of the output.
    target: (u32, u32),
    /// Whether the output is mirrored left to right.
    flip: bool,
}

impl Job {
    fn whole(&self) -> [f64; 4] {
        [0.0, 0.0, f64::from(self.area.width), f64::from(self.area.height)]
    }
}

impl Resampler {
    /// Cuts the view that `geometry` describes of `region` out of `raster` and writes it to `out`, `size` x `size`
    /// pixels, row after row, bands within the pixel, samples in the machine's byte order.
    ///
    /// The window is resampled from the region as if the region were the whole image: pixels outside of it are
    /// never seen. With a first resize, both steps round to whole values in between, as two calls would. Samples
    /// without data, where the raster has any, have no part in the others; where they would make more than half of
    /// a sample, it has no data.
    pub fn view(
        &mut self,
        raster: &Raster,
        region: Rect,
        geometry: &Geometry,
        size: u32,
        out: &mut [u8],
    ) -> Result<()> {
        let source = pixels_of(raster);
        let (window, flip, target) = (geometry.window, geometry.flip, (size, size));
        let Some(full) = geometry.resized else {
            let seen = window.within(region);
            let whole = [0.0, 0.0, f64::from(seen.width), f64::from(seen.height)];
            let exact = geometry
                .exact
                .map(|[x, y, width, height]| [x - f64::from(window.x), y - f64::from(window.y), width, height]);
            let (area, part) = samples_of(raster, seen, exact.unwrap_or(whole));
            // A window of whole samples is cut out exactly.
            let part = (raster.shrink > 1 || exact.is_some()).then_some(part);
            return self.resample(source, &Job { area, part, target, flip }, out);
        };
        let scale = (f64::from(region.width) / f64::from(full.0), f64::from(region.height) / f64::from(full.1));
        let part = [
            f64::from(window.x) * scale.0,
            f64::from(window.y) * scale.1,
            (f64::from(window.width) * scale.0).min(f64::from(region.width) - f64::from(window.x) * scale.0),
            (f64::from(window.height) * scale.1).min(f64::from(region.height) - f64::from(window.y) * scale.1),
        ];
        let (area, part) = samples_of(raster, region, part);
        let (width, height) = (window.width, window.height);
        let first = Job { area, part: Some(part), target: (width, height), flip: false };
        if first.target == target {
            return self.resample(source, &Job { flip, ..first }, out);
        }
        let mut middle = std::mem::take(&mut self.middle);
        middle.resize(width as usize * height as usize * source.bands * source.bytes, 0);
        let done = self.resample(source, &first, &mut middle).and_then(|()| {
            let pixels = Pixels { data: &middle, width, height, ..source };
            let area = Rect { x: 0, y: 0, width, height };
            self.resample(pixels, &Job { area, part: None, target, flip }, out)
        });
        self.middle = middle;
        done
    }

    /// The region of a raster, resized to `size`, or copied where it has that size.
    pub fn whole(&mut self, raster: &Raster, region: Rect, size: (u32, u32)) -> Result<Raster> {
        let area = Rect { x: region.x - raster.rect.x, y: region.y - raster.rect.y, ..region };
        let source = pixels_of(raster);
        let mut out = vec![0; size.0 as usize * size.1 as usize * source.bands * source.bytes];
        self.resample(source, &Job { area, part: None, target: size, flip: false }, &mut out)?;
        let samples = match &raster.samples {
            Samples::U8(_) => Samples::U8(out),
            Samples::U16(_) => Samples::U16(out.as_chunks().0.iter().map(|b| u16::from_ne_bytes(*b)).collect()),
            Samples::F32(_) => Samples::F32(out.as_chunks().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()),
        };
        let rect = Rect { x: 0, y: 0, width: size.0, height: size.1 };
        Ok(Raster { nodata: raster.nodata, ..Raster::new(rect, raster.bands, samples) })
    }

    fn resample(&mut self, source: Pixels<'_>, job: &Job, out: &mut [u8]) -> Result<()> {
        if source.bytes == 1 {
            self.eight.run(source, job, out)?;
        }
        if source.bytes > 1 || source.nodata.is_some() {
            self.linear.run(source, job, out);
        }
        if source.bytes == 1 && job.flip {
            mirror(out, job.target.0 as usize, source.bands);
        }
        Ok(())
    }
}

fn pixels_of(raster: &Raster) -> Pixels<'_> {
    let (data, bytes) = match &raster.samples {
        Samples::U8(values) => (values.as_slice(), 1),
        Samples::U16(values) => (bytes_of(values), 2),
        Samples::F32(values) => (bytes_of(values), 4),
    };
    let (width, height) = raster.rect.shrunk(raster.shrink);
    let nodata = if bytes == 4 { Some(f32::NAN) } else { raster.nodata };
    Pixels { data, width, height, bands: usize::from(raster.bands), bytes, nodata }
}

/// The samples of a raster that show `area` of the image, and where `part` (left, top, width, height in pixels of
/// `area`) lies among them.
fn samples_of(raster: &Raster, area: Rect, part: [f64; 4]) -> (Rect, [f64; 4]) {
    let axis = |origin: u32, ahead: u32, start: u32, length: u32, from: f64, size: f64| {
        let (start, shrink) = (start - origin + ahead, raster.shrink);
        let first = start / shrink;
        let samples = (start + length).div_ceil(shrink) - first;
        let from = (f64::from(start - first * shrink) + from) / f64::from(shrink);
        // The sum must not round to more than there is.
        (first, samples, from, (size / f64::from(shrink)).min(f64::from(samples) - from))
    };
    let [left, top, part_width, part_height] = part;
    let (x, width, left, part_width) = axis(raster.rect.x, raster.ahead.0, area.x, area.width, left, part_width);
    let (y, height, top, part_height) = axis(raster.rect.y, raster.ahead.1, area.y, area.height, top, part_height);
    (Rect { x, y, width, height }, [left, top, part_width, part_height])
}

/// The bytes of u16 or f32 values.
fn bytes_of<T: Copy>(values: &[T]) -> &[u8] {
    // SAFETY: u16 and f32 have no padding, bytes have no alignment, and the length is the same memory's in bytes.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), std::mem::size_of_val(values)) }
}

fn mirror(pixels: &mut [u8], width: usize, step: usize) {
    // A pixel of a size that the compiler knows is turned several times as fast.
    match step {
        1 => mirror_pixels::<1>(pixels, width),
        2 => mirror_pixels::<2>(pixels, width),
        3 => mirror_pixels::<3>(pixels, width),
        4 => mirror_pixels::<4>(pixels, width),
        _ => {
            for row in pixels.chunks_exact_mut(width * step) {
                for x in 0..width / 2 {
                    let (left, right) = row.split_at_mut((width - 1 - x) * step);
                    left[x * step..][..step].swap_with_slice(&mut right[..step]);
                }
            }
        }
    }
}

fn mirror_pixels<const STEP: usize>(pixels: &mut [u8], width: usize) {
    for row in pixels.chunks_exact_mut(width * STEP) {
        row.as_chunks_mut::<STEP>().0.reverse();
    }
}
