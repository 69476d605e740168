//! Batches from images, in order, by threads of its own, into memory that the caller gives.
//!
//! The global batch k of an epoch is positions k * batch to (k + 1) * batch of the epoch's order; a rank fills its
//! own contiguous part. A slot is memory for one such part, laid out [views, samples, height, width, bands].
//! Threads take samples one by one, so a slow image delays only its own batch; within a batch they go in the order in
//! which the images lie on disk, which changes nothing in the batch. Others walk ahead of them (`readahead`).

mod priority;
mod readahead;
mod shared;
mod stats;
mod worker;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::readahead::Walk;
use self::shared::{Run, Shared, State};
pub use self::stats::Stats;
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
    /// Decoding threads; 0 is `default_threads`.
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
    /// Factor of each band, [views][samples][bands]; see `Source::gains`.
    pub gains: Vec<f32>,
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
    pub unsafe fn new(source: Source, mut settings: Settings, slots: Vec<SlotMemory>) -> Result<Self> {
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
        if settings.threads == 0 {
            settings.threads = default_threads();
        }
        let state = State { free: (0..slots.len()).collect(), ..State::default() };
        let shared = Shared {
            source,
            settings,
            slots,
            state: Mutex::new(state),
            work: Condvar::new(),
            ready: Condvar::new(),
            ahead: Condvar::new(),
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
        shared.lock().run = Some(Run::new(epoch, Arc::clone(&order), first, self.batches()));
        for i in 0..shared.settings.threads {
            let shared = Arc::clone(shared);
            self.spawn(format!("geossl-{i}"), move || shared.serve())?;
        }
        let walk = Arc::new(Mutex::new(Walk::new(epoch, order, first)));
        for i in 0..readahead::THREADS {
            let (shared, walk) = (Arc::clone(shared), Arc::clone(&walk));
            self.spawn(format!("geossl-ahead-{i}"), move || shared.read_ahead(&walk))?;
        }
        Ok(())
    }

    fn spawn(&self, name: String, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let spawned = std::thread::Builder::new().name(name).spawn(|| {
            priority::lower();
            body();
        });
        let thread = spawned.map_err(|e| Error::Internal(format!("cannot start a thread: {e}")))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// The next batch in order, waiting up to `timeout`. `coming` says that slots will be given back without the
    /// consumer's doing: else it is an error after a while that every slot is held.
    pub fn next(&self, timeout: Duration, coming: bool) -> Result<Next> {
        self.same_process()?;
        self.shared.take(timeout, coming)
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
        self.shared.ahead.notify_all();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A panic in a worker was caught and reported where it happened.
            let _ = thread.join();
        }
        let mut state = self.shared.lock();
        if let Some(run) = state.run.take() {
            state.stats.run_secs += run.started.elapsed().as_secs_f64();
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
        if self.same_process().is_err() {
            return Stats::default();
        }
        let state = self.shared.lock();
        let mut stats = state.stats;
        if let Some(run) = &state.run {
            stats.run_secs += run.started.elapsed().as_secs_f64();
            stats.ready_now = run.ready() as u64;
        }
        stats
    }

    /// Decoding threads that a run has.
    pub fn threads(&self) -> usize {
        self.shared.settings.threads
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

/// Decoding threads that leave the trainers of this machine their cores: a process's share of the cores that this one
/// may use, less one, and at least one. torchrun says in `LOCAL_WORLD_SIZE` how many processes there are.
pub fn default_threads() -> usize {
    let processes = std::env::var("LOCAL_WORLD_SIZE").ok().and_then(|text| text.parse().ok());
    share_of_cores(resolve_threads(0), processes.unwrap_or(1))
}

fn share_of_cores(cores: usize, processes: usize) -> usize {
    (cores.saturating_sub(1) / processes.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_leaves_each_trainer_its_core() {
        for (cores, processes, threads) in [(1, 1, 1), (2, 1, 1), (8, 1, 7), (64, 8, 7), (8, 16, 1), (4, 0, 3)] {
            assert_eq!(super::share_of_cores(cores, processes), threads);
        }
    }
}
