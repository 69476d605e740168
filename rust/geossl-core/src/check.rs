//! Whether images can be decoded, and are what the index says of them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::decode::foreign::{Foreign, Size};
use crate::decode::{self, Decoders, Want};
use crate::parallel::{ordered, resolve_threads};
use crate::sample::ForeignImages;
use crate::{Error, Result};

/// An image that is looked at, and what the index says of it.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its file.
    pub path: PathBuf,
    /// Width and height, pixels, and bands; 0 is unknown.
    pub size: [u32; 3],
    /// Type of the samples in the file; empty is unknown.
    pub dtype: String,
    /// Whether only boxes of it are views, so that all of it need not fit into memory at once.
    pub boxed: bool,
}

/// (number, reason) of the images that cannot be decoded, or are not what the index says. All pixels are decoded, as
/// the loader decodes them; `foreign` are the images that another library reads, which answers for their size itself.
/// The result is the same for any number of threads (0: all cores). `progress` is called with the number of images
/// done, some times a second; where it fails, the work ends with that error.
pub fn broken(
    items: &[Item],
    foreign: Option<&ForeignImages>,
    threads: usize,
    max_image_bytes: u64,
    mut progress: impl FnMut(u64) -> Result<()>,
) -> Result<Vec<(u64, String)>> {
    let (mut failures, mut done) = (Vec::new(), 0);
    let stop = AtomicBool::new(false);
    progress(0)?;
    ordered(
        resolve_threads(threads),
        0..items.len() as u64,
        |number, scratch: &mut Scratch| {
            let foreign = foreign.and_then(|foreign| foreign.get(number as usize));
            scratch.check(&items[number as usize], foreign, max_image_bytes, &stop)
        },
        |result| {
            let take = || {
                if let Some((number, outcome)) = result {
                    done += 1;
                    match outcome {
                        Ok(()) => {}
                        Err(Error::Data { reason, .. } | Error::Io { reason, .. }) => failures.push((number, reason)),
                        Err(error) => return Err(error),
                    }
                }
                progress(done)
            };
            take().inspect_err(|_| stop.store(true, Relaxed))
        },
    )?;
    Ok(failures)
}

/// What a thread keeps from image to image.
#[derive(Default)]
struct Scratch {
    decoders: Decoders,
    file: Vec<u8>,
}

impl Scratch {
    /// Decodes all of an image, unless it is to stop.
    fn check(
        &mut self,
        item: &Item,
        foreign: Option<(&dyn Foreign, Size)>,
        max_bytes: u64,
        stop: &AtomicBool,
    ) -> Result<()> {
        let path = &item.path;
        let image = decode::open_file(path, foreign, &mut self.file, &mut self.decoders, max_bytes)?;
        let size = [image.width, image.height, u32::from(image.bands)];
        let dtype = image.dtype().map_or("", decode::Dtype::name);
        let same = size.iter().zip(item.size).all(|(&found, said)| said == 0 || found == said);
        if !same || !(dtype.is_empty() || item.dtype.is_empty() || dtype == item.dtype) {
            let words = |[w, h, bands]: [u32; 3], dtype: &str| format!("{w} x {h} pixels, {bands} bands {dtype}");
            let (found, said) = (words(size, dtype), words(item.size, &item.dtype));
            return Err(Error::data(path, format!("not what the index says: {found}, where it says {said}")));
        }
        if !item.boxed {
            image.check_bytes(image.rect())?;
        }
        // Where samples lack data is a part of some files that is decoded too.
        let nodata = image.has_nodata.then_some(0);
        for rect in image.parts() {
            if stop.load(Relaxed) {
                break;
            }
            let raster = image.decode(Want { nodata, ..Want::all(rect) }, &mut self.decoders)?;
            self.decoders.recycle(raster);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn gray_png(path: &Path, width: u32, height: u32) {
        let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), width, height);
        encoder.set_color(png::ColorType::Rgb);
        let values: Vec<u8> = (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect();
        encoder.write_header().unwrap().write_image_data(&values).unwrap();
    }

    #[test]
    fn broken_images_are_named_alike_by_any_threads() {
        let folder = tempfile::tempdir().unwrap();
        let mut items = Vec::new();
        for n in 0..20 {
            let path = folder.path().join(format!("{n}.png"));
            gray_png(&path, 30, 20);
            items.push(Item { path, size: [30, 20, 3], dtype: "uint8".into(), boxed: false });
        }
        let whole = std::fs::read(&items[3].path).unwrap();
        std::fs::write(&items[3].path, &whole[..whole.len() / 2]).unwrap();
        std::fs::write(&items[5].path, b"").unwrap();
        std::fs::remove_file(&items[7].path).unwrap();
        items[9].size = [30, 21, 3];
        items[11].dtype = "uint16".into();
        items[13] = Item { size: [0; 3], dtype: String::new(), ..items[13].clone() };
        let found = broken(&items, None, 1, 1 << 20, |_| Ok(())).unwrap();
        assert_eq!(found.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [3, 5, 7, 9, 11]);
        let said =
            "not what the index says: 30 x 20 pixels, 3 bands uint8, where it says 30 x 21 pixels, 3 bands uint8";
        assert_eq!(found[3].1, said);
        for threads in [2, 5] {
            assert_eq!(broken(&items, None, threads, 1 << 20, |_| Ok(())).unwrap(), found);
        }
        // 1,800 bytes of pixels are over the limit.
        assert_eq!(broken(&items[..3], None, 1, 1000, |_| Ok(())).unwrap().len(), 3);
        let mut calls = 0;
        let stopped = broken(&items, None, 2, 1 << 20, |done| {
            calls += 1;
            if done == 4 { Err(Error::Argument("stop".into())) } else { Ok(()) }
        });
        assert!(stopped.is_err() && calls >= 4);
    }
}
