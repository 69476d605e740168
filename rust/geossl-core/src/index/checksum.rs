//! A file's checksum, which tells whether somebody has rewritten it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// Bytes read at a time: they stay in the processor's cache.
const CHUNK: usize = 1 << 18;

/// CRC-32 of the first `len` bytes of the file at `path`; None if it is shorter.
pub fn file_crc32(path: &Path, len: u64) -> Result<Option<u32>> {
    let io = |e: std::io::Error| Error::io(path, &e);
    let mut file = File::open(path).map_err(io)?;
    let mut buffer = vec![0; CHUNK];
    let (mut sum, mut left) = (crc32fast::Hasher::new(), len);
    while left > 0 {
        let part = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
        match file.read(&mut buffer[..part]) {
            Ok(0) => return Ok(None),
            Ok(n) => {
                sum.update(&buffer[..n]);
                left -= n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(io(e)),
        }
    }
    Ok(Some(sum.finalize()))
}

#[cfg(test)]
mod tests {
    use super::file_crc32;

    #[test]
    fn of_a_part() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..600_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        for len in [0, 1, 262_144, 599_999, 600_000] {
            assert_eq!(file_crc32(file.path(), len as u64).unwrap(), Some(crc32fast::hash(&bytes[..len])));
        }
        assert_eq!(file_crc32(file.path(), 600_001).unwrap(), None);
    }
}
