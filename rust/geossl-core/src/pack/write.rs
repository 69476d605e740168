//! Making a pack: images in, shards out, in order, by many threads; what is whole stays when the work is ended.

use std::fs::File;
use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::blocks;
use super::record::{Codec, Record};
use super::segments::Transcoder;
use super::shards::{ALIGN, END, Footer, MAGIC, Shards, read_footer};
use crate::crop::{self, Rect};
use crate::decode::markers::Markers;
use crate::decode::{self, Decoders, Input, Raster, Samples, Want};
use crate::parallel::{ordered, resolve_threads};
use crate::resize::Resampler;
use crate::{Error, Result};

/// Every so many images of a lossy pack the loss is measured.
const MEASURED: u64 = 16;

/// An image that is to be packed.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its file.
    pub path: PathBuf,
    /// Box [x, y, width, height], pixels, if not the whole image; of a sized pack.
    pub bounds: Option<[i32; 4]>,
}

/// What becomes of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All pixels, exactly: JPEGs by their coefficients, others in tiles.
    Lossless,
    /// The box and its context, resized.
    Sized {
        /// The short side becomes this, pixels; smaller images stay as they are.
        short_side: u32,
        /// Of the JPEG that 8-bit RGB becomes, 1 to 100; None keeps the samples as they are.
        quality: Option<u8>,
        /// Widen boxes by fMoW's context.
        context: bool,
    },
}

/// A part of a pack that is to be made.
#[derive(Debug)]
pub struct Job {
    /// All images of the pack.
    pub items: Vec<Item>,
    /// Those of this part.
    pub range: Range<u64>,
    /// What becomes of them.
    pub form: Form,
    /// Threads; 0 is all cores.
    pub threads: usize,
    /// Folder of this part's shards, which no other process may write to.
    pub folder: PathBuf,
    /// A shard is closed when it is larger.
    pub shard_bytes: u64,
    /// Largest decoded image, bytes.
    pub max_image_bytes: u64,
}

/// How far the work has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Images done, packed or not, with those of an earlier run.
    pub done: u64,
    /// Of them, done by an earlier run.
    pub earlier: u64,
    /// Of them, not packed.
    pub failed: u64,
    /// Bytes of files read in this run.
    pub bytes_in: u64,
    /// Bytes written in this run.
    pub bytes_out: u64,
    /// Sum of squared differences between what was to be kept and what is, over the samples looked at.
    pub squared: f64,
    /// Samples looked at.
    pub samples: u64,
}

/// What a thread keeps from image to image.
#[derive(Default)]
struct Scratch {
    decoders: Decoders,
    transcoder: Transcoder,
    resampler: Resampler,
    file: Vec<u8>,
}

/// A record, the bytes of its file, and the loss, where it was measured.
struct Made {
    record: Vec<u8>,
    read: u64,
    loss: (f64, u64),
}

/// Name of a part's shard.
pub fn shard_name(number: usize) -> String {
    format!("{number:05}.shard")
}

/// Packs the images that no whole shard of this part holds yet. `progress` is called some times a second; where it
/// fails, the work ends with that error, and what was packed is kept. Unreadable images are left out, with a reason.
pub fn write(job: &Job, mut progress: impl FnMut(&Progress) -> Result<()>) -> Result<Progress> {
    // Held until the work has ended; it goes with the process, however that ends.
    let _lock = lock(&job.folder)?;
    let mut writer = Writer { job, number: 0, open: None, progress: Progress::default() };
    let first = writer.resume()?;
    progress(&writer.progress)?;
    let worked = ordered(
        resolve_threads(job.threads),
        first..job.range.end,
        |number, scratch: &mut Scratch| make(job, number, scratch),
        |result| {
            if let Some((number, made)) = result {
                writer.take(number, made)?;
            }
            progress(&writer.progress)
        },
    );
    // What was packed before an error or an interruption is kept.
    let closed = writer.close();
    worked.and(closed)?;
    Ok(writer.progress)
}

/// Locks a folder against other processes that pack into it.
fn lock(folder: &Path) -> Result<File> {
    let file = File::open(folder).map_err(|e| Error::io(folder, &e))?;
    // SAFETY: the descriptor is open for as long as `file`.
    let code = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    match (code, std::io::Error::last_os_error()) {
        (0, _) => Ok(file),
        (_, e) if e.kind() == std::io::ErrorKind::WouldBlock => {
            Err(Error::Argument(format!("{}: another process is packing this part", folder.display())))
        }
        // A file system without locks: two processes at once are then the user's to avoid.
        _ => Ok(file),
    }
}

/// Reads every packed image of the job back and compares it with its file. `at` is the (shard, offset) of each item,
/// shard -1 where it could not be packed. Returns the numbers of those that differ, with the reason.
pub fn verify(
    job: &Job,
    shards: &Shards,
    at: &[(i64, u64)],
    mut progress: impl FnMut(&Progress) -> Result<()>,
) -> Result<(Progress, Vec<(u64, String)>)> {
    let (mut state, mut differ) = (Progress::default(), Vec::new());
    ordered(
        resolve_threads(job.threads),
        job.range.clone(),
        |number, scratch: &mut Scratch| {
            let (shard, offset) = at.get(number as usize).copied().unwrap_or((-1, 0));
            let Ok(shard) = u32::try_from(shard) else { return Ok(None) };
            let item = &job.items[number as usize];
            let (kept, read) = kept(job, item, scratch)?;
            let record = shards.record(&item.path, shard, offset)?;
            let loss = loss(&item.path, &record, &kept, &mut scratch.decoders);
            let (squared, samples) = loss.map_err(|e| shards.located(e, shard, offset))?;
            if lossy(job.form, &kept) {
                return Ok(Some((read, squared, samples)));
            }
            if squared > 0.0 {
                return Err(Error::data(&item.path, "its pixels in the pack differ from the file's"));
            }
            Ok(Some((read, 0.0, 0)))
        },
        |result: Option<(u64, Result<Option<_>>)>| {
            if let Some((number, outcome)) = result {
                state.done += 1;
                match outcome {
                    Ok(Some((read, squared, samples))) => {
                        state.bytes_in += read;
                        state.squared += squared;
                        state.samples += samples;
                    }
                    Ok(None) => state.failed += 1,
                    Err(error) => differ.push((number, error.to_string())),
                }
            }
            progress(&state)
        },
    )?;
    Ok((state, differ))
}

/// The shards of a part, as they are written.
struct Writer<'a> {
    job: &'a Job,
    /// Of the next shard.
    number: usize,
    open: Option<Shard>,
    progress: Progress,
}

impl Writer<'_> {
    /// Counts what whole shards hold; the first image that none does.
    fn resume(&mut self) -> Result<u64> {
        let mut first = self.job.range.start;
        loop {
            let path = self.job.folder.join(shard_name(self.number));
            if !path.exists() {
                return Ok(first);
            }
            let footer = read_footer(&path)?;
            if footer.first != first || first + footer.count > self.job.range.end {
                return Err(Error::data(&path, "holds images of another part: delete it, or give another folder"));
            }
            self.number += 1;
            first += footer.count;
            self.progress.done += footer.count;
            self.progress.earlier += footer.count;
            self.progress.failed += footer.failures.len() as u64;
        }
    }

    fn take(&mut self, number: u64, made: Result<Made>) -> Result<()> {
        let shard = match self.open.take() {
            Some(shard) => shard,
            None => Shard::create(&self.job.folder, &shard_name(self.number), number)?,
        };
        let shard = self.open.insert(shard);
        let mut left_out = None;
        match made {
            Ok(made) => {
                shard.append(number, &made.record)?;
                self.progress.bytes_in += made.read;
                self.progress.bytes_out += made.record.len() as u64;
                self.progress.squared += made.loss.0;
                self.progress.samples += made.loss.1;
            }
            // Broken, or not there, or not to be read.
            Err(
                Error::Data { reason, .. }
                | Error::Io { kind: NotFound | PermissionDenied | NotADirectory, reason, .. },
            ) => left_out = Some(reason),
            // A file system in trouble is not the image's fault: the work ends, and goes on another time.
            Err(error) => return Err(error),
        }
        if let Some(reason) = left_out {
            shard.footer.failures.push((number, reason));
            self.progress.failed += 1;
        }
        shard.footer.count += 1;
        self.progress.done += 1;
        if shard.len >= self.job.shard_bytes { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        if let Some(shard) = self.open.take() {
            self.number += 1;
            shard.finish()?;
        }
        Ok(())
    }
}

/// A shard that is being written, under a temporary name.
struct Shard {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    len: u64,
    footer: Footer,
}

impl Shard {
    fn create(folder: &Path, name: &str, first: u64) -> Result<Self> {
        // What a killed process left under this name is overwritten.
        let temporary = folder.join(format!("{name}.part"));
        let file = File::create(&temporary).map_err(|e| Error::io(&temporary, &e))?;
        let footer = Footer { first, ..Footer::default() };
        let mut shard =
            Self { path: folder.join(name), temporary, file: BufWriter::with_capacity(1 << 20, file), len: 0, footer };
        shard.put(MAGIC)?;
        Ok(shard)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, &e))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn append(&mut self, number: u64, record: &[u8]) -> Result<()> {
        let offset = self.len.next_multiple_of(ALIGN);
        self.put(&[0; ALIGN as usize][..(offset - self.len) as usize])?;
        self.put(record)?;
        self.footer.records.push((number, offset, record.len() as u64));
        Ok(())
    }

    /// Writes the footer, and gives the file its name once it is on the disk.
    fn finish(mut self) -> Result<()> {
        let text = serde_json::to_vec(&self.footer).map_err(|e| Error::Internal(format!("a footer: {e}")))?;
        let mut tail = (text.len() as u64).to_le_bytes().to_vec();
        tail.extend(crc32fast::hash(&text).to_le_bytes());
        tail.extend(END);
        self.put(&text)?;
        self.put(&tail)?;
        let io = |e: std::io::Error| Error::io(&self.path, &e);
        self.file.flush().map_err(io)?;
        self.file.get_ref().sync_all().map_err(io)?;
        std::fs::rename(&self.temporary, &self.path).map_err(io)
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        // A shard that was not finished is of no use; after `finish` there is no file of this name.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// The record of an image.
fn make(job: &Job, number: u64, scratch: &mut Scratch) -> Result<Made> {
    let item = &job.items[number as usize];
    if job.form == Form::Lossless {
        let input = Input::open(&item.path, &mut scratch.file, job.max_image_bytes)?;
        let read = input.bytes_read();
        scratch.decoders.bytes_read = 0;
        let image = decode::open(&item.path, input, &mut scratch.decoders, job.max_image_bytes)?;
        if let Some(jpeg) = image.jpeg()
            && let Some(record) = scratch.transcoder.transcode(&item.path, jpeg)?
        {
            // A decoder smooths a progressive image that lacks its last scans, which its coefficients do not tell.
            let same = !Markers::read(jpeg).progressive || {
                let whole = image.decode(Want::all(image.rect()), &mut scratch.decoders)?;
                loss(&item.path, &Record::parse(&item.path, &record)?, &whole, &mut scratch.decoders)?.0 == 0.0
            };
            if same {
                return Ok(Made { record, read, loss: (0.0, 0) });
            }
        }
        let whole = image.decode(Want::all(image.rect()), &mut scratch.decoders)?;
        // Of a TIFF; what was opened as a JPEG or PNG reads no more.
        let read = read + scratch.decoders.bytes_read;
        return Ok(Made { record: blocks::pack(&whole, Codec::Zstd)?, read, loss: (0.0, 0) });
    }
    let (kept, read) = kept(job, item, scratch)?;
    let size = (kept.rect.width, kept.rect.height);
    let record = match (&kept.samples, job.form) {
        (Samples::U8(rgb), Form::Sized { quality: Some(quality), .. }) if lossy(job.form, &kept) => {
            scratch.transcoder.compress(&item.path, rgb, size, quality)?
        }
        (_, Form::Sized { quality: None, .. }) => blocks::pack(&kept, Codec::Raw)?,
        _ => blocks::pack(&kept, Codec::Zstd)?,
    };
    let measured = number.is_multiple_of(MEASURED) && lossy(job.form, &kept);
    let loss = if measured {
        loss(&item.path, &Record::parse(&item.path, &record)?, &kept, &mut scratch.decoders)?
    } else {
        (0.0, 0)
    };
    Ok(Made { record, read, loss })
}

/// Whether the pixels lose something by being packed, after the resize.
fn lossy(form: Form, kept: &Raster) -> bool {
    matches!(form, Form::Sized { quality: Some(_), .. }) && kept.bands == 3 && matches!(kept.samples, Samples::U8(_))
}

/// The pixels that a pack is to keep of an image, and the bytes of its file.
fn kept(job: &Job, item: &Item, scratch: &mut Scratch) -> Result<(Raster, u64)> {
    let input = Input::open(&item.path, &mut scratch.file, job.max_image_bytes)?;
    let read = input.bytes_read();
    scratch.decoders.bytes_read = 0;
    let image = decode::open(&item.path, input, &mut scratch.decoders, job.max_image_bytes)?;
    let region = match job.form {
        Form::Lossless => image.rect(),
        Form::Sized { context, .. } => image.region(item.bounds, context)?,
    };
    let raster = image.decode(Want::all(region), &mut scratch.decoders)?;
    let read = read + scratch.decoders.bytes_read;
    let Form::Sized { short_side, .. } = job.form else { return Ok((raster, read)) };
    let size = if region.width.min(region.height) > short_side {
        crop::resized(region.width, region.height, short_side)
    } else {
        (region.width, region.height)
    };
    let kept = scratch.resampler.whole(&raster, region, size)?;
    scratch.decoders.recycle(raster);
    Ok((kept, read))
}

/// (sum of squared differences, samples) between a record and what it should show.
fn loss(path: &Path, record: &Record<'_>, kept: &Raster, decoders: &mut Decoders) -> Result<(f64, u64)> {
    let image = decode::packed(path, *record, u64::MAX)?;
    let packed = image.decode(Want::all(image.rect()), decoders)?;
    let whole = |raster: &Raster| Rect { x: 0, y: 0, ..raster.rect };
    if whole(&packed) != whole(kept) || packed.bands != kept.bands {
        return Err(Error::data(path, "its size in the pack is another than the file's"));
    }
    let squares =
        |pairs: &mut dyn Iterator<Item = (i32, i32)>| -> f64 { pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum() };
    let squared = match (&packed.samples, &kept.samples) {
        (Samples::U8(a), Samples::U8(b)) if a.len() == b.len() => {
            squares(&mut a.iter().zip(b).map(|(a, b)| (i32::from(*a), i32::from(*b))))
        }
        (Samples::U16(a), Samples::U16(b)) if a.len() == b.len() => {
            squares(&mut a.iter().zip(b).map(|(a, b)| (i32::from(*a), i32::from(*b))))
        }
        _ => return Err(Error::data(path, "its samples in the pack are of another kind than the file's")),
    };
    let samples = match &kept.samples {
        Samples::U8(values) => values.len(),
        Samples::U16(values) => values.len(),
        Samples::F32(values) => values.len(),
    };
    Ok((squared, samples as u64))
}
