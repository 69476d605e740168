//! The floor under the bench of `GeoTIFF`s: the codecs' libraries alone, on the strips or tiles under the crops that the
//! loader would make, from files in memory. Nothing is put together or resampled.
//!
//! One JSON request a line comes in, one reply a line goes out, as in `benches/serve.py`: `{"job": {...}}` reads the
//! files, `{"windows": k}` gives the crops of the loader's epoch k, `{"pass": k}` decodes what lies under them:
//! `{"pairs": n, "secs": s}`.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use geossl_core::crop::{self, CropSpec, Cut, Rect};
use geossl_core::order::Permutation;
use geossl_core::rng::{Draws, Stage};
use serde::Deserialize;
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A line of the input: one of the three.
#[derive(Deserialize)]
struct Request {
    job: Option<Job>,
    windows: Option<u64>,
    pass: Option<u64>,
}

/// What is to be done in every pass. Samples are little-endian uint16.
#[derive(Deserialize)]
struct Job {
    files: Vec<PathBuf>,
    /// Of each file: offset and length of each strip or tile.
    blocks: Vec<Vec<(usize, usize)>>,
    codec: Codec,
    predictor: u16,
    planar: bool,
    /// Width and height of a strip or tile.
    block: (u32, u32),
    side: u32,
    bands: usize,
    crops: usize,
    seed: u64,
    size: u32,
    scale: (f64, f64),
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Codec {
    None,
    Deflate,
    Zstd,
    Lzw,
}

/// A job with its files, and the libraries' states.
struct Work {
    job: Job,
    files: Vec<Vec<u8>>,
    deflate: libdeflater::Decompressor,
    zstd: zstd::bulk::Decompressor<'static>,
    block: Vec<u8>,
}

impl Work {
    fn new(job: Job) -> Outcome<Self> {
        let files = job.files.iter().map(std::fs::read).collect::<Result<_, _>>()?;
        let bands = if job.planar { 1 } else { job.bands };
        let block = vec![0; job.block.0 as usize * job.block.1 as usize * bands * 2];
        let deflate = libdeflater::Decompressor::new();
        Ok(Self { job, files, deflate, zstd: zstd::bulk::Decompressor::new()?, block })
    }

    /// File and window of each crop of an epoch, as the loader draws them.
    fn windows(&self, epoch: u64) -> Vec<(usize, Rect)> {
        let spec = CropSpec { scale: self.job.scale, flip: 0.0, ..CropSpec::new(self.job.size) };
        let order = Permutation::new(self.job.crops as u64, self.job.seed, epoch);
        (0..self.job.crops as u64)
            .map(|position| {
                let mut draws = Draws::new(self.job.seed, epoch, position, 0, Stage::Crop);
                let size = (self.job.side, self.job.side);
                let window = crop::geometry(Cut::RandomResized, &spec, size, &mut draws).window;
                (order.get(position) as usize % self.files.len(), window)
            })
            .collect()
    }

    /// Decodes the blocks under a window.
    fn crop(&mut self, file: usize, window: Rect) -> Outcome<()> {
        let (block_w, block_h) = self.job.block;
        let (across, down) = (self.job.side.div_ceil(block_w), self.job.side.div_ceil(block_h));
        let planes = if self.job.planar { self.job.bands } else { 1 };
        for plane in 0..planes {
            for row in window.y / block_h..(window.y + window.height).div_ceil(block_h) {
                for column in window.x / block_w..(window.x + window.width).div_ceil(block_w) {
                    let number = (plane * down as usize + row as usize) * across as usize + column as usize;
                    // The last strip may be short.
                    let rows =
                        if block_w == self.job.side { block_h.min(self.job.side - row * block_h) } else { block_h };
                    self.block(file, number, rows)?;
                }
            }
        }
        Ok(())
    }

    fn block(&mut self, file: usize, number: usize, rows: u32) -> Outcome<()> {
        let (start, length) = self.job.blocks[file][number];
        let packed = self.files[file].get(start..start + length).ok_or("a block past the end of its file")?;
        let row = self.block.len() / self.job.block.1 as usize;
        let out = &mut self.block[..row * rows as usize];
        match self.job.codec {
            Codec::None => out.copy_from_slice(packed),
            Codec::Deflate => {
                self.deflate.zlib_decompress(packed, out)?;
            }
            Codec::Zstd => {
                self.zstd.decompress_to_buffer(packed, out)?;
            }
            Codec::Lzw => {
                let mut lzw = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
                let (mut read, mut written) = (0, 0);
                while written < out.len() {
                    let done = lzw.decode_bytes(&packed[read..], &mut out[written..]);
                    if done.consumed_in + done.consumed_out == 0 {
                        return Err("a strip or tile of LZW that is too short".into());
                    }
                    read += done.consumed_in;
                    written += done.consumed_out;
                }
            }
        }
        if self.job.predictor == 2 {
            for line in out.chunks_exact_mut(row) {
                match if self.job.planar { 1 } else { self.job.bands } {
                    1 => undo::<1>(line),
                    8 => undo::<8>(line),
                    12 => undo::<12>(line),
                    other => return Err(format!("{other} bands").into()),
                }
            }
        }
        black_box(&out);
        Ok(())
    }

    fn pass(&mut self, epoch: u64) -> Outcome<()> {
        self.windows(epoch).into_iter().try_for_each(|(file, window)| self.crop(file, window))
    }
}

/// Sums of differences along a row of pixels of `N` samples.
fn undo<const N: usize>(line: &mut [u8]) {
    let mut sums = [0_u16; N];
    let (samples, _) = line.as_chunks_mut::<2>();
    let (pixels, _) = samples.as_chunks_mut::<N>();
    for pixel in pixels {
        for (sample, sum) in pixel.iter_mut().zip(&mut sums) {
            *sum = sum.wrapping_add(u16::from_le_bytes(*sample));
            *sample = sum.to_le_bytes();
        }
    }
}

fn main() -> Outcome<()> {
    let mut current: Option<Work> = None;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let reply = match (request.job, request.windows, request.pass, &mut current) {
            (Some(job), ..) => {
                current = Some(Work::new(job)?);
                json!({ "ready": true })
            }
            (None, Some(epoch), _, Some(work)) => {
                let rows = work.windows(epoch).into_iter().map(|(file, r)| (file, r.x, r.y, r.width, r.height));
                json!({ "windows": rows.collect::<Vec<_>>() })
            }
            (None, None, Some(epoch), Some(work)) => {
                let started = Instant::now();
                work.pass(epoch)?;
                json!({ "pairs": work.job.crops, "secs": started.elapsed().as_secs_f64() })
            }
            _ => return Err("a request is a job, or after one the windows of an epoch, or a pass".into()),
        };
        writeln!(out, "{reply}")?;
    }
    Ok(())
}
