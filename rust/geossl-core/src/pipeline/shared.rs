//! What the threads share, and what each of them does: claim a sample, fill it, hand it in.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Next, OnError, Ready, Settings, SlotMemory};
use crate::color::COLOR_PARAMS;
use crate::order::Permutation;
use crate::sample::{Scratch, Source};
use crate::{Error, Result};

/// Substitutes tried for one sample before giving up.
const MAX_SUBSTITUTES: usize = 32;
/// How long `next` waits for the consumer to give back a slot before it says that there is none.
const HELD_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Flight {
    number: u64,
    pub slot: usize,
    samples: usize,
    issued: usize,
    done: usize,
    rows: Vec<i64>,
    color: Vec<f32>,
    valid: Vec<bool>,
    error: Option<(usize, Error)>,
}

pub struct Run {
    pub epoch: u64,
    pub order: Arc<Permutation>,
    pub next: u64,
    pub end: u64,
    pub flights: VecDeque<Flight>,
}

#[derive(Default)]
pub struct State {
    pub free: Vec<usize>,
    pub run: Option<Run>,
    pub stopping: bool,
    pub fatal: Option<Error>,
    /// Since when no batch can be made because the consumer holds every slot.
    pub held_since: Option<Instant>,
    pub failures: BTreeMap<PathBuf, String>,
}

#[derive(Default)]
pub struct Counters {
    pub images: AtomicU64,
    pub bytes: AtomicU64,
    pub work_nanos: AtomicU64,
    pub wait_nanos: AtomicU64,
    pub batches: AtomicU64,
    pub ready_at_once: AtomicU64,
}

pub struct Shared {
    pub source: Source,
    pub settings: Settings,
    pub slots: Vec<SlotMemory>,
    pub state: Mutex<State>,
    pub work: Condvar,
    pub ready: Condvar,
    pub counters: Counters,
}

struct Job {
    epoch: u64,
    order: Arc<Permutation>,
    number: u64,
    sample: usize,
    slot: SlotMemory,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self) -> usize {
        self.settings.batch / self.settings.world
    }

    pub fn take(&self, timeout: Duration) -> Result<Next> {
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
    pub fn serve(&self) {
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
        // Drawn before the lock is taken, which every thread waits for.
        let colors: Vec<_> =
            (0..self.source.views).map(|view| self.source.color_params(job.epoch, position, view)).collect();
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
                    flight.color[at * COLOR_PARAMS..][..COLOR_PARAMS].copy_from_slice(&colors[view]);
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
