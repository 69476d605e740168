//! One sample of a batch: which images it shows, and their pixels.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::advice;
use crate::augment::{Augmenter, Normalize, View};
use crate::color::{self, COLOR_PARAMS, ColorSpec};
use crate::crop::{self, CropSpec, Cut, Geometry, Rect};
use crate::decode::{self, Decoders, Input, Want};
use crate::order::Permutation;
use crate::pack::Shards;
use crate::pack::record::Record;
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
    /// The pack that is read in place of the files, if there is one.
    pub pack: Option<Packed>,
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
    /// Most memory that decoding an image may take, and the largest file, bytes.
    pub max_image_bytes: u64,
}

/// Where the images lie in a pack.
#[derive(Debug)]
pub struct Packed {
    /// The pack.
    pub shards: Shards,
    /// Shard, offset and length of each row's record; shard -1 where the image could not be packed.
    pub at: Vec<(i32, u64, u64)>,
}

/// What a thread keeps from sample to sample.
#[derive(Default)]
pub struct Scratch {
    decoders: Decoders,
    resampler: Resampler,
    augmenter: Augmenter,
    cut: Vec<u8>,
    file: Vec<u8>,
    /// What was done since it was last taken.
    pub tally: Tally,
}

/// What was done, and how long it took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Images read and decoded.
    pub images: u64,
    /// Bytes of files read.
    pub bytes_read: u64,
    /// Spent on reading.
    pub read: Duration,
    /// Spent on decoding.
    pub decode: Duration,
    /// Spent on cutting and resampling.
    pub resample: Duration,
}

impl Packed {
    fn record(&self, path: &Path, row: usize) -> Result<Record<'_>> {
        let (shard, offset, _) = self.at[row];
        let shard = u32::try_from(shard).map_err(|_| Error::data(path, "could not be packed"))?;
        self.shards.record(path, shard, offset)
    }
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

    /// Bytes that a thread may take at most: an image's file, what is decoded of it with all that the decoder holds
    /// beside it (`decode::open` and `Encoded::decode` see to that), and some small things.
    pub fn thread_bytes(&self) -> u64 {
        // A view as it was cut and its bands apart are less than two views of floats.
        let augment = if self.normalize.is_some() { 2 * self.view_bytes() as u64 } else { 0 };
        2 * self.max_image_bytes + augment + decode::OVERHEAD_BYTES
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

    /// Tells the system that the image of `row` is read soon. Errors are left to the one who reads it.
    pub fn advise(&self, row: usize) {
        match &self.pack {
            None => {
                if let Some(path) = self.paths.get(row) {
                    advice::will_need(path);
                }
            }
            Some(pack) => {
                if let Some(&(shard, offset, length)) = pack.at.get(row)
                    && let Ok(shard) = u32::try_from(shard)
                {
                    pack.shards.advise(shard, offset, length);
                }
            }
        }
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
            let mut clock = Instant::now();
            let path = &self.paths[row];
            scratch.tally.images += 1;
            let image = match &self.pack {
                None => {
                    let input = Input::open(path, &mut scratch.file, self.max_image_bytes)?;
                    scratch.tally.bytes_read += input.bytes_read();
                    scratch.tally.read += lap(&mut clock);
                    decode::open(path, input, &mut scratch.decoders, self.max_image_bytes)?
                }
                // What is read of a pack, or of a TIFF, is read while it is decoded.
                Some(pack) => decode::packed(path, pack.record(path, row)?, self.max_image_bytes)?,
            };
            if (image.bands, image.bits) != (self.bands, self.bits) {
                return Err(Error::data(
                    path,
                    format!(
                        "has {} bands of {} bits where the others have {} of {}",
                        image.bands, image.bits, self.bands, self.bits
                    ),
                ));
            }
            let region = image.region(self.boxes[row], self.crop.context)?;
            let views: Vec<(usize, Geometry)> = (first..rows.len())
                .filter(|&view| rows[view] == row)
                .map(|view| (view, self.geometry(region, epoch, position, view)))
                .collect();
            let wanted = views
                .iter()
                .map(|(_, g)| if g.resized.is_some() { region } else { g.window.within(region) })
                .reduce(Rect::union)
                .unwrap_or(region);
            // One decode for all views: as small as each of them allows.
            let shrink = views.iter().map(|(_, g)| g.shrink((region.width, region.height), self.crop.size)).min();
            let shrink = if self.crop.scaled { shrink.unwrap_or(1) } else { 1 };
            let raster = image
                .decode(Want { shrink, ..Want::all(wanted) }, &mut scratch.decoders)
                .map_err(|e| self.located(e, row))?;
            scratch.tally.decode += lap(&mut clock);
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
            scratch.tally.resample += lap(&mut clock);
            scratch.decoders.recycle(raster);
            scratch.tally.bytes_read += std::mem::take(&mut scratch.decoders.bytes_read);
        }
        Ok(())
    }

    /// The error with the place in the pack that it is about, where there is a pack.
    fn located(&self, error: Error, row: usize) -> Error {
        match &self.pack {
            Some(Packed { shards, at }) if at[row].0 >= 0 => shards.located(error, at[row].0 as u32, at[row].1),
            _ => error,
        }
    }

    fn geometry(&self, region: Rect, epoch: u64, position: u64, view: usize) -> Geometry {
        let mut draws = Draws::new(self.seed, epoch, position, view as u8, Stage::Crop);
        crop::geometry(self.cut, &self.crop, (region.width, region.height), &mut draws)
    }
}

/// The time since `clock`, which is set to now.
fn lap(clock: &mut Instant) -> Duration {
    let before = std::mem::replace(clock, Instant::now());
    *clock - before
}
