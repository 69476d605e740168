//! Samples of eight bits, resampled by `fast_image_resize`, as RGB images are.

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::{Job, Pixels};
use crate::crop::Rect;
use crate::{Error, Result};

/// The resampler and its buffers.
#[derive(Default)]
pub struct Eight {
    resizer: Resizer,
    plane: Vec<u8>,
    small: Vec<u8>,
}

impl Eight {
    /// Resamples as the job says, but for its flip and no data.
    pub fn run(&mut self, source: Pixels<'_>, job: &Job, out: &mut [u8]) -> Result<()> {
        let pixel_type = match source.bands {
            1 => PixelType::U8,
            2 => PixelType::U8x2,
            3 => PixelType::U8x3,
            4 => PixelType::U8x4,
            _ => return self.planes(source, job, out),
        };
        let Job { area, target, .. } = *job;
        let mut options =
            ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        if let Some([x, y, width, height]) = job.part {
            options = options.crop(x, y, width, height);
        }
        let internal = |e: &dyn std::fmt::Display| Error::Internal(format!("resize: {e}"));
        let image = ImageRef::new(source.width, source.height, source.data, pixel_type).map_err(|e| internal(&e))?;
        let view = CroppedImage::new(&image, area.x, area.y, area.width, area.height).map_err(|e| internal(&e))?;
        let mut to = Image::from_slice_u8(target.0, target.1, out, pixel_type).map_err(|e| internal(&e))?;
        self.resizer.resize(&view, &mut to, &options).map_err(|e| internal(&e))
    }

    /// The same four bands at a time, for numbers of bands that the resampler has no type for.
    fn planes(&mut self, source: Pixels<'_>, job: &Job, out: &mut [u8]) -> Result<()> {
        let Job { area, target, .. } = *job;
        let width = area.width as usize;
        let (mut plane, mut small) = (std::mem::take(&mut self.plane), std::mem::take(&mut self.small));
        let whole = Job { area: Rect { x: 0, y: 0, ..area }, ..*job };
        for first in (0..source.bands).step_by(4) {
            let bands = (source.bands - first).min(4);
            plane.resize(width * area.height as usize * bands, 0);
            small.resize(target.0 as usize * target.1 as usize * bands, 0);
            for (y, row) in plane.chunks_exact_mut(width * bands).enumerate() {
                let start = (area.y as usize + y) * source.width as usize + area.x as usize;
                let pixels = source.data[start * source.bands..].chunks_exact(source.bands);
                for (to, from) in row.chunks_exact_mut(bands).zip(pixels) {
                    to.copy_from_slice(&from[first..first + bands]);
                }
            }
            let pixels = Pixels { data: &plane, width: area.width, height: area.height, bands, ..source };
            self.run(pixels, &whole, &mut small)?;
            for (to, from) in out.chunks_exact_mut(source.bands).zip(small.chunks_exact(bands)) {
                to[first..first + bands].copy_from_slice(from);
            }
        }
        (self.plane, self.small) = (plane, small);
        Ok(())
    }
}
