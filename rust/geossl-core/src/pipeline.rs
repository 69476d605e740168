//! Batches from images, in order, by threads of its own, into memory that the caller gives.
//!
//! The global batch k of an epoch is positions k * batch to (k + 1) * batch of the epoch's order; a rank fills its
//! own contiguous part. A slot is memory for one such part, laid out [views, samples, height, width, bands].
//! Threads take samples one by one, so a slow image delays only its own batch.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::color::COLOR_PARAMS;
use crate::order::Permutation;
use crate::parallel::resolve_threads;
use crate::sample::{Scratch, Source};
use crate::{Error, Result};

/// Substitutes tried for one sample before giving up.
const MAX_SUBSTITUTES: usize = 32;
/// How long `next` waits for the consumer to give back a slot before it says that there is none.
const HELD_TIMEOUT: Duration = Duration::from_secs(5);

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

struct Flight {
    number: u64,
    slot: usize,
    samples: usize,
    issued: usize,
    done: usize,
    rows: Vec<i64>,
    color: Vec<f32>,
    valid: Vec<bool>,
    error: Option<(usize, Error)>,
}

struct Run {
    epoch: u64,
    order: Arc<Permutation>,
    next: u64,
    end: u64,
    flights: VecDeque<Flight>,
}

#[derive(Default)]
struct State {
    free: Vec<usize>,
    run: Option<Run>,
    stopping: bool,
    fatal: Option<Error>,
    /// Since when no batch can be made because the consumer holds every slot.
    held_since: Option<Instant>,
    failures: BTreeMap<PathBuf, String>,
}

#[derive(Default)]
struct Counters {
    images: AtomicU64,
    bytes: AtomicU64,
    work_nanos: AtomicU64,
    wait_nanos: AtomicU64,
    batches: AtomicU64,
    ready_at_once: AtomicU64,
}

struct Shared {
    source: Source,
    settings: Settings,
    slots: Vec<SlotMemory>,
    state: Mutex<State>,
    work: Condvar,
    ready: Condvar,
    counters: Counters,
}

/// The pipeline. Dropping it ends its threads.
pub struct Pipeline {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    process: u32,
}

struct Job {
    epoch: u64,
    order: Arc<Permutation>,
    number: u64,
    sample: usize,
    slot: SlotMemory,
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self) -> usize {
        self.settings.batch / self.settings.world
    }

    fn take(&self, timeout: Duration) -> Result<Next> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        let mut waited = false;
        loop {
            if let Some(error) = &state.fatal {
                return Err(error.clone());
            }
            let Some(run) = state.run.as_mut() else { return Ok(Next::Done) };
            match run.flights.front() {
                Some(flight) if flight.done == flight.samples => break,
                None if run.next >= run.end => return Ok(Next::Done),
                _ => {}
            }
            let now = Instant::now();
            state.held_since =
                (run.flights.is_empty() && state.free.is_empty()).then(|| state.held_since.unwrap_or(now));
            if state.held_since.is_some_and(|since| now - since >= HELD_TIMEOUT) {
                return Err(Error::Argument(format!(
                    "all {} slots are held: let go of earlier batches (copy what you keep), or raise loader.slots",
                    self.slots.len()
                )));
            }
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                return Ok(Next::Pending);
            }
            waited = true;
            state = self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.held_since = None;
        let Some(flight) = state.run.as_mut().and_then(|run| run.flights.pop_front()) else {
            return Err(Error::Internal("a batch vanished".into()));
        };
        if let Some((_, error)) = flight.error {
            state.free.push(flight.slot);
            state.fatal = Some(error.clone());
            return Err(error);
        }
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.counters.ready_at_once.fetch_add(u64::from(!waited), Ordering::Relaxed);
        let Flight { slot, number, samples, rows, color, valid, .. } = flight;
        Ok(Next::Batch(Ready { slot, number, samples, rows, color, valid }))
    }

    /// A worker's life.
    fn serve(&self) {
        let mut scratch = Scratch::default();
        while let Some(job) = self.claim() {
            let started = Instant::now();
            let (bytes, images) = (scratch.bytes_read, scratch.images);
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work(&job, &mut scratch)));
            let outcome = caught.unwrap_or_else(|panic| {
                scratch = Scratch::default();
                Err(Error::Internal(format!("{}: a panic: {}", self.name(&job), message(panic.as_ref()))))
            });
            self.counters.work_nanos.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
            self.counters.bytes.fetch_add(scratch.bytes_read.saturating_sub(bytes), Ordering::Relaxed);
            self.counters.images.fetch_add(scratch.images.saturating_sub(images), Ordering::Relaxed);
            self.finish(&job, outcome);
        }
    }

    fn name(&self, job: &Job) -> String {
        let row = self.source.row_at(&job.order, self.position(job));
        self.source.paths[row].display().to_string()
    }

    fn position(&self, job: &Job) -> u64 {
        let first = job.number * self.settings.batch as u64;
        first + (self.settings.rank * self.part() + job.sample) as u64
    }

    /// The next sample to work on; waits for one, None when the run ends.
    fn claim(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return None;
            }
            let State { free, run, .. } = &mut *state;
            let run = run.as_mut()?;
            if let Some(flight) = run.flights.back_mut()
                && flight.issued < flight.samples
            {
                flight.issued += 1;
                return Some(Job {
                    epoch: run.epoch,
                    order: Arc::clone(&run.order),
                    number: flight.number,
                    sample: flight.issued - 1,
                    slot: self.slots[flight.slot],
                });
            }
            if run.next < run.end
                && let Some(slot) = free.pop()
            {
                run.flights.push_back(self.open(run.next, slot));
                run.next += 1;
                // A part may be empty where the last batch is short.
                self.ready.notify_all();
                continue;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self, number: u64, slot: usize) -> Flight {
        let left = self.source.paths.len() as u64 - number * self.settings.batch as u64;
        let whole = left.min(self.settings.batch as u64) as usize;
        let samples = whole.saturating_sub(self.settings.rank * self.part()).min(self.part());
        let views = self.source.views * samples;
        Flight {
            number,
            slot,
            samples,
            issued: 0,
            done: 0,
            rows: vec![-1; views],
            color: vec![0.0; views * COLOR_PARAMS],
            valid: vec![false; samples],
            error: None,
        }
    }

    /// Fills one sample; the rows that its views show, None where it is left out.
    fn work(&self, job: &Job, scratch: &mut Scratch) -> Result<Option<Vec<usize>>> {
        let position = self.position(job);
        let bytes = self.source.view_bytes();
        let mut outs: Vec<&mut [u8]> = (0..self.source.views)
            .map(|view| {
                let start = (view * self.part() + job.sample) * bytes;
                // SAFETY: the slot is as long as `slot_bytes` says, checked when the pipeline was made, and this
                // range is given to this job alone until `finish`.
                unsafe { std::slice::from_raw_parts_mut(job.slot.ptr.add(start), bytes) }
            })
            .collect();
        let first = self.source.row_at(&job.order, position);
        let candidates = std::iter::once(first).chain(self.source.substitutes(job.epoch, position));
        for (attempt, row) in candidates.enumerate() {
            let rows = self.source.view_rows(row, job.epoch, position);
            let Err(error) = self.source.fill(&rows, job.epoch, position, scratch, &mut outs) else {
                return Ok(Some(rows));
            };
            self.record(&error)?;
            match self.settings.on_error {
                OnError::Skip => break,
                OnError::Substitute if attempt < MAX_SUBSTITUTES => {}
                OnError::Substitute | OnError::Raise => return Err(error),
            }
        }
        for out in outs {
            out.fill(0);
        }
        Ok(None)
    }

    /// Notes an unreadable image. Fails where there are too many.
    fn record(&self, error: &Error) -> Result<()> {
        let (path, reason) = match error {
            Error::Io { path, reason, .. } | Error::Data { path, reason } => (path, reason),
            Error::Argument(_) | Error::Internal(_) => return Err(error.clone()),
        };
        let mut state = self.lock();
        state.failures.insert(path.clone(), reason.clone());
        let (bad, n) = (state.failures.len(), self.source.paths.len());
        let allowed = (self.settings.max_failures * n as f64).ceil() as usize;
        if self.settings.on_error != OnError::Raise && bad > allowed {
            return Err(Error::Argument(format!(
                "{bad} of {n} images could not be read, more than the {allowed} that loader.max_failures allows; \
                 the last: {error}"
            )));
        }
        Ok(())
    }

    fn finish(&self, job: &Job, outcome: Result<Option<Vec<usize>>>) {
        let position = self.position(job);
        let mut state = self.lock();
        // The run may have been stopped and its flights dropped meanwhile.
        let Some(run) = state.run.as_mut() else { return };
        let Some(flight) = run.flights.iter_mut().find(|flight| flight.number == job.number) else { return };
        match outcome {
            Ok(rows) => {
                flight.valid[job.sample] = rows.is_some();
                for (view, row) in rows.unwrap_or_default().into_iter().enumerate() {
                    let at = view * flight.samples + job.sample;
                    flight.rows[at] = row as i64;
                    let color = self.source.color_params(job.epoch, position, view);
                    flight.color[at * COLOR_PARAMS..][..COLOR_PARAMS].copy_from_slice(&color);
                }
            }
            // Of several failures the one of the lowest sample is reported, whichever thread was first.
            Err(error) => {
                if flight.error.as_ref().is_none_or(|(sample, _)| job.sample < *sample) {
                    flight.error = Some((job.sample, error));
                }
            }
        }
        flight.done += 1;
        if flight.done == flight.samples {
            self.ready.notify_all();
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
