//! TIFF and `BigTIFF`: only the directories and the strips or tiles under the wanted rectangle are read.

mod assemble;
mod codec;
mod geo;
mod ifd;
mod layout;
mod lzw;
mod mask;
mod planes;
mod predict;
mod rows;
mod tags;

use std::path::Path;

pub use assemble::Blocks;
use assemble::{Output, Part};
pub use geo::GeoHeader;
use ifd::{Directory, Reader, Window};
use layout::Layout;
use mask::Valid;
use rows::{Pick, Pixels};

use super::dtype::Dtype;
use super::{Input, Raster, Samples, Want};
use crate::crop::Rect;
use crate::{Error, Result};

const SUBFILE: u16 = 254;
/// `NewSubfileType`: an image at a smaller size, a mask.
const REDUCED: u64 = 1;
const MASK: u64 = 4;

/// An opened TIFF, whose headers have been read.
pub struct Tiff<'a> {
    reader: Reader<'a>,
    /// The first directory.
    directory: Directory,
    full: Level,
    /// Smaller copies of the image, as they come.
    overviews: Vec<Level>,
    /// Number of the sample that is alpha.
    alpha: Option<u16>,
    /// GDAL's value for samples without data, if samples can have it.
    nodata: Option<f64>,
    /// Bytes of the file that were read when it was opened.
    pub bytes_read: u64,
}

/// The image at one size.
struct Level {
    image: Layout,
    mask: Option<Layout>,
}

impl<'a> Tiff<'a> {
    pub fn open(path: &'a Path, input: Input<'a>) -> Result<Self> {
        let mut reader = Reader::new(path, input)?;
        let mut window = Window::default();
        let mut directories = reader.directories(&mut window)?.into_iter();
        let directory = directories.next().unwrap_or_default();
        let image = Layout::read(&reader, &mut window, &directory)?;
        let Some(dtype) = image.dtype else { return Err(reader.bad("not read here: uint1 samples")) };
        let alpha = tags::alpha(&reader, &mut window, &directory, image.samples)?.filter(|_| image.samples > 1);
        let nodata = tags::nodata(&reader, &mut window, &directory, dtype)?;
        let mut full = Level { image, mask: None };
        let (mut overviews, mut masks) = (Vec::new(), Vec::new());
        for other in directories {
            let kind = reader.first(&mut window, &other, SUBFILE, 0)?;
            if kind & (REDUCED | MASK) == 0 {
                continue;
            }
            // What cannot be read is no use as an overview, and no loss.
            let layout = Layout::read(&reader, &mut window, &other);
            match (kind & MASK != 0, kind & REDUCED != 0) {
                (true, false) if full.mask.is_none() => full.mask = Some(mask(&reader, layout?, &full.image)?),
                (true, true) => masks.extend(layout.ok()),
                (false, true) => overviews.extend(layout.ok().map(|image| Level { image, mask: None })),
                _ => {}
            }
        }
        for level in &mut overviews {
            level.mask = masks.iter().find(|m| same_size(m, &level.image) && is_mask(m)).cloned();
        }
        overviews.retain(|level| {
            let (a, b) = (&level.image, &full.image);
            (a.samples, a.dtype) == (b.samples, b.dtype)
                && a.palette.is_some() == b.palette.is_some()
                && level.mask.is_some() == full.mask.is_some()
        });
        Ok(Self { reader, directory, full, overviews, alpha, nodata, bytes_read: window.read })
    }

    pub fn width(&self) -> u32 {
        self.full.image.width
    }

    pub fn height(&self) -> u32 {
        self.full.image.height
    }

    /// Bands as decoded.
    pub fn bands(&self) -> u16 {
        let image = &self.full.image;
        if image.palette.is_some() { 3 } else { image.samples }
    }

    /// Type of the samples in the file.
    pub fn dtype(&self) -> Dtype {
        // An image of bits was refused.
        self.full.image.dtype.unwrap_or(Dtype::Uint8)
    }

    /// The value of samples without data; NaN where a mask or alpha says which these are, or where it is NaN.
    pub fn nodata(&self) -> Option<f64> {
        // In the order in which GDAL looks for them.
        let other = self.alpha().map(|_| f64::NAN);
        if self.full.mask.is_some() { Some(f64::NAN) } else { self.nodata.or(other) }
    }

    /// Number of the band that is alpha, of integers, if nothing else says which samples are without data.
    pub fn alpha(&self) -> Option<u16> {
        self.alpha.filter(|_| self.dtype().bits() < 32 && self.full.mask.is_none() && self.nodata.is_none())
    }

    /// Sizes of the overviews, the largest first.
    pub fn overviews(&self) -> Vec<(u32, u32)> {
        let mut sizes: Vec<_> = self.overviews.iter().map(|level| (level.image.width, level.image.height)).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes
    }

    /// Whether samples may be without data.
    pub fn has_nodata(&self) -> bool {
        self.nodata().is_some() || self.dtype().is_float()
    }

    /// Place and date.
    pub fn geo(&self) -> Result<GeoHeader> {
        geo::read(&self.reader, &mut Window::default(), &self.directory, self.full.image.photometric)
    }

    /// Decodes the wanted rectangle, which lies within the image, to the memory of `spare`, from the overview that suits.
    /// The pixels and what is held beside them take no more than `max_bytes`.
    pub fn decode(&self, want: &Want<'_>, blocks: &mut Blocks, spare: Samples, max_bytes: u64) -> Result<Raster> {
        let (factor, level) = self.level(want.shrink, want.rect);
        let image = &level.image;
        let Rect { x, y, width, height } = want.rect;
        let (x0, y0) = (x / factor, y / factor);
        let (x1, y1) = ((x + width).div_ceil(factor), (y + height).div_ceil(factor));
        let rect = Rect { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
        let integers = self.dtype().bits() < 32;
        let looked_at = !integers || want.nodata.is_some();
        let nodata = self.nodata.filter(|_| level.mask.is_none());
        // An alpha band is a band like others, as some writers mark the fourth of any bands as alpha; only where it is
        // left out it says which pixels have data.
        let left_out = |alpha: &u16| want.bands.is_some_and(|bands| !bands.contains(&Some(*alpha)));
        let alpha = self.alpha().filter(|_| looked_at).filter(left_out);

        let (picks, bands) = self.picks(want.bands, alpha)?;
        let pixels = u64::from(rect.width) * u64::from(rect.height);
        let masked = looked_at && (level.mask.is_some() || alpha.is_some() || image.palette.is_some());
        let apart =
            planes::held(image, rect, u64::from(rect.width) * picks.len() as u64 * u64::from(self.dtype().bits() / 8));
        let room = self.room(level, pixels, bands, masked, max_bytes.saturating_sub(apart))?;

        let pixels = pixels as usize;
        let mut mask = vec![1; if masked { pixels } else { 0 }];
        let mut samples = if image.palette.is_some() { Samples::U8(Vec::new()) } else { spare };
        // Samples that the memory held before are overwritten.
        let count = pixels * if image.palette.is_some() { 1 } else { bands };
        match (&mut samples, self.dtype().bits()) {
            (Samples::U8(values), 8) => values.resize(count, 0),
            (Samples::U16(values), 16) => values.resize(count, 0),
            (Samples::F32(values), 32) => values.resize(count, 0.0),
            (samples, 8) => *samples = Samples::U8(vec![0; count]),
            (samples, 16) => *samples = Samples::U16(vec![0; count]),
            (samples, _) => *samples = Samples::F32(vec![0.0; count]),
        }
        let part = Part { reader: &self.reader, layout: image, rect, picks: &picks, nodata, room };
        if image.palette.is_some() {
            let one = [Pick { from: 0, to: Some(0) }];
            let mut out = Output { samples: Pixels::of(&mut samples), bands: 1, mask: &mut [] };
            Part { picks: &one, ..part }.decode(blocks, &mut out)?;
            samples = self.colors(&samples, want.bands, nodata, &mut mask)?;
        } else {
            part.decode(blocks, &mut Output { samples: Pixels::of(&mut samples), bands, mask: &mut mask })?;
        }
        if let (Some(layout), true) = (&level.mask, looked_at) {
            let one = [Pick { from: 0, to: Some(0) }];
            let mut bits = Samples::U8(mask);
            let mut out = Output { samples: Pixels::of(&mut bits), bands: 1, mask: &mut [] };
            Part { layout, picks: &one, nodata: None, ..part }.decode(blocks, &mut out)?;
            mask = if let Samples::U8(bits) = bits { bits } else { Vec::new() };
        }
        let valid = if masked { Valid::Mask(&mask) } else { nodata.map_or(Valid::All, Valid::Not) };
        let value = mask::mark(&mut samples, bands, &valid, want.nodata);
        mask::clear(&mut samples, want.bands);

        let (x, y) = (x0 * factor, y0 * factor);
        let (right, bottom) = (x1.saturating_mul(factor), y1.saturating_mul(factor));
        let rect = Rect { x, y, width: right.min(self.width()) - x, height: bottom.min(self.height()) - y };
        let said = level.mask.is_some() || nodata.is_some() || alpha.is_some();
        let nodata = if integers { value.filter(|_| said) } else { Some(f32::NAN) };
        Ok(Raster { shrink: factor, nodata, ..Raster::new(rect, bands as u16, samples) })
    }

    /// The smallest copy of the image that is no smaller than 1 / `shrink` of it, and what part of the size it has.
    fn level(&self, shrink: u32, rect: Rect) -> (u32, &Level) {
        let factors = self.overviews.iter().filter_map(|level| Some((self.factor(&level.image)?, level)));
        // Some writers leave out a last row or column that would show less than the others.
        let holds = |factor: u32, image: &Layout| {
            (rect.x + rect.width).div_ceil(factor) <= image.width
                && (rect.y + rect.height).div_ceil(factor) <= image.height
        };
        factors
            .filter(|(factor, level)| *factor <= shrink && holds(*factor, &level.image))
            .max_by_key(|(factor, _)| *factor)
            .unwrap_or((1, &self.full))
    }

    /// By what an overview's size divides the image's; None if by no whole number.
    fn factor(&self, overview: &Layout) -> Option<u32> {
        let (width, height) = (self.width(), self.height());
        let near = (f64::from(width) / f64::from(overview.width)).round() as u32;
        // Where several numbers would do, it is the power of two.
        [near.next_power_of_two(), near].into_iter().find(|&factor| {
            let fits = |side: u32, its: u32| its == side / factor || its == side.div_ceil(factor);
            factor > 1 && fits(width, overview.width) && fits(height, overview.height)
        })
    }

    /// Samples of the file that become bands, and how many bands that makes.
    fn picks(&self, bands: Option<&[Option<u16>]>, alpha: Option<u16>) -> Result<(Vec<Pick>, usize)> {
        let mut picks: Vec<Pick> = match bands {
            None => (0..self.bands()).map(|band| Pick { from: band, to: Some(usize::from(band)) }).collect(),
            Some(bands) => {
                let wanted = bands.iter().enumerate().filter_map(|(to, band)| Some((to, (*band)?)));
                wanted.map(|(to, band)| Pick { from: band, to: Some(to) }).collect()
            }
        };
        let last = bands.into_iter().flatten().flatten().max();
        if let Some(last) = last.filter(|&&last| last >= self.bands()) {
            return Err(self.reader.bad(format!("has {} bands, where number {last} (from 0) is wanted", self.bands())));
        }
        picks.extend(alpha.map(|from| Pick { from, to: None }));
        Ok((picks, bands.map_or(usize::from(self.bands()), <[_]>::len)))
    }

    /// The memory that is left for reading blocks.
    fn room(&self, level: &Level, pixels: u64, bands: usize, masked: bool, max_bytes: u64) -> Result<u64> {
        let image = &level.image;
        let sample = u64::from(self.dtype().bits() / 8);
        let numbers = u64::from(image.palette.is_some()) + u64::from(masked);
        let held = pixels.saturating_mul((sample * bands as u64).saturating_add(numbers));
        let block = |layout: &Layout| layout.unpacked_bytes();
        let most = block(image).max(level.mask.as_ref().map_or(0, block));
        if held.saturating_add(most) > max_bytes {
            return Err(self.reader.bad(format!(
                "claims {pixels} pixels of {bands} bands and strips or tiles of {} x {}, {} MiB to decode, over the limit \
                 of {} MiB",
                image.block.0,
                image.block.1,
                held.saturating_add(most) >> 20,
                max_bytes >> 20
            )));
        }
        Ok(max_bytes - held)
    }

    /// The colours that a palette has for `numbers`; which of these are data goes to `mask`, if it is looked at.
    fn colors(
        &self,
        numbers: &Samples,
        bands: Option<&[Option<u16>]>,
        nodata: Option<f64>,
        mask: &mut [u8],
    ) -> Result<Samples> {
        let (Samples::U8(numbers), Some(map)) = (numbers, self.full.image.palette) else {
            return Err(Error::Internal("a palette's numbers are bytes".into()));
        };
        let mut window = Window::default();
        let color = |n| Ok(self.reader.number(&mut window, map, n)? as u16);
        let colors = mask::colors(&(0..map.count).map(color).collect::<Result<Vec<_>>>()?);
        let bands = bands.unwrap_or(&[Some(0), Some(1), Some(2)]);
        let mut out = Vec::with_capacity(numbers.len() * bands.len());
        for &number in numbers {
            let color =
                |band: &Option<u16>| band.map_or(0, |band| colors[usize::from(band) * 256 + usize::from(number)]);
            out.extend(bands.iter().map(color));
        }
        if let Some(nodata) = nodata {
            for (valid, &number) in mask.iter_mut().zip(numbers) {
                *valid = u8::from(number != nodata as u8);
            }
        }
        Ok(Samples::U8(out))
    }
}

fn same_size(a: &Layout, b: &Layout) -> bool {
    (a.width, a.height) == (b.width, b.height)
}

/// Whether this is a mask's layout: one band of bits or bytes.
fn is_mask(layout: &Layout) -> bool {
    layout.samples == 1 && matches!(layout.dtype, None | Some(Dtype::Uint8))
}

fn mask(reader: &Reader<'_>, layout: Layout, image: &Layout) -> Result<Layout> {
    if !is_mask(&layout) || !same_size(&layout, image) {
        return Err(reader.bad("not read here: a mask of another size or type than usual"));
    }
    Ok(layout)
}
