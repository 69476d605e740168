//! Shard files: opened by memory map, and what their footers say.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::{Error, Result};

/// First bytes of a shard: the name and the version of the format.
pub const MAGIC: &[u8; 8] = b"geoslpk2";
/// Bytes of the name.
const NAME: usize = 7;
/// Last bytes of a shard: the footer's length (8 bytes) and checksum (4) lie before them.
pub const END: &[u8; 4] = b"end1";
/// Bytes after the footer.
pub const TAIL: usize = 16;
/// Records start at multiples of this.
pub const ALIGN: u64 = 8;

/// What a shard holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    /// Number, in the pack's list of images, of the first that the shard was given.
    pub first: u64,
    /// How many it was given, packed or not.
    pub count: u64,
    /// (number, offset, length) of each record.
    pub records: Vec<(u64, u64, u64)>,
    /// (number, reason) of each image that could not be packed.
    pub failures: Vec<(u64, String)>,
}

/// Fails unless the file starts as a shard of this version does; `what` is what it should have been.
fn check_magic(path: &Path, start: Option<&[u8]>, what: &str) -> Result<()> {
    match start {
        Some(magic) if magic == MAGIC => Ok(()),
        Some(magic) if magic[..NAME] == MAGIC[..NAME] => {
            Err(Error::data(path, "a shard of another version of geossl: pack the images again, into another folder"))
        }
        _ => Err(Error::data(path, format!("not a {what} of a pack"))),
    }
}

/// Reads a shard's footer. Fails if the file is not a whole shard.
pub fn read_footer(path: &Path) -> Result<Footer> {
    let io = |e: std::io::Error| Error::io(path, &e);
    let bad = || Error::data(path, "not a whole shard of a pack");
    let mut file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    if len < (MAGIC.len() + TAIL) as u64 {
        return Err(bad());
    }
    let (mut magic, mut tail) = ([0; MAGIC.len()], [0; TAIL]);
    file.read_exact(&mut magic).map_err(io)?;
    check_magic(path, Some(&magic), "whole shard")?;
    file.seek(SeekFrom::Start(len - TAIL as u64)).map_err(io)?;
    file.read_exact(&mut tail).map_err(io)?;
    let size = u64::from_le_bytes([tail[0], tail[1], tail[2], tail[3], tail[4], tail[5], tail[6], tail[7]]);
    let crc = u32::from_le_bytes([tail[8], tail[9], tail[10], tail[11]]);
    if &tail[12..] != END || size > len - TAIL as u64 {
        return Err(bad());
    }
    let mut text = vec![0; size as usize];
    file.seek(SeekFrom::Start(len - TAIL as u64 - size)).map_err(io)?;
    file.read_exact(&mut text).map_err(io)?;
    if crc32fast::hash(&text) != crc {
        return Err(Error::data(path, "its footer is damaged (checksum)"));
    }
    serde_json::from_slice(&text).map_err(|_| bad())
}

/// The shards of a pack, in memory maps.
#[derive(Debug)]
pub struct Shards {
    maps: Vec<(PathBuf, Mmap)>,
}

impl Shards {
    /// Opens the files. They must not be changed or cut while they are open: they are memory.
    pub fn open(paths: Vec<PathBuf>) -> Result<Self> {
        let open = |path: PathBuf| {
            let file = File::open(&path).map_err(|e| Error::io(&path, &e))?;
            // SAFETY: a shard is written once, under another name, and never changed; what is read from the map is
            // checked by checksums and lengths, and never trusted to stay as it was.
            let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(&path, &e))?;
            check_magic(&path, map.get(..MAGIC.len()), "shard")?;
            Ok((path, map))
        };
        paths.into_iter().map(open).collect::<Result<_>>().map(|maps| Self { maps })
    }

    /// The record at an offset of a shard; errors name the image, `path`, and the shard.
    pub fn record(&self, path: &Path, shard: u32, offset: u64) -> Result<Record<'_>> {
        let bytes = self.maps.get(shard as usize).and_then(|(_, map)| map.get(offset as usize..));
        Record::parse(path, bytes.unwrap_or_default()).map_err(|error| self.located(error, shard, offset))
    }

    /// Tells the system that the record, `length` bytes long, will be read soon.
    pub fn advise(&self, shard: u32, offset: u64, length: u64) {
        if let Some((_, map)) = self.maps.get(shard as usize) {
            // A hint: what it does not take, reading takes later.
            let _ = map.advise_range(memmap2::Advice::WillNeed, offset as usize, length as usize);
        }
    }

    /// The error with the place in the pack that it is about.
    pub fn located(&self, error: Error, shard: u32, offset: u64) -> Error {
        match error {
            Error::Data { path, reason } => {
                let name = self.maps.get(shard as usize).map_or_else(
                    || format!("no shard {shard}"),
                    |(file, _)| file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                );
                Error::Data { path, reason: format!("{reason}, {name} at byte {offset}") }
            }
            other => other,
        }
    }
}
