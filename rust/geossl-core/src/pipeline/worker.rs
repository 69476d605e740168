//! What each worker does: claim a sample, fill it, hand it in.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::shared::{Flight, Shared, State, Task};
use super::{OnError, SlotMemory};
use crate::color::COLOR_PARAMS;
use crate::sample::{Scratch, Tally};
use crate::{Error, Result};

/// Substitutes tried for one sample before giving up.
const MAX_SUBSTITUTES: usize = 32;

struct Job {
    epoch: u64,
    number: u64,
    task: Task,
    position: u64,
    slot: SlotMemory,
}

impl Shared {
    /// A worker's life.
    pub fn serve(&self) {
        let mut scratch = Scratch::default();
        while let Some(job) = self.claim() {
            let started = Instant::now();
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work(&job, &mut scratch)));
            let outcome = caught.unwrap_or_else(|panic| {
                scratch = Scratch::default();
                let name = self.source.paths[job.task.row].display();
                Err(Error::Internal(format!("{name}: a panic: {}", message(panic.as_ref()))))
            });
            self.finish(&job, outcome, &std::mem::take(&mut scratch.tally), started.elapsed());
        }
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
            let epoch = run.epoch;
            if let Some((number, task, slot)) = run.flights.iter_mut().find_map(Flight::claim) {
                let position = self.position(number, task.sample);
                return Some(Job { epoch, number, task, position, slot: self.slots[slot] });
            }
            let waits_for_slot = run.next < run.end;
            if waits_for_slot && let Some(slot) = free.pop() {
                let (number, order) = (run.next, Arc::clone(&run.order));
                run.flights.push_back(Flight::new(number, slot, self.samples(number)));
                run.next += 1;
                drop(state);
                self.ahead.notify_all();
                self.list(&order, number);
                // A part may be empty where the last batch is short.
                self.ready.notify_all();
                state = self.lock();
                continue;
            }
            let since = Instant::now();
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            if waits_for_slot {
                state.stats.idle_secs += since.elapsed().as_secs_f64();
            }
        }
    }

    /// Fills one sample; the rows that its views show, None where it is left out.
    fn work(&self, job: &Job, scratch: &mut Scratch) -> Result<Option<Vec<usize>>> {
        let Job { epoch, position, task, .. } = *job;
        let bytes = self.source.view_bytes();
        let mut outs: Vec<&mut [u8]> = (0..self.source.views)
            .map(|view| {
                let start = (view * self.part() + task.sample) * bytes;
                // SAFETY: the slot is as long as `slot_bytes` says, checked when the pipeline was made, and this
                // range is given to this job alone until `finish`.
                unsafe { std::slice::from_raw_parts_mut(job.slot.ptr.add(start), bytes) }
            })
            .collect();
        let candidates = std::iter::once(task.row).chain(self.source.substitutes(epoch, position));
        for (attempt, row) in candidates.enumerate() {
            let rows = self.source.view_rows(row, epoch, position);
            let Err(error) = self.source.fill(&rows, epoch, position, scratch, &mut outs) else {
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
                "{bad} of {n} images could not be read, more than the {allowed} that are allowed; the last: {error}"
            )));
        }
        Ok(())
    }

    fn finish(&self, job: &Job, outcome: Result<Option<Vec<usize>>>, tally: &Tally, work: Duration) {
        let (sample, bands) = (job.task.sample, usize::from(self.source.bands));
        // Drawn before the lock is taken, which every thread waits for.
        let colors: Vec<_> =
            (0..self.source.views).map(|view| self.source.color_params(job.epoch, job.position, view)).collect();
        let rows = outcome.as_ref().ok().and_then(Option::as_ref).map_or(&[][..], Vec::as_slice);
        let drawn = |(view, &row): (usize, &usize)| self.source.gains(row, job.epoch, job.position, view);
        let gains: Vec<_> = rows.iter().enumerate().map(drawn).collect();
        let mut state = self.lock();
        state.stats.add(tally, work);
        let Some(flight) = state.run.as_mut().and_then(|run| run.flight(job.number)) else { return };
        match outcome {
            Ok(rows) => {
                flight.valid[sample] = rows.is_some();
                for (view, row) in rows.unwrap_or_default().into_iter().enumerate() {
                    let at = view * flight.samples + sample;
                    flight.rows[at] = row as i64;
                    flight.color[at * COLOR_PARAMS..][..COLOR_PARAMS].copy_from_slice(&colors[view]);
                    flight.gains[at * bands..][..bands].copy_from_slice(&gains[view]);
                }
            }
            // Of several failures the one of the lowest sample is reported, whichever thread was first.
            Err(error) => {
                if flight.error.as_ref().is_none_or(|(other, _)| sample < *other) {
                    flight.error = Some((sample, error));
                }
            }
        }
        flight.done += 1;
        if flight.done == flight.samples {
            self.ready.notify_all();
        }
    }
}

impl Flight {
    /// The next of its tasks, with its number and slot.
    fn claim(&mut self) -> Option<(u64, Task, usize)> {
        let task = *self.tasks.get(self.claimed)?;
        self.claimed += 1;
        Some((self.number, task, self.slot))
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
