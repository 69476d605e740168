//! The pipeline's threads: order, panics, early ends. Pixels are tested from Python, against torchvision.

// A test may unwrap.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use geossl_core::augment::Normalize;
use geossl_core::crop::CropSpec;
use geossl_core::pairs::{Pairs, Places};
use geossl_core::pipeline::{Next, OnError, Pipeline, Settings, SlotMemory, slot_bytes};
use geossl_core::sample::Source;
use geossl_core::{Error, Result};

const IMAGES: usize = 23;

/// Writes PNGs of one colour each: image i has value i everywhere.
fn images(folder: &Path) -> Vec<std::path::PathBuf> {
    (0..IMAGES)
        .map(|i| {
            let path = folder.join(format!("{i}.png"));
            let mut encoder = png::Encoder::new(std::fs::File::create(&path).unwrap(), 8, 8);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().unwrap().write_image_data(&[i as u8; 8 * 8 * 3]).unwrap();
            path
        })
        .collect()
}

fn source(folder: &Path, places: &[i32]) -> Source {
    let new = Source::new(images(folder), (3, 8), CropSpec::new(4));
    Source { pairs: Some(Pairs::uniform(Places::new(places))), views: 2, seed: 1, ..new }
}

fn settings(threads: usize) -> Settings {
    Settings { batch: 5, rank: 0, world: 1, threads, on_error: OnError::Raise, max_failures: 0.0 }
}

/// Runs `body` with a pipeline over `slots` slots, which outlive it. `body` gets each slot's start.
fn with_pipeline(source: Source, settings: Settings, slots: usize, body: impl FnOnce(&Pipeline, &[*const u8])) {
    let bytes = slot_bytes(&source, &settings);
    let mut memory = vec![vec![0u8; bytes]; slots];
    let pointers: Vec<_> = memory.iter_mut().map(|s| SlotMemory { ptr: s.as_mut_ptr(), len: bytes }).collect();
    let starts: Vec<*const u8> = pointers.iter().map(|s| s.ptr.cast_const()).collect();
    // SAFETY: `memory` outlives the pipeline, which is dropped before it.
    let pipeline = unsafe { Pipeline::new(source, settings, pointers) }.unwrap();
    body(&pipeline, &starts);
    drop(pipeline);
}

fn next(pipeline: &Pipeline) -> Result<Next> {
    loop {
        match pipeline.next(Duration::from_secs(1), false)? {
            Next::Pending => {}
            other => return Ok(other),
        }
    }
}

#[test]
fn batches_come_in_order_with_the_pixels_of_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let places: Vec<i32> = (0..IMAGES as i32).map(|i| i / 4).collect();
    with_pipeline(source(folder.path(), &places), settings(3), 2, |pipeline, memory| {
        for epoch in 0..3 {
            pipeline.start(epoch, 0).unwrap();
            for number in 0..pipeline.batches() {
                let Next::Batch(batch) = next(pipeline).unwrap() else { panic!("too few batches") };
                assert_eq!((batch.number, batch.samples), (number, 5));
                let view_bytes = 4 * 4 * 3;
                // SAFETY: the slot is ours until it is released, and holds ten views.
                let pixels = unsafe { std::slice::from_raw_parts(memory[batch.slot], 10 * view_bytes) };
                for (view, &row) in pixels.chunks(view_bytes).zip(&batch.rows) {
                    assert!(view.iter().all(|&v| i64::from(v) == row));
                }
                pipeline.release(batch.slot);
            }
            assert!(matches!(next(pipeline).unwrap(), Next::Done));
        }
    });
}

#[test]
fn a_panic_in_a_worker_is_an_error_that_names_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    // More places than images: a partner beyond the last image makes the worker panic on its index.
    let places = vec![0; 10 * IMAGES];
    with_pipeline(source(folder.path(), &places), settings(2), 2, |pipeline, _| {
        pipeline.start(0, 0).unwrap();
        let error = next(pipeline).unwrap_err();
        assert!(matches!(error, Error::Internal(_)));
        assert!(error.to_string().contains(".png: a panic: index out of bounds"), "{error}");
        // The error stays until the next start; the threads are alive.
        assert!(next(pipeline).is_err());
        pipeline.start(1, 0).unwrap();
        assert!(next(pipeline).is_err());
    });
}

#[test]
fn stopping_and_starting_anywhere_loses_no_slot() {
    let folder = tempfile::tempdir().unwrap();
    let places: Vec<i32> = (0..IMAGES as i32).collect();
    with_pipeline(source(folder.path(), &places), settings(4), 3, |pipeline, _| {
        let mut held = None;
        for round in 0..50 {
            pipeline.start(round, round % 3).unwrap();
            if round % 2 == 0 {
                let Next::Batch(batch) = next(pipeline).unwrap() else { panic!("no batch") };
                assert_eq!(batch.number, round % 3);
                if let Some(slot) = held.replace(batch.slot) {
                    pipeline.release(slot);
                }
            }
            if round % 5 == 0 {
                pipeline.stop();
                assert!(matches!(next(pipeline).unwrap(), Next::Done));
            }
        }
        pipeline.start(99, 0).unwrap();
        // One slot is still held; the other two are enough for the whole epoch.
        while let Next::Batch(batch) = next(pipeline).unwrap() {
            pipeline.release(batch.slot);
        }
    });
}

#[test]
fn slots_that_come_back_by_themselves_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let places: Vec<i32> = (0..IMAGES as i32).collect();
    with_pipeline(source(folder.path(), &places), settings(2), 1, |pipeline, _| {
        pipeline.start(0, 0).unwrap();
        let Next::Batch(batch) = next(pipeline).unwrap() else { panic!("no batch") };
        // Longer than it takes until held slots are an error.
        for _ in 0..6 {
            assert!(matches!(pipeline.next(Duration::from_secs(1), true).unwrap(), Next::Pending));
        }
        pipeline.release(batch.slot);
        assert!(matches!(next(pipeline).unwrap(), Next::Batch(_)));
    });
}

#[test]
fn statistics_tell_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    let places: Vec<i32> = (0..IMAGES as i32).collect();
    with_pipeline(source(folder.path(), &places), settings(2), 3, |pipeline, _| {
        pipeline.start(0, 0).unwrap();
        let full = || pipeline.stats().ready_now == 3;
        while !full() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Three batches are ready, the threads have no slot and wait until one is given back.
        std::thread::sleep(Duration::from_millis(30));
        let Next::Batch(batch) = next(pipeline).unwrap() else { panic!("no batch") };
        pipeline.release(batch.slot);
        while !full() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let stats = pipeline.stats();
        assert_eq!((stats.batches, stats.ready_at_once, stats.ready_sum), (1, 1, 3));
        assert!(stats.idle_secs > 0.02 && stats.run_secs > 0.03 && stats.wait_secs < stats.run_secs);
        let parts = stats.read_secs + stats.decode_secs + stats.resample_secs;
        assert!(0.0 < parts && parts <= stats.work_secs);
        while let Next::Batch(batch) = next(pipeline).unwrap() {
            pipeline.release(batch.slot);
        }
        assert_eq!(pipeline.stats().batches, pipeline.batches());
        pipeline.stop();
        let run_secs = pipeline.stats().run_secs;
        assert_eq!((pipeline.stats().ready_now, pipeline.stats().run_secs), (0, run_secs));
    });
}

#[test]
fn settings_out_of_range_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let places: Vec<i32> = (0..IMAGES as i32).collect();
    for (change, message) in [
        (Settings { batch: 24, ..settings(1) }, "a batch of 24 is more than the 23 images"),
        (Settings { world: 2, ..settings(1) }, "batch 5 cannot be shared by 2 processes"),
        (Settings { rank: 1, ..settings(1) }, "the rank below the world"),
        (settings(1), "slots must hold 480 bytes each"),
    ] {
        // SAFETY: no pipeline is made, so no slot is written to.
        let made = unsafe { Pipeline::new(source(folder.path(), &places), change, Vec::new()) };
        assert!(made.err().is_some_and(|e| e.to_string().contains(message)));
    }
}

#[test]
fn a_normalisation_that_does_not_fit_the_bands_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (mean, std) in [(vec![0.5], vec![0.2; 3]), (vec![0.5; 3], vec![0.2; 4]), (vec![0.5; 3], vec![0.2, 0.0, 0.2])] {
        let source = Source { normalize: Some(Normalize { mean, std }), ..source(folder.path(), &[0; IMAGES]) };
        // SAFETY: it has no slot to write to.
        let made = unsafe { Pipeline::new(source, settings(1), Vec::new()) };
        assert!(matches!(made, Err(Error::Argument(message)) if message.starts_with("normalize: 3 bands")));
    }
}
