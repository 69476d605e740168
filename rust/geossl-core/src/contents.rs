//! Which files have the same bytes.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::parallel::{ordered, resolve_threads};
use crate::{Error, Result};

/// Bytes at the start of a file that tell most files of one size apart.
const HEAD_BYTES: u64 = 16 << 10;
/// Bytes of one read.
const CHUNK: usize = 1 << 20;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Same {
    /// For each file the number of the first one with its bytes: its own, if there is none before it.
    pub first: Vec<u64>,
    /// (number, reason) of the files that could not be read, which are like no other.
    pub failures: Vec<(u64, String)>,
}

/// Which of the files have the same bytes: first by their size, then by the hash of their start, then of the whole, of
/// 64 bits each, so that files that nothing resembles are hardly read. The result is the same for any number of threads
/// (0: all cores). `progress` is called with the steps done and their number, which grows with each of the three; where
/// it fails, the work ends with that error.
pub fn same_bytes(paths: &[PathBuf], threads: usize, mut progress: impl FnMut(u64, u64) -> Result<()>) -> Result<Same> {
    let mut failed = vec![None; paths.len()];
    let mut alike = vec![(0..paths.len()).collect::<Vec<usize>>()];
    let mut before = 0;
    let stop = AtomicBool::new(false);
    for step in [Step::Size, Step::Head, Step::Whole] {
        let asked: Vec<usize> = alike.iter().flatten().copied().collect();
        let mut keys = HashMap::with_capacity(asked.len());
        let total = before + asked.len() as u64;
        let mut done = before;
        progress(done, total)?;
        ordered(
            resolve_threads(threads),
            0..asked.len() as u64,
            |n, buffer: &mut Vec<u8>| step.key(&paths[asked[n as usize]], buffer, &stop),
            |result| {
                if let Some((n, key)) = result {
                    done += 1;
                    match key {
                        Ok(key) => drop(keys.insert(asked[n as usize], key)),
                        Err(Error::Data { reason, .. } | Error::Io { reason, .. }) => {
                            failed[asked[n as usize]] = Some(reason);
                        }
                        Err(error) => return Err(error),
                    }
                }
                progress(done, total).inspect_err(|_| stop.store(true, Relaxed))
            },
        )?;
        before = total;
        alike = alike.into_iter().flat_map(|group| divided(&group, &keys)).collect();
    }
    let mut first: Vec<u64> = (0..paths.len() as u64).collect();
    for group in alike {
        for n in &group {
            first[*n] = group[0] as u64;
        }
    }
    let failures = (0..).zip(failed).filter_map(|(n, reason)| Some((n, reason?))).collect();
    Ok(Same { first, failures })
}

/// The files of a group, which are in ascending order, by their keys; of those with a key of their own none is left.
fn divided(group: &[usize], keys: &HashMap<usize, u64>) -> Vec<Vec<usize>> {
    let mut parts: HashMap<u64, Vec<usize>> = HashMap::new();
    for n in group {
        if let Some(key) = keys.get(n) {
            parts.entry(*key).or_default().push(*n);
        }
    }
    let mut parts: Vec<_> = parts.into_values().filter(|part| part.len() > 1).collect();
    parts.sort_unstable();
    parts
}

#[derive(Clone, Copy)]
enum Step {
    Size,
    Head,
    Whole,
}

impl Step {
    /// What files with the same bytes have in common.
    fn key(self, path: &Path, buffer: &mut Vec<u8>, stop: &AtomicBool) -> Result<u64> {
        let io = |e: std::io::Error| Error::io(path, &e);
        let most = match self {
            Self::Size => {
                let meta = path.metadata().map_err(io)?;
                // Opening a FIFO would wait for its writer.
                return if meta.is_file() { Ok(meta.len()) } else { Err(Error::data(path, "not a regular file")) };
            }
            Self::Head => HEAD_BYTES,
            Self::Whole => u64::MAX,
        };
        buffer.resize(CHUNK, 0);
        let mut file = File::open(path).map_err(io)?.take(most);
        let mut hasher = DefaultHasher::new();
        loop {
            let read = file.read(buffer).map_err(io)?;
            if read == 0 || stop.load(Relaxed) {
                return Ok(hasher.finish());
            }
            hasher.write(&buffer[..read]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_the_same_bytes_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let head = vec![7u8; HEAD_BYTES as usize];
        let long = |end: &[u8]| [&head[..], end].concat();
        // Equal, equal but for the last byte, shorter, empty, of another start, and so on.
        let contents: Vec<Vec<u8>> = vec![
            long(b"ab"),
            long(b"ac"),
            vec![],
            long(b"ab"),
            b"x".into(),
            long(b"a"),
            vec![],
            b"y".into(),
            b"x".into(),
            long(b"ab"),
        ];
        let mut paths: Vec<PathBuf> = (0..contents.len()).map(|n| folder.path().join(n.to_string())).collect();
        for (path, content) in paths.iter().zip(&contents) {
            std::fs::write(path, content).unwrap();
        }
        paths.push(folder.path().join("none"));
        paths.push(folder.path().to_owned());
        let wanted: Vec<u64> =
            contents.iter().map(|c| contents.iter().position(|d| d == c).unwrap() as u64).chain([10, 11]).collect();
        for threads in [1, 2, 5] {
            let mut last = (0, 0);
            let found = same_bytes(&paths, threads, |done, total| {
                last = (done, total);
                Ok(())
            });
            let found = found.unwrap();
            assert_eq!(found.first, wanted);
            assert_eq!(found.failures.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [10, 11]);
            // All files, those of equal sizes, and those of equal starts.
            assert_eq!(last, (12 + 9 + 8, 12 + 9 + 8));
        }
        assert!(same_bytes(&paths, 2, |_, _| Err(Error::Argument("stop".into()))).is_err());
        assert_eq!(same_bytes(&[], 2, |_, _| Ok(())).unwrap(), Same::default());
    }
}
