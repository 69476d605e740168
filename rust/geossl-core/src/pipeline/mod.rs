//! Batches from images, in order, by threads of its own, into memory that the caller gives.
//!
//! The global batch k of an epoch is positions k * batch to (k + 1) * batch of the epoch's order; a rank fills its
//! own contiguous part. A slot is memory for one such part, laid out [views, samples, height, width, bands].
//! Threads take samples one by one, so a slow image delays only its own batch.

mod shared;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::shared::{Counters, Run, Shared, State};
use crate::order::Permutation;
use crate::parallel::resolve_threads;
use crate::sample::Source;
use crate::{Error, Result};

/// What an unreadable image does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Its batch is an error.
    Raise,
    /// Another sample, drawn from the position alone, takes its place.
    Substitute,
    /// Its place is marked invalid and its pixels are zero.
    Skip,
}

/// How the batches are made; none of it changes their bytes, but for `batch` and the part of this rank.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Samples of a global batch.
    pub batch: usize,
    /// This process among `world`.
    pub rank: usize,
    /// Processes that share the batch; divides it.
    pub world: usize,
    /// Threads; 0 is all cores.
    pub threads: usize,
    /// What an unreadable image does.
    pub on_error: OnError,
    /// Share of the images that may be unreadable.
    pub max_failures: f64,
}

/// Memory of one slot, `slot_bytes` long.
#[derive(Debug, Clone, Copy)]
pub struct SlotMemory {
    /// Start.
    pub ptr: *mut u8,
    /// Length, bytes.
    pub len: usize,
}

// SAFETY: the pointer is only written through, to ranges that the pipeline gives to one thread each, and read by the
// consumer after the slot was handed over under the lock.
unsafe impl Send for SlotMemory {}
// SAFETY: as above.
unsafe impl Sync for SlotMemory {}

/// A batch that is ready; its pixels are in the slot until `release`.
#[derive(Debug)]
pub struct Ready {
    /// The slot.
    pub slot: usize,
    /// Number within the epoch.
    pub number: u64,
    /// Samples of this rank's part.
    pub samples: usize,
    /// Row of each view, [views][samples].
    pub rows: Vec<i64>,
    /// Colour parameters, [views][samples][`COLOR_PARAMS`].
    pub color: Vec<f32>,
    /// Whether the sample is there, [samples].
    pub valid: Vec<bool>,
}

/// Answer of `next`.
#[derive(Debug)]
pub enum Next {
    /// The next batch.
    Batch(Ready),
    /// Not ready yet: ask again.
    Pending,
    /// The epoch is over.
    Done,
}

/// Counters since the pipeline was made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Images read and decoded.
    pub images: u64,
    /// Bytes of files read.
    pub bytes_read: u64,
    /// Seconds of all threads spent on samples.
    pub work_secs: f64,
    /// Seconds that `next` waited.
    pub wait_secs: f64,
    /// Batches handed over.
    pub batches: u64,
    /// Batches that were ready when asked for.
    pub ready_at_once: u64,
}

/// The pipeline. Dropping it ends its threads.
pub struct Pipeline {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    process: u32,
}

impl Pipeline {
    /// Checks the settings. No thread is started yet.
    ///
    /// # Safety
    /// Each slot must stay valid for writes until the pipeline and every batch handed out are gone, and nothing else
    /// may write to it, or read it but for batches handed out and not yet released.
    pub unsafe fn new(source: Source, settings: Settings, slots: Vec<SlotMemory>) -> Result<Self> {
        let n = source.paths.len();
        if n == 0 {
            return Err(Error::Argument("there are no images".into()));
        }
        if source.boxes.len() != n || n > u32::MAX as usize {
            return Err(Error::Argument(format!("{n} paths and {} boxes", source.boxes.len())));
        }
        if let Some(scale) = &source.normalize {
            let bands = usize::from(source.bands);
            if scale.mean.len() != bands || scale.std.len() != bands || scale.std.iter().any(|std| *std <= 0.0) {
                return Err(Error::Argument(format!(
                    "normalize: {bands} bands need as many means and standard deviations, the latter above 0"
                )));
            }
        }
        if settings.batch == 0 || settings.world == 0 || settings.rank >= settings.world {
            return Err(Error::Argument(format!(
                "batch {}, rank {} of {}: the batch and the world must be positive, the rank below the world",
                settings.batch, settings.rank, settings.world
            )));
        }
        if !settings.batch.is_multiple_of(settings.world) {
            return Err(Error::Argument(format!(
                "batch {} cannot be shared by {} processes: make it a multiple",
                settings.batch, settings.world
            )));
        }
        if source.shuffle && n < settings.batch {
            return Err(Error::Argument(format!("a batch of {} is more than the {n} images", settings.batch)));
        }
        let need = slot_bytes(&source, &settings);
        if slots.is_empty() || slots.iter().any(|slot| slot.len < need) {
            return Err(Error::Argument(format!("slots must hold {need} bytes each")));
        }
        let state = State { free: (0..slots.len()).collect(), ..State::default() };
        let shared = Shared {
            source,
            settings,
            slots,
            state: Mutex::new(state),
            work: Condvar::new(),
            ready: Condvar::new(),
            counters: Counters::default(),
        };
        Ok(Self { shared: Arc::new(shared), threads: Mutex::default(), process: std::process::id() })
    }

    /// Batches of an epoch.
    pub fn batches(&self) -> u64 {
        let (n, batch) = (self.shared.source.paths.len(), self.shared.settings.batch);
        if self.shared.source.shuffle { (n / batch) as u64 } else { n.div_ceil(batch) as u64 }
    }

    /// Starts the epoch at batch `first`; a run that is under way ends. O(1): nothing is replayed.
    pub fn start(&self, epoch: u64, first: u64) -> Result<()> {
        self.same_process()?;
        self.stop();
        let shared = &self.shared;
        let order = Arc::new(Permutation::new(shared.source.paths.len() as u64, shared.source.seed, epoch));
        shared.lock().run = Some(Run { epoch, order, next: first, end: self.batches(), flights: VecDeque::new() });
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for i in 0..resolve_threads(shared.settings.threads) {
            let shared = Arc::clone(shared);
            let spawned = std::thread::Builder::new().name(format!("geossl-{i}")).spawn(move || shared.serve());
            threads.push(spawned.map_err(|e| Error::Internal(format!("cannot start a thread: {e}")))?);
        }
        Ok(())
    }

    /// The next batch in order, waiting up to `timeout`.
    pub fn next(&self, timeout: Duration) -> Result<Next> {
        self.same_process()?;
        let started = Instant::now();
        let answer = self.shared.take(timeout);
        let counters = &self.shared.counters;
        counters.wait_nanos.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        answer
    }

    /// Gives a slot back for refilling.
    pub fn release(&self, slot: usize) {
        if self.same_process().is_ok() {
            self.shared.lock().free.push(slot);
            self.shared.work.notify_all();
        }
    }

    /// Ends the run that is under way, if there is one, and its threads.
    pub fn stop(&self) {
        if self.same_process().is_err() {
            return;
        }
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A panic in a worker was caught and reported where it happened.
            let _ = thread.join();
        }
        let mut state = self.shared.lock();
        if let Some(run) = state.run.take() {
            state.free.extend(run.flights.iter().map(|flight| flight.slot));
        }
        state.fatal = None;
        state.held_since = None;
        state.stopping = false;
    }

    /// Images that could not be read so far, with the reasons, by path.
    pub fn failures(&self) -> Vec<(PathBuf, String)> {
        if self.same_process().is_err() {
            return Vec::new();
        }
        self.shared.lock().failures.iter().map(|(path, reason)| (path.clone(), reason.clone())).collect()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        Stats {
            images: get(&counters.images),
            bytes_read: get(&counters.bytes),
            work_secs: get(&counters.work_nanos) as f64 / 1e9,
            wait_secs: get(&counters.wait_nanos) as f64 / 1e9,
            batches: get(&counters.batches),
            ready_at_once: get(&counters.ready_at_once),
        }
    }

    /// Threads that a run has.
    pub fn threads(&self) -> usize {
        resolve_threads(self.shared.settings.threads)
    }

    fn same_process(&self) -> Result<()> {
        if std::process::id() == self.process {
            Ok(())
        } else {
            Err(Error::Argument(
                "this loader was made before a fork and has no threads here: make it in the child, or start the \
                 child by spawn"
                    .into(),
            ))
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if self.same_process().is_ok() {
            self.stop();
        } else {
            // The handles name threads of another process.
            let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(std::mem::take(threads));
        }
    }
}

/// Bytes that a slot must hold: this rank's part of a batch.
pub fn slot_bytes(source: &Source, settings: &Settings) -> usize {
    source.views * (settings.batch / settings.world.max(1)) * source.view_bytes()
}
