//! Where an encoded image's bytes come from: memory, or a file of which only the needed parts are read.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::{Error, Result};

/// An encoded image.
pub enum Input<'a> {
    /// All of its bytes.
    Bytes(&'a [u8]),
    /// A TIFF's file.
    File(File),
}

impl<'a> Input<'a> {
    /// Opens the image at `path`. A TIFF is read as it is needed; any other file now, into `buffer`, and fails if it is
    /// larger than `max_bytes`.
    pub fn open(path: &Path, buffer: &'a mut Vec<u8>, max_bytes: u64) -> Result<Self> {
        let io = |e: std::io::Error| Error::io(path, &e);
        // Not blocking: opening a FIFO would wait for its writer.
        let mut file =
            File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(Error::data(path, "not a regular file"));
        }
        buffer.clear();
        (&mut file).take(4).read_to_end(buffer).map_err(io)?;
        if is_tiff(buffer) {
            return Ok(Self::File(file));
        }
        if meta.len() > max_bytes {
            return Err(Error::data(path, format!("{} bytes, over the limit of {max_bytes}", meta.len())));
        }
        buffer.reserve(meta.len() as usize + 1);
        file.take(max_bytes).read_to_end(buffer).map_err(io)?;
        if buffer.len() as u64 > max_bytes {
            return Err(Error::data(path, format!("grew over the limit of {max_bytes} bytes while it was read")));
        }
        Ok(Self::Bytes(buffer))
    }

    /// Bytes of the image that were read when it was opened.
    pub fn bytes_read(&self) -> u64 {
        if let Self::Bytes(bytes) = self { bytes.len() as u64 } else { 0 }
    }

    /// Bytes of the image.
    pub(crate) fn len(&self) -> std::io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => Ok(file.metadata()?.len()),
        }
    }

    /// The `len` bytes from `at`, which may come to lie in `buffer`. Fails if they reach over the end.
    pub(crate) fn read<'b>(&'b self, at: u64, len: usize, buffer: &'b mut Vec<u8>) -> std::io::Result<&'b [u8]> {
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(at).ok();
                let part = start.and_then(|start| bytes.get(start..start.checked_add(len)?));
                part.ok_or_else(|| ErrorKind::UnexpectedEof.into())
            }
            Self::File(file) => {
                // What the memory held before is overwritten.
                if buffer.len() < len {
                    buffer.resize(len, 0);
                }
                file.read_exact_at(&mut buffer[..len], at)?;
                Ok(&buffer[..len])
            }
        }
    }
}

/// Whether a file that begins so is a TIFF or a `BigTIFF`.
pub(crate) fn is_tiff(bytes: &[u8]) -> bool {
    matches!(bytes, [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..])
}
