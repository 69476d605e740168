//! One sample of a batch: which images it shows, and their pixels.

mod fill;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::advice;
use crate::align::Align;
use crate::augment::{Augmenter, Normalize};
use crate::color::{self, COLOR_PARAMS, ColorSpec};
use crate::crop::{CropSpec, Cut};
use crate::decode::foreign::{Foreign, Size};
use crate::decode::{self, Decoders};
use crate::order::Permutation;
use crate::pack::Shards;
use crate::pack::record::Record;
use crate::pairs::Pairs;
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
    /// What reads the files that this crate does not, if there are any, and what these are.
    pub foreign: Option<ForeignImages>,
    /// Box [x, y, width, height] of each row in pixels, None for the whole image.
    pub boxes: Vec<Option<[i32; 4]>>,
    /// Views of a sample.
    pub views: usize,
    /// Which dates of a place the views after the first show; None where they show that of the first.
    pub pairs: Option<Pairs>,
    /// Seed of every draw.
    pub seed: u64,
    /// Rows in a random order, the last batch dropped if it is short; or as they come, and all of them.
    pub shuffle: bool,
    /// Which part of a region a view shows.
    pub cut: Cut,
    /// How views are cut.
    pub crop: CropSpec,
    /// Where the images lie on the ground, if later views show that of the first.
    pub align: Option<Align>,
    /// How colours change, if they do.
    pub color: Option<ColorSpec>,
    /// Have the views written as float32, their colours changed, blurred and normalised; or as they were cut.
    pub normalize: Option<Normalize>,
    /// Bands of a view.
    pub bands: u16,
    /// Bits of a sample that every image must have: 8 or 16, unsigned, or 32, a float.
    pub bits: u8,
    /// Kinds of images by their bands.
    pub kinds: Vec<BandMap>,
    /// Kind of each row's image.
    pub kind: Vec<u16>,
    /// The value of a view's samples without data, if the images are of integers and some of them say where they have
    /// none; of floats it is NaN.
    pub nodata: Option<u16>,
    /// Most memory that decoding an image may take, and the largest file, bytes.
    pub max_image_bytes: u64,
}

/// How the bands of an image become those of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BandMap {
    /// Bands that the image must have.
    pub image: u16,
    /// For each band of a view the image's, counted from 0; None where the image lacks it. None: all as they come.
    pub view: Option<Vec<Option<u16>>>,
}

/// Images that another library reads.
#[derive(Debug)]
pub struct ForeignImages {
    /// The library.
    pub reader: Arc<dyn Foreign>,
    /// By row.
    pub sizes: HashMap<usize, Size>,
}

impl ForeignImages {
    /// What reads the image of a row, and its size; None if it is one of ours.
    pub fn get(&self, row: usize) -> Option<(&dyn Foreign, Size)> {
        self.sizes.get(&row).map(|size| (self.reader.as_ref(), *size))
    }
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
    /// One view of each image, in a random order; `bands` and `bits` are those of all images.
    pub fn new(paths: Vec<PathBuf>, (bands, bits): (u16, u8), crop: CropSpec) -> Self {
        let images = paths.len();
        Self {
            paths,
            pack: None,
            foreign: None,
            boxes: vec![None; images],
            views: 1,
            pairs: None,
            seed: 0,
            shuffle: true,
            cut: Cut::RandomResized,
            crop,
            align: None,
            color: None,
            normalize: None,
            bands,
            bits,
            kinds: vec![BandMap { image: bands, view: None }],
            kind: vec![0; images],
            nodata: None,
            max_image_bytes: 1 << 30,
        }
    }

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
        // A view as it was cut and its bands apart are no more than two views of floats.
        let augment = if self.normalize.is_some() { 2 * self.view_bytes() as u64 } else { 0 };
        // Where crops may be drawn again, those that were drawn before are kept beside them.
        let images = if self.nodata.is_some() || self.bits == 32 { 3 } else { 2 };
        images * self.max_image_bytes + augment + decode::OVERHEAD_BYTES
    }

    /// The row that stands at `position` of an epoch.
    pub fn row_at(&self, order: &Permutation, position: u64) -> usize {
        if self.shuffle { order.get(position) as usize } else { position as usize }
    }

    /// The rows that a sample's views show, given the row of the first.
    pub fn view_rows(&self, row: usize, epoch: u64, position: u64) -> Vec<usize> {
        let Some(pairs) = &self.pairs else { return vec![row; self.views] };
        let draws = |view| Draws::new(self.seed, epoch, position, view, Stage::Partner);
        let mut rows = vec![row];
        rows.extend(pairs.partners(row, self.views, draws));
        rows
    }

    /// Colour parameters of one view.
    pub fn color_params(&self, epoch: u64, position: u64, view: usize) -> [f32; COLOR_PARAMS] {
        let mut draws = Draws::new(self.seed, epoch, position, view as u8, Stage::Color);
        self.color.as_ref().map_or(color::UNCHANGED, |spec| color::draw(spec, &mut draws))
    }

    /// Factor of each band of one view of `row`: 0 where the band is not there.
    pub fn gains(&self, row: usize, epoch: u64, position: u64, view: usize) -> Vec<f32> {
        let mut draws = Draws::new(self.seed, epoch, position, view as u8, Stage::Bands);
        let present: Vec<bool> = match &self.band_map(row).view {
            None => vec![true; usize::from(self.bands)],
            Some(bands) => bands.iter().map(Option::is_some).collect(),
        };
        color::gains(self.color.as_ref(), &present, &mut draws)
    }

    fn foreign_image(&self, row: usize) -> Option<(&dyn Foreign, Size)> {
        self.foreign.as_ref()?.get(row)
    }

    fn band_map(&self, row: usize) -> &BandMap {
        &self.kinds[usize::from(self.kind[row])]
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
                if let Some(path) = self.paths.get(row).filter(|_| self.foreign_image(row).is_none()) {
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
}
