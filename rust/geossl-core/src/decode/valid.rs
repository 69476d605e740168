//! Which pixels have data.

use super::{Raster, Samples};
use crate::crop::Rect;

impl Raster {
    /// Share of the pixels of `area`, which lies within `rect`, that have data in any of their bands. `bands` says
    /// which are there, as in `Want`; None: all.
    pub fn valid_share(&self, area: Rect, bands: Option<&[Option<u16>]>) -> f64 {
        let Some(nodata) = self.nodata else { return 1.0 };
        let there: Vec<usize> =
            (0..usize::from(self.bands)).filter(|&band| bands.is_none_or(|bands| bands[band].is_some())).collect();
        match &self.samples {
            Samples::U8(samples) => self.share(area, &there, samples, |v| v != nodata as u8),
            Samples::U16(samples) => self.share(area, &there, samples, |v| v != nodata as u16),
            Samples::F32(samples) => self.share(area, &there, samples, |v| !v.is_nan()),
        }
    }

    fn share<T: Copy>(&self, area: Rect, bands: &[usize], samples: &[T], valid: impl Fn(T) -> bool) -> f64 {
        let (bands_of_pixel, line) = (usize::from(self.bands), self.rect.shrunk(self.shrink).0 as usize);
        let axis = |origin: u32, ahead: u32, start: u32, length: u32| {
            let start = start - origin + ahead;
            ((start / self.shrink) as usize, (start + length).div_ceil(self.shrink) as usize)
        };
        let (left, right) = axis(self.rect.x, self.ahead.0, area.x, area.width);
        let (top, bottom) = axis(self.rect.y, self.ahead.1, area.y, area.height);
        let with_data: usize = (top..bottom)
            .map(|y| {
                let row = &samples[(y * line + left) * bands_of_pixel..(y * line + right) * bands_of_pixel];
                let has_data = |pixel: &&[T]| bands.iter().any(|&band| valid(pixel[band]));
                row.chunks_exact(bands_of_pixel).filter(has_data).count()
            })
            .sum();
        with_data as f64 / ((right - left) * (bottom - top)) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_counts_where_any_band_that_is_there_has_data() {
        let rect = Rect { x: 10, y: 20, width: 3, height: 2 };
        let samples = vec![0, 0, 5, 0, 0, 7, 1, 1, 0, 0, 0, 2];
        let raster = Raster { nodata: Some(0.0), ..Raster::new(rect, 2, Samples::U16(samples)) };
        let right = Rect { x: 12, width: 1, ..rect };
        let share = |area, bands| raster.valid_share(area, bands);
        assert!((share(rect, None) - 4.0 / 6.0).abs() < 1e-9);
        assert!((share(right, None) - 1.0).abs() < 1e-9);
        assert!((share(right, Some(&[Some(3), None])) - 0.0).abs() < 1e-9);
        assert!((share(rect, Some(&[Some(3), None])) - 2.0 / 6.0).abs() < 1e-9);
        let unknown = Raster { nodata: None, ..raster.clone() };
        assert!((unknown.valid_share(rect, None) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn smaller_decodes_are_counted_where_they_show_the_area() {
        let rect = Rect { x: 8, y: 0, width: 8, height: 4 };
        let samples = vec![f32::NAN, 1.0, 1.0, 1.0, f32::NAN, f32::NAN, 1.0, 1.0];
        let raster = Raster { shrink: 2, ..Raster::new(rect, 1, Samples::F32(samples)) };
        assert!((raster.valid_share(rect, None) - 5.0 / 8.0).abs() < 1e-9);
        let left = Rect { x: 8, y: 0, width: 3, height: 4 };
        assert!((raster.valid_share(left, None) - 1.0 / 4.0).abs() < 1e-9);
    }
}
