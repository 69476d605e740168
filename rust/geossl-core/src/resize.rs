//! Antialiased bilinear resampling of a window, bands together, as Pillow and torchvision do it.

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::crop::{Geometry, Rect};
use crate::decode::{Raster, Samples};
use crate::{Error, Result};

/// A resampler and its buffers; one a thread.
#[derive(Default)]
pub struct Resampler {
    resizer: Resizer,
    middle: Vec<u8>,
    plane: Vec<u8>,
    small: Vec<u8>,
}

/// Pixels in memory: rows of `width` pixels of `bands` samples of `bytes` bytes.
#[derive(Clone, Copy)]
struct Pixels<'a> {
    data: &'a [u8],
    width: u32,
    height: u32,
}

/// Kind of samples.
#[derive(Clone, Copy)]
struct Kind {
    bands: usize,
    bytes: usize,
}

impl Resampler {
    /// Cuts the view that `geometry` describes of `region` out of `raster` and writes it to `out`, `size` x `size`
    /// pixels, row after row, bands within the pixel, samples in the machine's byte order.
    ///
    /// The window is resampled from the region as if the region were the whole image: pixels outside of it are
    /// never seen. With a first resize, both steps round to whole values in between, as two calls would.
    pub fn view(
        &mut self,
        raster: &Raster,
        region: Rect,
        geometry: &Geometry,
        size: u32,
        out: &mut [u8],
    ) -> Result<()> {
        let (data, bytes) = match &raster.samples {
            Samples::U8(values) => (values.as_slice(), 1),
            Samples::U16(values) => (as_bytes(values), 2),
            Samples::F32(_) => return Err(Error::Internal("floats are not resampled".into())),
        };
        let kind = Kind { bands: usize::from(raster.bands), bytes };
        let (width, height) = raster.rect.shrunk(raster.shrink);
        let source = Pixels { data, width, height };
        let window = geometry.window;
        let target = (size, size);
        match geometry.resized {
            None => {
                let area = window.within(region);
                let whole = [0.0, 0.0, f64::from(area.width), f64::from(area.height)];
                let (area, part) = samples_of(raster, area, whole);
                // A window of whole samples is cut out exactly.
                self.resize(source, area, (raster.shrink > 1).then_some(part), kind, target, out)?;
            }
            Some(full) => {
                let scale = (f64::from(region.width) / f64::from(full.0), f64::from(region.height) / f64::from(full.1));
                let part = [
                    f64::from(window.x) * scale.0,
                    f64::from(window.y) * scale.1,
                    (f64::from(window.width) * scale.0).min(f64::from(region.width) - f64::from(window.x) * scale.0),
                    (f64::from(window.height) * scale.1).min(f64::from(region.height) - f64::from(window.y) * scale.1),
                ];
                let (area, part) = samples_of(raster, region, part);
                let middle = (window.width, window.height);
                if middle == target {
                    self.resize(source, area, Some(part), kind, target, out)?;
                } else {
                    let mut first = std::mem::take(&mut self.middle);
                    first.resize(middle.0 as usize * middle.1 as usize * kind.bands * kind.bytes, 0);
                    let done = self.resize(source, area, Some(part), kind, middle, &mut first);
                    let whole = Rect { x: 0, y: 0, width: middle.0, height: middle.1 };
                    let pixels = Pixels { data: &first, width: middle.0, height: middle.1 };
                    let done = done.and_then(|()| self.resize(pixels, whole, None, kind, target, out));
                    self.middle = first;
                    done?;
                }
            }
        }
        if geometry.flip {
            mirror(out, size as usize, kind.bands * kind.bytes);
        }
        Ok(())
    }

    /// The region of a raster, resized to `size`, or copied where it has that size.
    pub fn whole(&mut self, raster: &Raster, region: Rect, size: (u32, u32)) -> Result<Raster> {
        let outer = Rect { x: region.x - raster.rect.x, y: region.y - raster.rect.y, ..region };
        let (bands, rect) = (raster.bands, Rect { x: 0, y: 0, width: size.0, height: size.1 });
        let count = size.0 as usize * size.1 as usize * usize::from(bands);
        let mut to = |data: &[u8], bytes: usize, out: &mut [u8]| {
            let source = Pixels { data, width: raster.rect.width, height: raster.rect.height };
            self.resize(source, outer, None, Kind { bands: usize::from(bands), bytes }, size, out)
        };
        let samples = match &raster.samples {
            Samples::U8(values) => {
                let mut out = vec![0; count];
                to(values, 1, &mut out)?;
                Samples::U8(out)
            }
            Samples::U16(values) => {
                let mut out = vec![0; count * 2];
                to(as_bytes(values), 2, &mut out)?;
                Samples::U16(out.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect())
            }
            Samples::F32(_) => return Err(Error::Internal("floats are not resampled".into())),
        };
        Ok(Raster::new(rect, bands, samples))
    }

    /// Resamples `part` (in pixels of `area`, all of it if None) of `area` of the source to `target`.
    fn resize(
        &mut self,
        source: Pixels<'_>,
        area: Rect,
        part: Option<[f64; 4]>,
        kind: Kind,
        target: (u32, u32),
        out: &mut [u8],
    ) -> Result<()> {
        let pixel_type = match (kind.bytes, kind.bands) {
            (1, 1) => PixelType::U8,
            (1, 2) => PixelType::U8x2,
            (1, 3) => PixelType::U8x3,
            (1, 4) => PixelType::U8x4,
            (2, 1) => PixelType::U16,
            (2, 2) => PixelType::U16x2,
            (2, 3) => PixelType::U16x3,
            (2, 4) => PixelType::U16x4,
            _ => return self.resize_planes(source, area, part, kind, target, out),
        };
        let mut options =
            ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        if let Some([x, y, width, height]) = part {
            options = options.crop(x, y, width, height);
        }
        let internal = |e: &dyn std::fmt::Display| Error::Internal(format!("resize: {e}"));
        let image = ImageRef::new(source.width, source.height, source.data, pixel_type).map_err(|e| internal(&e))?;
        let view = CroppedImage::new(&image, area.x, area.y, area.width, area.height).map_err(|e| internal(&e))?;
        let mut to = Image::from_slice_u8(target.0, target.1, out, pixel_type).map_err(|e| internal(&e))?;
        self.resizer.resize(&view, &mut to, &options).map_err(|e| internal(&e))
    }

    /// The same band by band, for numbers of bands that the resampler has no type for.
    fn resize_planes(
        &mut self,
        source: Pixels<'_>,
        area: Rect,
        part: Option<[f64; 4]>,
        kind: Kind,
        target: (u32, u32),
        out: &mut [u8],
    ) -> Result<()> {
        let one = Kind { bands: 1, bytes: kind.bytes };
        let (step, width) = (kind.bands * kind.bytes, area.width as usize);
        let (mut plane, mut small) = (std::mem::take(&mut self.plane), std::mem::take(&mut self.small));
        plane.resize(width * area.height as usize * kind.bytes, 0);
        small.resize(target.0 as usize * target.1 as usize * kind.bytes, 0);
        let whole = Rect { x: 0, y: 0, ..area };
        for band in 0..kind.bands {
            for (y, row) in plane.chunks_exact_mut(width * kind.bytes).enumerate() {
                let start =
                    ((area.y as usize + y) * source.width as usize + area.x as usize) * step + band * kind.bytes;
                for (x, sample) in row.chunks_exact_mut(kind.bytes).enumerate() {
                    sample.copy_from_slice(&source.data[start + x * step..][..kind.bytes]);
                }
            }
            let pixels = Pixels { data: &plane, width: area.width, height: area.height };
            self.resize(pixels, whole, part, one, target, &mut small)?;
            for (pixel, sample) in out.chunks_exact_mut(step).zip(small.chunks_exact(kind.bytes)) {
                pixel[band * kind.bytes..][..kind.bytes].copy_from_slice(sample);
            }
        }
        (self.plane, self.small) = (plane, small);
        Ok(())
    }
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

fn as_bytes(values: &[u16]) -> &[u8] {
    // SAFETY: u16 has no padding, bytes have no alignment, and the length is the same memory's in bytes.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), std::mem::size_of_val(values)) }
}

fn mirror(pixels: &mut [u8], width: usize, step: usize) {
    // A pixel of a size that the compiler knows is turned several times as fast.
    match step {
        1 => mirror_pixels::<1>(pixels, width),
        2 => mirror_pixels::<2>(pixels, width),
        3 => mirror_pixels::<3>(pixels, width),
        4 => mirror_pixels::<4>(pixels, width),
        6 => mirror_pixels::<6>(pixels, width),
        8 => mirror_pixels::<8>(pixels, width),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn raster(width: u32, height: u32, bands: u16) -> Raster {
        let n = width as usize * height as usize * usize::from(bands);
        let samples = Samples::U8((0..n).map(|i| ((i * 7919) % 251) as u8).collect());
        Raster::new(Rect { x: 0, y: 0, width, height }, bands, samples)
    }

    fn cut(raster: &Raster, geometry: &Geometry, size: u32) -> Vec<u8> {
        let mut out = vec![0; (size * size) as usize * usize::from(raster.bands)];
        Resampler::default().view(raster, raster.rect, geometry, size, &mut out).unwrap();
        out
    }

    #[test]
    fn a_window_of_the_same_size_is_copied_and_mirrored() {
        let image = raster(9, 7, 3);
        let window = Rect { x: 2, y: 1, width: 4, height: 4 };
        let plain = cut(&image, &Geometry { resized: None, window, flip: false }, 4);
        let Samples::U8(all) = &image.samples else { unreachable!() };
        for y in 0..4 {
            assert_eq!(plain[y * 12..][..12], all[((y + 1) * 9 + 2) * 3..][..12]);
        }
        let flipped = cut(&image, &Geometry { resized: None, window, flip: true }, 4);
        for (row, mirrored) in plain.chunks(12).zip(flipped.chunks(12)) {
            let pixels: Vec<&[u8]> = row.chunks(3).rev().collect();
            assert_eq!(pixels.concat(), mirrored);
        }
    }

    #[test]
    fn a_window_of_a_resize_is_that_part_of_the_whole_resize() {
        let image = raster(120, 90, 3);
        let whole =
            Geometry { resized: Some((64, 64)), window: Rect { x: 0, y: 0, width: 64, height: 64 }, flip: false };
        let all = cut(&image, &whole, 64);
        let window = Rect { x: 20, y: 31, width: 16, height: 16 };
        let part = cut(&image, &Geometry { window, ..whole }, 16);
        for y in 0..16 {
            assert_eq!(part[y * 48..][..48], all[((y + 31) * 64 + 20) * 3..][..48]);
        }
    }

    #[test]
    fn bands_are_independent() {
        let image = raster(50, 40, 6);
        let geometry = Geometry { resized: None, window: Rect { x: 3, y: 4, width: 40, height: 30 }, flip: true };
        let all = cut(&image, &geometry, 16);
        let Samples::U8(samples) = &image.samples else { unreachable!() };
        for band in 0..6 {
            let one: Vec<u8> = samples.iter().skip(band).step_by(6).copied().collect();
            let single = Raster { bands: 1, samples: Samples::U8(one), ..image };
            let expected: Vec<u8> = all.iter().skip(band).step_by(6).copied().collect();
            assert_eq!(cut(&single, &geometry, 16), expected);
        }
    }
}
