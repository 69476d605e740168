//! The floor under the loader's benchmark: libjpeg-turbo and `fast_image_resize` alone, on the crops that the loader
//! would make, from files in memory, without a pipeline around them.
//!
//! One JSON request a line comes in, one reply a line goes out, as in `benches/serve.py`: `{"job": {...}}` reads the
//! files, `{"pass": k}` makes the crops of the loader's epoch k: `{"pairs": n, "secs": s, "images_per_sec": r}`.

use std::error::Error;
use std::ffi::CStr;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use geossl_core::crop::{self, CropSpec, Cut, Rect};
use geossl_core::order::Permutation;
use geossl_core::pairs::{Pairs, Places};
use geossl_core::rng::{Draws, Stage};
use serde::Deserialize;
use serde_json::json;
use turbojpeg::raw;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A line of the input: one of the two.
#[derive(Deserialize)]
struct Request {
    job: Option<Job>,
    pass: Option<u64>,
}

/// What is to be done in every pass.
#[derive(Deserialize)]
struct Job {
    files: Vec<PathBuf>,
    places: Vec<i32>,
    temporal: bool,
    threads: usize,
    pairs: usize,
    seed: u64,
    size: u32,
    scale: (f64, f64),
}

/// Everything that the threads share.
struct Work {
    files: Vec<Vec<u8>>,
    partners: Pairs,
    temporal: bool,
    seed: u64,
    spec: CropSpec,
    pairs: usize,
}

/// What a thread keeps from image to image.
struct Tools {
    handle: raw::tjhandle,
    resizer: Resizer,
    pixels: Vec<u8>,
    view: Vec<u8>,
}

impl Tools {
    fn new() -> Outcome<Self> {
        // SAFETY: a plain constructor; null is checked.
        let handle = unsafe { raw::tj3Init(raw::TJINIT_TJINIT_DECOMPRESS as libc::c_int) };
        if handle.is_null() {
            return Err("libjpeg-turbo gave no decompressor".into());
        }
        Ok(Self { handle, resizer: Resizer::new(), pixels: Vec::new(), view: Vec::new() })
    }

    fn check(&self, code: libc::c_int) -> Outcome<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the handle is valid; the string is the handle's, NUL-terminated, and copied before the next call.
        Err(unsafe { CStr::from_ptr(raw::tj3GetErrorStr(self.handle)) }.to_string_lossy().into())
    }

    fn get(&self, param: raw::TJPARAM) -> u32 {
        // SAFETY: the handle is valid.
        u32::try_from(unsafe { raw::tj3Get(self.handle, param as libc::c_int) }).unwrap_or(0)
    }

    fn header(&self, file: &[u8]) -> Outcome<(u32, u32)> {
        // SAFETY: the handle is valid; the pointer and length describe `file`, which outlives the call.
        let code = unsafe { raw::tj3DecompressHeader(self.handle, file.as_ptr(), file.len() as raw::size_t) };
        self.check(code)?;
        Ok((self.get(raw::TJPARAM_TJPARAM_JPEGWIDTH), self.get(raw::TJPARAM_TJPARAM_JPEGHEIGHT)))
    }

    /// Decodes `wanted`, after `header`, its left edge moved to a block's as libjpeg-turbo asks. What was decoded.
    fn decode(&mut self, file: &[u8], wanted: Rect) -> Outcome<Rect> {
        let block = match self.get(raw::TJPARAM_TJPARAM_SUBSAMP) as libc::c_uint {
            s if s == raw::TJSAMP_TJSAMP_444 as libc::c_uint || s == raw::TJSAMP_TJSAMP_GRAY as libc::c_uint => 8,
            s if s == raw::TJSAMP_TJSAMP_411 as libc::c_uint => 32,
            _ => 16,
        };
        let x = wanted.x / block * block;
        let rect = Rect { x, width: wanted.width + wanted.x - x, ..wanted };
        let side = |pixels: u32| pixels as libc::c_int;
        let region = raw::tjregion { x: side(rect.x), y: side(rect.y), w: side(rect.width), h: side(rect.height) };
        // SAFETY: the handle is valid and holds a header; a region that it does not take is an error.
        let code = unsafe { raw::tj3SetCroppingRegion(self.handle, region) };
        self.check(code)?;
        self.pixels.resize(rect.width as usize * rect.height as usize * 3, 0);
        // SAFETY: `pixels` holds the region's rows of width * 3 bytes, which is what a pitch of 0 means.
        let code = unsafe {
            raw::tj3Decompress8(
                self.handle,
                file.as_ptr(),
                file.len() as raw::size_t,
                self.pixels.as_mut_ptr(),
                0,
                raw::TJPF_TJPF_RGB as libc::c_int,
            )
        };
        self.check(code)?;
        Ok(rect)
    }

    fn resize(&mut self, decoded: Rect, window: Rect, size: u32) -> Outcome<()> {
        self.view.resize((size * size * 3) as usize, 0);
        let image = ImageRef::new(decoded.width, decoded.height, &self.pixels, PixelType::U8x3)?;
        let (left, top) = (window.x - decoded.x, window.y - decoded.y);
        let part = CroppedImage::new(&image, left, top, window.width, window.height)?;
        let mut out = Image::from_slice_u8(size, size, &mut self.view, PixelType::U8x3)?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        Ok(self.resizer.resize(&part, &mut out, &options)?)
    }
}

// SAFETY: a TurboJPEG handle may move between threads; only concurrent use is forbidden, and every use is `&mut`.
unsafe impl Send for Tools {}

impl Drop for Tools {
    fn drop(&mut self) {
        // SAFETY: the handle came from tj3Init and is destroyed once.
        unsafe { raw::tj3Destroy(self.handle) };
    }
}

impl Work {
    /// Both views of the sample at `position`, as the loader draws them.
    fn pair(&self, tools: &mut Tools, order: &Permutation, epoch: u64, position: u64) -> Outcome<()> {
        let row = order.get(position) as usize;
        let partner = if self.temporal {
            self.partners.partners(row, 2, |view| Draws::new(self.seed, epoch, position, view, Stage::Partner))[0]
        } else {
            row
        };
        let window = |view: u8, size: (u32, u32)| {
            let mut draws = Draws::new(self.seed, epoch, position, view, Stage::Crop);
            crop::geometry(Cut::RandomResized, &self.spec, size, &mut draws).window
        };
        let file = |row: usize| self.files[row % self.files.len()].as_slice();
        let size = tools.header(file(row))?;
        let first = window(0, size);
        if partner == row {
            let second = window(1, size);
            let decoded = tools.decode(file(row), first.union(second))?;
            tools.resize(decoded, first, self.spec.size)?;
            return tools.resize(decoded, second, self.spec.size);
        }
        let decoded = tools.decode(file(row), first)?;
        tools.resize(decoded, first, self.spec.size)?;
        let size = tools.header(file(partner))?;
        let second = window(1, size);
        let decoded = tools.decode(file(partner), second)?;
        tools.resize(decoded, second, self.spec.size)
    }

    /// All pairs of an epoch.
    fn pass(&self, tools: &mut [Tools], epoch: u64) -> Outcome<()> {
        let order = Permutation::new(self.pairs as u64, self.seed, epoch);
        let next = AtomicU64::new(0);
        let work = |own: &mut Tools| {
            loop {
                let position = next.fetch_add(1, Ordering::Relaxed);
                if position >= self.pairs as u64 {
                    return Ok(());
                }
                self.pair(own, &order, epoch, position)?;
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = tools.iter_mut().map(|own| scope.spawn(|| work(own))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
        })
    }
}

impl Job {
    fn read(self) -> Outcome<(Work, Vec<Tools>)> {
        let work = Work {
            files: self.files.iter().map(std::fs::read).collect::<Result<_, _>>()?,
            // A pass may be longer than the set: then its rows repeat, as those that the loader is given do.
            partners: Pairs::uniform(Places::new(
                &self.places.iter().copied().cycle().take(self.pairs).collect::<Vec<_>>(),
            )),
            temporal: self.temporal,
            seed: self.seed,
            spec: CropSpec { scale: self.scale, ..CropSpec::new(self.size) },
            pairs: self.pairs,
        };
        Ok((work, (0..self.threads.max(1)).map(|_| Tools::new()).collect::<Outcome<_>>()?))
    }
}

fn main() -> Outcome<()> {
    let mut current = None;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let reply = match (request.job, request.pass, &mut current) {
            (Some(job), ..) => {
                current = Some(job.read()?);
                json!({ "ready": true })
            }
            (None, Some(epoch), Some((work, tools))) => {
                let started = Instant::now();
                work.pass(tools, epoch)?;
                let secs = started.elapsed().as_secs_f64();
                json!({ "pairs": work.pairs, "secs": secs, "images_per_sec": 2.0 * work.pairs as f64 / secs })
            }
            _ => return Err("a request is a job, or after one a pass".into()),
        };
        writeln!(out, "{reply}")?;
    }
    Ok(())
}
