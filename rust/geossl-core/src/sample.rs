//! One sample of a batch: which images it shows, and their pixels.

use std::path::PathBuf;

use crate::augment::{Augmenter, Normalize, View};
use crate::color::{self, COLOR_PARAMS, ColorSpec};
use crate::crop::{self, CropSpec, Cut, Geometry, Rect};
use crate::decode::{self, Decoders};
use crate::order::Permutation;
use crate::pairs::Places;
use crate::resize::Resampler;
use crate::rng::{Draws, Stage};
use crate::{Error, Result};

/// Which images there are, and what a view of them is. Everything that decides the bytes of a batch, but for the
/// epoch and the batch's number.
#[derive(Debug)]
pub struct Source {
    /// File of each row.
    pub paths: Vec<PathBuf>,
    /// Box [x, y, width, height] of each row in pixels, None for the whole image.
    pub boxes: Vec<Option<[i32; 4]>>,
    /// Rows by place.
    pub places: Places,
    /// Views of a sample.
    pub views: usize,
    /// Whether views after the first show another date of the place.
    pub temporal: bool,
    /// Seed of every draw.
    pub seed: u64,
    /// Rows in a random order, the last batch dropped if it is short; or as they come, and all of them.
    pub shuffle: bool,
    /// Which part of a region a view shows.
    pub cut: Cut,
    /// How views are cut.
    pub crop: CropSpec,
    /// How colours change, if they do.
    pub color: Option<ColorSpec>,
    /// Have the views written as float32, their colours changed, blurred and normalised; or as they were cut.
    pub normalize: Option<Normalize>,
    /// Bands that every image must have.
    pub bands: u16,
    /// Bits of a sample that every image must have, 8 or 16.
    pub bits: u8,
    /// Largest decoded image, bytes.
    pub max_image_bytes: u64,
}

/// What a thread keeps from sample to sample.
#[derive(Default)]
pub struct Scratch {
    decoders: Decoders,
    resampler: Resampler,
    augmenter: Augmenter,
    cut: Vec<u8>,
    file: Vec<u8>,
    /// Bytes read so far.
    pub bytes_read: u64,
    /// Images decoded so far.
    pub images: u64,
}

impl Source {
    /// Bytes of one view.
    pub fn view_bytes(&self) -> usize {
        if self.normalize.is_some() { self.view_samples() * size_of::<f32>() } else { self.cut_bytes() }
    }

    fn view_samples(&self) -> usize {
        let side = self.crop.size as usize;
        side * side * usize::from(self.bands)
    }

    /// Bytes of a view as it is cut.
    fn cut_bytes(&self) -> usize {
        self.view_samples() * usize::from(self.bits / 8)
    }

    /// The row that stands at `position` of an epoch.
    pub fn row_at(&self, order: &Permutation, position: u64) -> usize {
        if self.shuffle { order.get(position) as usize } else { position as usize }
    }

    /// The rows that a sample's views show, given the row of the first.
    pub fn view_rows(&self, row: usize, epoch: u64, position: u64) -> Vec<usize> {
        (0..self.views)
            .map(|view| match view {
                0 => row,
                _ if !self.temporal => row,
                _ => self.places.partner(row, &mut Draws::new(self.seed, epoch, position, view as u8, Stage::Partner)),
            })
            .collect()
    }

    /// Colour parameters of one view.
    pub fn color_params(&self, epoch: u64, position: u64, view: usize) -> [f32; COLOR_PARAMS] {
        let mut draws = Draws::new(self.seed, epoch, position, view as u8, Stage::Color);
        self.color.as_ref().map_or(color::UNCHANGED, |spec| color::draw(spec, &mut draws))
    }

    /// Draws the row that replaces an unreadable sample: the same for the same position, never a thread's choice.
    pub fn substitutes(&self, epoch: u64, position: u64) -> impl Iterator<Item = usize> + '_ {
        let mut draws = Draws::new(self.seed, epoch, position, 0, Stage::Substitute);
        std::iter::repeat_with(move || draws.below(self.paths.len()))
    }

    /// Writes the views of `rows` to `outs`, one buffer of `view_bytes` each. An image that several views show is
    /// read and decoded once.
    pub fn fill(
        &self,
        rows: &[usize],
        epoch: u64,
        position: u64,
        scratch: &mut Scratch,
        outs: &mut [&mut [u8]],
    ) -> Result<()> {
        for (first, &row) in rows.iter().enumerate() {
            if rows[..first].contains(&row) {
                continue;
            }
            let path = &self.paths[row];
            decode::read_file(path, &mut scratch.file, self.max_image_bytes)?;
            scratch.bytes_read += scratch.file.len() as u64;
            scratch.images += 1;
            let image = decode::open(path, &scratch.file, &mut scratch.decoders, self.max_image_bytes)?;
            if (image.bands, image.bits) != (self.bands, self.bits) {
                return Err(Error::data(
                    path,
                    format!(
                        "has {} bands of {} bits where the others have {} of {}",
                        image.bands, image.bits, self.bands, self.bits
                    ),
                ));
            }
            let region = match self.boxes[row] {
                None => Rect { x: 0, y: 0, width: image.width, height: image.height },
                Some(bounds) => {
                    crop::region(bounds, (image.width, image.height), self.crop.context).ok_or_else(|| {
                        Error::data(
                            path,
                            format!("box {bounds:?} lies outside the {} x {} pixels", image.width, image.height),
                        )
                    })?
                }
            };
            let views: Vec<(usize, Geometry)> = (first..rows.len())
                .filter(|&view| rows[view] == row)
                .map(|view| (view, self.geometry(region, epoch, position, view)))
                .collect();
            let wanted = views
                .iter()
                .map(|(_, g)| if g.resized.is_some() { region } else { g.window.within(region) })
                .reduce(Rect::union)
                .unwrap_or(region);
            let raster = image.decode(wanted, &mut scratch.decoders)?;
            for (view, geometry) in views {
                // The raster may hold less than the region: then the window is all that is looked at.
                let (area, geometry) = if geometry.resized.is_some() {
                    (region, geometry)
                } else {
                    let area = geometry.window.within(region);
                    (area, Geometry { window: Rect { x: 0, y: 0, ..area }, ..geometry })
                };
                let Some(normalize) = &self.normalize else {
                    scratch.resampler.view(&raster, area, &geometry, self.crop.size, outs[view])?;
                    continue;
                };
                scratch.cut.resize(self.cut_bytes(), 0);
                scratch.resampler.view(&raster, area, &geometry, self.crop.size, &mut scratch.cut)?;
                let (size, bands) = (self.crop.size as usize, usize::from(self.bands));
                let cut = View { data: &scratch.cut, size, bands, bits: self.bits };
                scratch.augmenter.run(cut, &self.color_params(epoch, position, view), normalize, outs[view]);
            }
            scratch.decoders.recycle(raster);
        }
        Ok(())
    }

    fn geometry(&self, region: Rect, epoch: u64, position: u64, view: usize) -> Geometry {
        let mut draws = Draws::new(self.seed, epoch, position, view as u8, Stage::Crop);
        crop::geometry(self.cut, &self.crop, (region.width, region.height), &mut draws)
    }
}
