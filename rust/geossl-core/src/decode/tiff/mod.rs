//! TIFF and `BigTIFF`: only the directories and the strips or tiles under the wanted rectangle are read.

mod geo;
mod ifd;
mod layout;
mod old;
mod tags;

use std::path::Path;

pub use geo::GeoHeader;
use ifd::{Directory, Reader, Window};
use layout::Layout;
pub use old::{decode, header};

use super::Input;
use super::dtype::Dtype;
use crate::Result;

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
        Ok(Self { reader, directory, full, overviews, alpha, nodata })
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
        if image.palette.is_some() { 3 } else { image.samples - u16::from(self.alpha.is_some()) }
    }

    /// Type of the samples in the file.
    pub fn dtype(&self) -> Dtype {
        // An image of bits was refused.
        self.full.image.dtype.unwrap_or(Dtype::Uint8)
    }

    /// The value of samples without data; NaN where a mask or alpha says which these are, or where it is NaN.
    pub fn nodata(&self) -> Option<f64> {
        // In the order in which GDAL looks for them.
        let other = self.alpha.map(|_| f64::NAN);
        if self.full.mask.is_some() { Some(f64::NAN) } else { self.nodata.or(other) }
    }

    /// Sizes of the overviews, the largest first.
    pub fn overviews(&self) -> Vec<(u32, u32)> {
        let mut sizes: Vec<_> = self.overviews.iter().map(|level| (level.image.width, level.image.height)).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes
    }

    /// Place and date.
    pub fn geo(&self) -> Result<GeoHeader> {
        geo::read(&self.reader, &mut Window::default(), &self.directory, self.full.image.photometric)
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
