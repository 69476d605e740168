//! Threads that walk ahead of the workers and tell the system which images come next, so that they are in memory
//! when a worker opens them: for cold files and network file systems.
//!
//! They go in the workers' order, through the batches in flight and the one after them, and no further. Each has
//! little to do but wait for the file system.

use std::sync::{Arc, Mutex, PoisonError};

use super::shared::{Shared, Task};
use crate::order::Permutation;

/// How many walk together: a network file system takes milliseconds to open a file.
pub const THREADS: usize = 4;

/// Where they are.
pub struct Walk {
    epoch: u64,
    order: Arc<Permutation>,
    number: u64,
    /// Tasks of batch `number`, once they are known.
    tasks: Option<Vec<Task>>,
    /// How many of them are behind.
    at: usize,
}

impl Walk {
    pub fn new(epoch: u64, order: Arc<Permutation>, first: u64) -> Self {
        Self { epoch, order, number: first, tasks: None, at: 0 }
    }
}

impl Shared {
    /// The life of one of the threads.
    pub fn read_ahead(&self, walk: &Mutex<Walk>) {
        while let Some(rows) = self.step(walk) {
            for (view, row) in rows.iter().enumerate() {
                if !rows[..view].contains(row) {
                    self.source.advise(*row);
                }
            }
        }
    }

    /// The rows that the next sample's views show; None at the end of the run.
    fn step(&self, walk: &Mutex<Walk>) -> Option<Vec<usize>> {
        // The others wait here while one waits for room or lists a batch's tasks: they could not do otherwise.
        let mut walk = walk.lock().unwrap_or_else(PoisonError::into_inner);
        let Walk { epoch, order, number, tasks, at } = &mut *walk;
        loop {
            let claimed = self.wait_for_room(*number)?;
            let known = tasks.get_or_insert_with(|| self.tasks(order, *number));
            // What a worker has claimed, it reads itself.
            *at = claimed.max(*at);
            if let Some(task) = known.get(*at) {
                *at += 1;
                return Some(self.source.view_rows(task.row, *epoch, self.position(*number, task.sample)));
            }
            (*number, *tasks, *at) = (*number + 1, None, 0);
        }
    }

    /// Waits until batch `number` is in flight or next. How many of its samples the workers have claimed; None at the
    /// end of the run.
    fn wait_for_room(&self, number: u64) -> Option<usize> {
        let mut state = self.lock();
        loop {
            let stopping = state.stopping;
            let run = state.run.as_mut().filter(|run| !stopping && number < run.end)?;
            if number == run.next {
                return Some(0);
            }
            if number < run.next {
                return Some(run.flight(number).map_or(usize::MAX, |flight| flight.claimed));
            }
            state = self.ahead.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
