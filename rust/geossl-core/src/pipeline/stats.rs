//! What the pipeline counts, to tell who waits for whom.

use std::time::Duration;

use crate::sample::Tally;

/// Counters since the pipeline was made. Seconds are those of a clock on the wall, added up over the threads where
/// several work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Images read and decoded.
    pub images: u64,
    /// Bytes of files read.
    pub bytes_read: u64,
    /// Seconds of all threads spent on samples.
    pub work_secs: f64,
    /// Those of them spent on reading.
    pub read_secs: f64,
    /// Those spent on decoding.
    pub decode_secs: f64,
    /// Those spent on cutting and resampling.
    pub resample_secs: f64,
    /// Seconds of all threads spent waiting for a slot: the consumer is slower.
    pub idle_secs: f64,
    /// Seconds that `next` waited: the threads are slower.
    pub wait_secs: f64,
    /// Seconds with a run under way.
    pub run_secs: f64,
    /// Batches handed over.
    pub batches: u64,
    /// Batches that were ready when asked for.
    pub ready_at_once: u64,
    /// Batches that were ready when one was asked for, added up.
    pub ready_sum: u64,
    /// Batches that are ready now.
    pub ready_now: u64,
}

impl Stats {
    /// Adds a finished sample.
    pub(super) fn add(&mut self, tally: &Tally, work: Duration) {
        self.images += tally.images;
        self.bytes_read += tally.bytes_read;
        self.read_secs += tally.read.as_secs_f64();
        self.decode_secs += tally.decode.as_secs_f64();
        self.resample_secs += tally.resample.as_secs_f64();
        self.work_secs += work.as_secs_f64();
    }

    /// Adds a batch that is handed over, `ready` of which there were when it was asked for.
    pub(super) fn add_batch(&mut self, ready: usize) {
        self.batches += 1;
        self.ready_at_once += u64::from(ready > 0);
        self.ready_sum += ready as u64;
    }
}
