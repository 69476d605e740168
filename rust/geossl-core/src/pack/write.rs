//! Making a pack: images in, shards out, in order, by many threads; what is whole stays when the work is ended.

use std::fs::File;
use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::make::{Made, Scratch, compare, make};
use super::shards::{ALIGN, END, Footer, MAGIC, Shards, read_footer};
use crate::parallel::{ordered, resolve_threads};
use crate::sample::ForeignImages;
use crate::{Error, Result};

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
    /// Those of `items` that another library reads, if there are any.
    pub foreign: Option<ForeignImages>,
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
            let record = shards.record(&item.path, shard, offset)?;
            compare(job, number, &record, scratch).map_err(|e| shards.located(e, shard, offset)).map(Some)
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
