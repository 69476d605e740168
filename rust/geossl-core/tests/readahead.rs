//! The read-ahead: files that come next are read into the page cache before a worker asks for them, and no others.
#![cfg(target_os = "linux")]
// A test may unwrap.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use geossl_core::advice::will_need;
use geossl_core::crop::{CropSpec, Cut};
use geossl_core::pipeline::{Next, OnError, Pipeline, Settings, SlotMemory, slot_bytes};
use geossl_core::sample::Source;

/// Whether the first page of a file is in memory.
fn resident(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    let mut page = 0u8;
    // SAFETY: the mapping is looked at by mincore alone and unmapped at once; `page` is as long as the one page needs.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), 1, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(start, libc::MAP_FAILED);
        assert_eq!(libc::mincore(start, 1, &raw mut page), 0);
        libc::munmap(start, 1);
    }
    page & 1 == 1
}

/// Drops a file from memory; false where the file system does not.
fn evict(path: &Path) -> bool {
    let file = File::options().write(true).open(path).unwrap();
    file.sync_all().unwrap();
    // SAFETY: the descriptor is open.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    !resident(path)
}

fn soon(condition: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !condition() && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(2));
    }
    condition()
}

/// A folder on the disk that the build is on: the system's own for temporary files may be in memory.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn images(folder: &Path, n: usize) -> Vec<PathBuf> {
    (0..n)
        .map(|i| {
            let path = folder.join(format!("{i:02}.png"));
            let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 8, 8);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().unwrap().write_image_data(&[i as u8; 8 * 8 * 3]).unwrap();
            path
        })
        .collect()
}

#[test]
fn advice_brings_a_file_into_memory_and_ignores_what_it_cannot_open() {
    let folder = folder();
    let path = images(folder.path(), 1).remove(0);
    if !evict(&path) {
        eprintln!("skipped: {} cannot be evicted from memory", path.display());
        return;
    }
    will_need(&path);
    assert!(soon(|| resident(&path)));
    will_need(&folder.path().join("missing"));
    will_need(folder.path());
    let fifo = folder.path().join("fifo");
    let name = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: `name` ends with a NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    will_need(&fifo);
}

#[test]
fn the_batch_after_those_in_flight_is_read_and_the_one_after_it_is_not() {
    let folder = folder();
    let paths = images(folder.path(), 12);
    if !paths.iter().all(|path| evict(path)) {
        eprintln!("skipped: {} cannot be evicted from memory", folder.path().display());
        return;
    }
    let new = Source::new(paths.clone(), (3, 8), CropSpec::new(4));
    let source = Source { shuffle: false, cut: Cut::Center, ..new };
    let settings = Settings { batch: 3, rank: 0, world: 1, threads: 2, on_error: OnError::Raise, max_failures: 0.0 };
    let mut memory = vec![0u8; slot_bytes(&source, &settings)];
    let slot = SlotMemory { ptr: memory.as_mut_ptr(), len: memory.len() };
    // SAFETY: `memory` outlives the pipeline, which is dropped before it.
    let pipeline = unsafe { Pipeline::new(source, settings, vec![slot]) }.unwrap();
    pipeline.start(0, 0).unwrap();
    let Next::Batch(batch) = pipeline.next(Duration::from_secs(30), false).unwrap() else { panic!("no batch") };
    // The only slot is held, so nobody but the read-ahead can have touched these.
    assert!(soon(|| paths[3..6].iter().all(|path| resident(path))));
    assert!(!paths[6..].iter().any(|path| resident(path)));
    pipeline.release(batch.slot);
    assert!(soon(|| paths[6..9].iter().all(|path| resident(path))));
    drop(pipeline);
}
