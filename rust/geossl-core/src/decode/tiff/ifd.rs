//! A TIFF's directories: what they list, read from the file as it is needed.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;

use crate::decode::Input;
use crate::{Error, Result};

/// Directories that are looked at: the image, its mask, its overviews and theirs; pages after that are not.
const MAX_DIRECTORIES: usize = 256;
/// Entries of a directory. There are some hundred known tags.
const MAX_ENTRIES: u64 = 4096;
/// Bytes of one read of directories and lists.
const WINDOW_BYTES: usize = 4096;
/// Longest text, bytes.
const MAX_TEXT: u64 = 1 << 20;

/// An opened TIFF.
pub struct Reader<'a> {
    pub path: &'a Path,
    input: Input<'a>,
    len: u64,
    little: bool,
    big: bool,
}

/// What a directory says of a tag.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    tag: u16,
    kind: u16,
    pub count: u64,
    /// Where the values lie in the file; small ones lie in the directory.
    pub at: u64,
}

/// A directory's entries.
#[derive(Debug, Default)]
pub struct Directory(Vec<Entry>);

/// A piece of the file in memory, so that neighbouring values take one read.
#[derive(Default)]
pub struct Window {
    at: u64,
    bytes: Vec<u8>,
    len: usize,
    /// Bytes read so far.
    pub read: u64,
}

impl Directory {
    pub fn get(&self, tag: u16) -> Option<Entry> {
        self.0.iter().find(|entry| entry.tag == tag).copied()
    }
}

impl Entry {
    /// Bytes of a value.
    pub fn size(self) -> u64 {
        match self.kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            _ => 8,
        }
    }
}

impl<'a> Reader<'a> {
    pub fn new(path: &'a Path, input: Input<'a>) -> Result<Self> {
        let len = input.len().map_err(|e| Error::io(path, &e))?;
        Ok(Self { path, input, len, little: true, big: false })
    }

    /// An error about this file.
    pub fn bad(&self, reason: impl Into<String>) -> Error {
        Error::data(self.path, reason)
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the bytes of a number stand in the reverse order.
    pub fn big_endian(&self) -> bool {
        !self.little
    }

    /// The `len` bytes from `at`, which may come to lie in `buffer`.
    pub fn read<'b>(&'b self, at: u64, len: usize, buffer: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(self.bad(format!(
                "the TIFF is broken or cut short: {len} bytes at {at} lie outside the file of {} bytes",
                self.len
            )));
        }
        self.input.read(at, len, buffer).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => self.bad("changed while it was read"),
            _ => Error::io(self.path, &e),
        })
    }

    /// The directories in the order of the file.
    pub fn directories(&mut self, window: &mut Window) -> Result<Vec<Directory>> {
        let head = window.get(self, 0, 4).map_err(|_| self.bad("the header is cut short"))?;
        self.little = head[0] == b'I';
        self.big = head[2] == 43 || head[3] == 43;
        let mut at = if self.big { self.unsigned(window, 8, 8) } else { self.unsigned(window, 4, 4) }
            .map_err(|_| self.bad("the header is cut short"))?;
        if self.big && self.unsigned(window, 4, 2)? != 8 {
            return Err(self.bad("a BigTIFF whose offsets are not of 8 bytes"));
        }
        let (mut out, mut seen) = (Vec::new(), HashSet::new());
        while at != 0 && out.len() < MAX_DIRECTORIES {
            if !seen.insert(at) {
                return Err(self.bad("a broken TIFF: its directories form a circle"));
            }
            let (directory, next) = self.directory(window, at)?;
            out.push(directory);
            at = next;
        }
        if out.is_empty() { Err(self.bad("a TIFF without an image")) } else { Ok(out) }
    }

    /// The directory at `at`, and where the next one lies.
    fn directory(&self, window: &mut Window, at: u64) -> Result<(Directory, u64)> {
        // Bytes of the number of entries, of an entry, of its count and offset.
        let (head, entry, word) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let count = self.unsigned(window, at, head)?;
        if count > MAX_ENTRIES {
            return Err(self.bad(format!("a broken TIFF: a directory of {count} entries")));
        }
        let mut directory = Directory(Vec::with_capacity(count as usize));
        for n in 0..count {
            // No overflow: the count was read at `at`, within the file.
            let at = at + head + n * entry;
            let mut read = Entry {
                tag: self.unsigned(window, at, 2)? as u16,
                kind: self.unsigned(window, at + 2, 2)? as u16,
                count: self.unsigned(window, at + 4, word)?,
                at: at + 4 + word,
            };
            if read.count.saturating_mul(read.size()) > word {
                read.at = self.unsigned(window, read.at, word)?;
            }
            directory.0.push(read);
        }
        // Some writers end the file without the offset of the next directory.
        let next = at + head + count * entry;
        let next = if next == self.len { 0 } else { self.unsigned(window, next, word)? };
        Ok((directory, next))
    }

    /// The number of `size` bytes at `at`.
    fn unsigned(&self, window: &mut Window, at: u64, size: u64) -> Result<u64> {
        Ok(self.join(window.get(self, at, size as usize)?))
    }

    fn join(&self, bytes: &[u8]) -> u64 {
        let join = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        if self.little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) }
    }

    /// Where value `n` of an entry lies.
    fn position(&self, entry: Entry, n: u64) -> Result<u64> {
        let at = n.checked_mul(entry.size()).and_then(|offset| entry.at.checked_add(offset));
        at.filter(|_| n < entry.count)
            .ok_or_else(|| self.bad(format!("a broken TIFF: tag {} has {} values", entry.tag, entry.count)))
    }

    /// Value `n` of an entry of unsigned numbers.
    pub fn number(&self, window: &mut Window, entry: Entry, n: u64) -> Result<u64> {
        if !matches!(entry.kind, 1 | 3 | 4 | 7 | 13 | 16 | 18) {
            return Err(self.bad(format!("a broken TIFF: tag {} has values of type {}", entry.tag, entry.kind)));
        }
        self.unsigned(window, self.position(entry, n)?, entry.size())
    }

    /// The first value of an unsigned tag, or what it is where the tag is missing.
    pub fn first(&self, window: &mut Window, directory: &Directory, tag: u16, missing: u64) -> Result<u64> {
        directory.get(tag).map_or(Ok(missing), |entry| self.number(window, entry, 0))
    }

    /// Values of an entry of doubles; None if it has others.
    pub fn doubles(&self, window: &mut Window, entry: Entry, most: u64) -> Result<Option<Vec<f64>>> {
        if entry.kind != 12 {
            return Ok(None);
        }
        let value = |n| Ok(f64::from_bits(self.unsigned(window, self.position(entry, n)?, 8)?));
        (0..entry.count.min(most)).map(value).collect::<Result<Vec<_>>>().map(Some)
    }

    /// An entry's text up to its first NUL, without white space around it; None if it is no text, or empty.
    pub fn text(&self, window: &mut Window, entry: Entry) -> Result<Option<String>> {
        if !matches!(entry.kind, 1 | 2 | 7) || entry.count > MAX_TEXT {
            return Ok(None);
        }
        let bytes = window.get(self, entry.at, entry.count as usize)?;
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text).trim().to_owned();
        Ok((!text.is_empty()).then_some(text))
    }
}

impl Window {
    /// The `len` bytes at `at`.
    fn get(&mut self, reader: &Reader<'_>, at: u64, len: usize) -> Result<&[u8]> {
        let held = at.checked_sub(self.at).filter(|start| start.saturating_add(len as u64) <= self.len as u64);
        let start = if let Some(start) = held {
            start as usize
        } else {
            // What lies behind is likely wanted next.
            let rest = usize::try_from(reader.len().saturating_sub(at)).unwrap_or(usize::MAX);
            let more = len.max(WINDOW_BYTES.min(rest));
            self.len = 0;
            let mut bytes = std::mem::take(&mut self.bytes);
            if let Input::Bytes(_) = reader.input {
                let mut none = Vec::new();
                bytes.clear();
                bytes.extend_from_slice(reader.read(at, more, &mut none)?);
            } else {
                reader.read(at, more, &mut bytes)?;
            }
            (self.at, self.bytes, self.len) = (at, bytes, more);
            self.read += more as u64;
            0
        };
        Ok(&self.bytes[start..start + len])
    }
}
