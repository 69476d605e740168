//! What the threads share: the batches in flight, the slots, and how a finished batch is taken.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Next, Ready, Settings, SlotMemory, Stats};
use crate::color::COLOR_PARAMS;
use crate::order::Permutation;
use crate::sample::Source;
use crate::{Error, Result};

/// How long `next` waits for the consumer to give back a slot before it says that there is none.
const HELD_TIMEOUT: Duration = Duration::from_secs(5);

/// A sample to fill.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// Row of its first view.
    pub row: usize,
    /// Its place in this rank's part of the batch.
    pub sample: usize,
}

/// A batch that is being filled.
#[derive(Default)]
pub struct Flight {
    pub number: u64,
    pub slot: usize,
    pub samples: usize,
    /// The samples in the order in which they are filled; empty until one thread has listed them.
    pub tasks: Vec<Task>,
    /// How many tasks have been claimed.
    pub claimed: usize,
    pub done: usize,
    pub rows: Vec<i64>,
    pub color: Vec<f32>,
    pub gains: Vec<f32>,
    pub valid: Vec<bool>,
    pub error: Option<(usize, Error)>,
}

impl Flight {
    pub fn new(number: u64, slot: usize, samples: usize) -> Self {
        Self { number, slot, samples, ..Self::default() }
    }

    fn ready(&self) -> bool {
        self.done == self.samples
    }
}

pub struct Run {
    pub epoch: u64,
    pub order: Arc<Permutation>,
    /// The next batch to open.
    pub next: u64,
    pub end: u64,
    pub flights: VecDeque<Flight>,
    pub started: Instant,
    /// How many batches were ready when the next one was asked for first.
    asked: Option<usize>,
}

impl Run {
    pub fn new(epoch: u64, order: Arc<Permutation>, first: u64, end: u64) -> Self {
        Self { epoch, order, next: first, end, flights: VecDeque::new(), started: Instant::now(), asked: None }
    }

    pub fn flight(&mut self, number: u64) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.number == number)
    }

    /// Batches that can be taken now.
    pub fn ready(&self) -> usize {
        self.flights.iter().take_while(|flight| flight.ready()).count()
    }
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
    pub stats: Stats,
}

pub struct Shared {
    pub source: Source,
    pub settings: Settings,
    pub slots: Vec<SlotMemory>,
    pub state: Mutex<State>,
    /// There may be something to claim, or the run ends.
    pub work: Condvar,
    /// A batch may be ready.
    pub ready: Condvar,
    /// The read-ahead may go on, or the run ends.
    pub ahead: Condvar,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Samples of this rank's part of a whole batch.
    pub fn part(&self) -> usize {
        self.settings.batch / self.settings.world
    }

    /// Samples of this rank's part of batch `number`: the last batch may be short.
    pub fn samples(&self, number: u64) -> usize {
        let left = self.source.paths.len() as u64 - number * self.settings.batch as u64;
        let whole = left.min(self.settings.batch as u64) as usize;
        whole.saturating_sub(self.settings.rank * self.part()).min(self.part())
    }

    /// The epoch's position of a sample of this rank's part of batch `number`.
    pub fn position(&self, number: u64, sample: usize) -> u64 {
        number * self.settings.batch as u64 + (self.settings.rank * self.part() + sample) as u64
    }

    /// The samples of a batch in the order in which their images lie on disk, which is that of the rows.
    /// Takes about a microsecond a sample: not to be called under the lock.
    pub fn tasks(&self, order: &Permutation, number: u64) -> Vec<Task> {
        let mut tasks: Vec<Task> = (0..self.samples(number))
            .map(|sample| Task { row: self.source.row_at(order, self.position(number, sample)), sample })
            .collect();
        tasks.sort_unstable_by_key(|task| (task.row, task.sample));
        tasks
    }

    /// Takes the next batch. `coming`: slots come back without the consumer's doing, so that it is not to blame
    /// where there are none.
    pub fn take(&self, timeout: Duration, coming: bool) -> Result<Next> {
        let started = Instant::now();
        let mut state = self.lock();
        let answer = loop {
            if let Some(error) = &state.fatal {
                break Err(error.clone());
            }
            let State { run, free, held_since, .. } = &mut *state;
            let Some(run) = run else { break Ok(Next::Done) };
            let ready = run.ready();
            let asked = *run.asked.get_or_insert(ready);
            if ready > 0 {
                run.asked = None;
                let flight = run.flights.pop_front();
                *held_since = None;
                break flight.map_or_else(
                    || Err(Error::Internal("a batch vanished".into())),
                    |flight| Self::hand_over(&mut state, flight, asked),
                );
            }
            if run.flights.is_empty() && run.next >= run.end {
                break Ok(Next::Done);
            }
            let now = Instant::now();
            *held_since = (!coming && run.flights.is_empty() && free.is_empty()).then(|| held_since.unwrap_or(now));
            if held_since.is_some_and(|since| now - since >= HELD_TIMEOUT) {
                break Err(Error::Argument(format!(
                    "all {} slots are held: let go of earlier batches (copy what you keep), or give the loader more",
                    self.slots.len()
                )));
            }
            let left = (started + timeout).saturating_duration_since(now);
            if left.is_zero() {
                break Ok(Next::Pending);
            }
            state = self.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.stats.wait_secs += started.elapsed().as_secs_f64();
        answer
    }

    fn hand_over(state: &mut State, flight: Flight, asked: usize) -> Result<Next> {
        if let Some((_, error)) = flight.error {
            state.free.push(flight.slot);
            state.fatal = Some(error.clone());
            return Err(error);
        }
        state.stats.add_batch(asked);
        let Flight { slot, number, samples, rows, color, gains, valid, .. } = flight;
        Ok(Next::Batch(Ready { slot, number, samples, rows, color, gains, valid }))
    }

    /// Readies the flight of batch `number` for filling.
    pub fn list(&self, order: &Permutation, number: u64) {
        let tasks = self.tasks(order, number);
        let samples = tasks.len();
        let views = self.source.views * samples;
        let (rows, color, valid) = (vec![-1; views], vec![0.0; views * COLOR_PARAMS], vec![false; samples]);
        let gains = vec![0.0; views * usize::from(self.source.bands)];
        let mut state = self.lock();
        if let Some(flight) = state.run.as_mut().and_then(|run| run.flight(number)) {
            (flight.tasks, flight.rows, flight.valid) = (tasks, rows, valid);
            (flight.color, flight.gains) = (color, gains);
        }
        drop(state);
        self.work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crop::CropSpec;
    use crate::pipeline::OnError;

    fn shared(images: usize, rank: usize, world: usize) -> Shared {
        let source = Source { seed: 3, ..Source::new(vec![PathBuf::new(); images], (3, 8), CropSpec::new(4)) };
        let settings = Settings { batch: 12, rank, world, threads: 1, on_error: OnError::Raise, max_failures: 0.0 };
        let (slots, state) = (Vec::new(), Mutex::default());
        let (work, ready, ahead) = (Condvar::new(), Condvar::new(), Condvar::new());
        Shared { source, settings, slots, state, work, ready, ahead }
    }

    #[test]
    fn samples_are_filled_in_the_order_of_their_rows_and_keep_their_places() {
        let order = Permutation::new(100, 3, 7);
        for (rank, world) in [(0, 1), (0, 3), (2, 3)] {
            let shared = shared(100, rank, world);
            let mut moved = 0;
            for number in 0..8 {
                let tasks = shared.tasks(&order, number);
                assert!(tasks.is_sorted_by_key(|task| task.row));
                let mut samples: Vec<usize> = tasks.iter().map(|task| task.sample).collect();
                moved += usize::from(!samples.is_sorted());
                samples.sort_unstable();
                assert!(samples.into_iter().eq(0..12 / world));
                for task in tasks {
                    assert_eq!(task.row as u64, order.get(shared.position(number, task.sample)));
                }
            }
            assert!(moved > 5, "the epoch's order is another");
        }
    }
}
