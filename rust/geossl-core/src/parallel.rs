//! Work spread over scoped threads. There is no global pool, so a fork cannot break one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::{Error, Result};

/// Number of threads meant by `threads`, where 0 is one for every core this process may use.
pub fn resolve_threads(threads: usize) -> usize {
    if threads > 0 { threads } else { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
}

/// `f(0), .., f(n - 1)` in order, computed by up to `threads` threads (0: all cores).
/// The result does not depend on the number of threads. A panic of `f` is passed on.
pub fn map<T: Send>(n: usize, threads: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = resolve_threads(threads).min(n.max(1));
    if threads == 1 {
        return (0..n).map(f).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(n));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut mine = Vec::new();
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= n {
                        break;
                    }
                    mine.push((i, f(i)));
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).append(&mut mine);
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, value)| value).collect()
}

/// Calls `f` once with each item, by up to `threads` threads (0: all cores), in no order. A panic of `f` is passed on.
pub fn each<I: Iterator + Send>(items: I, threads: usize, f: impl Fn(I::Item) + Sync) {
    let threads = resolve_threads(threads);
    if threads == 1 {
        return items.for_each(f);
    }
    let items = Mutex::new(items);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(item) = item else { break };
                    f(item);
                }
            });
        }
    });
}

/// How long `ordered` lets its caller wait for a result before it calls it without one.
const TICK: Duration = Duration::from_millis(100);

struct Ordered<T> {
    claimed: u64,
    taken: u64,
    ready: BTreeMap<u64, std::thread::Result<T>>,
    stop: bool,
}

/// Computes `work(n)` for each n of `range` by `threads` threads, each with an `S` of its own, and gives the results
/// to `sink` in order, on the calling thread; `sink(None)` now and then while none is ready. Threads run ahead of the
/// sink by a bounded number of results. Ends at the sink's first error, and returns it.
pub fn ordered<T: Send, S: Default>(
    threads: usize,
    range: Range<u64>,
    work: impl Fn(u64, &mut S) -> T + Sync,
    mut sink: impl FnMut(Option<(u64, T)>) -> Result<()>,
) -> Result<()> {
    let ahead = 4 * threads as u64;
    let start = Ordered { claimed: range.start, taken: range.start, ready: BTreeMap::new(), stop: false };
    let (state, changed) = (Mutex::new(start), Condvar::new());
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let serve = || {
        let mut own = S::default();
        let mut now = lock();
        while !now.stop && now.claimed < range.end {
            if now.claimed >= now.taken + ahead {
                now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let n = now.claimed;
            now.claimed += 1;
            drop(now);
            let done = std::panic::catch_unwind(AssertUnwindSafe(|| work(n, &mut own)));
            now = lock();
            now.ready.insert(n, done);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min((range.end - range.start) as usize) {
            scope.spawn(serve);
        }
        let outcome = (|| {
            for n in range.clone() {
                let done = loop {
                    let mut now = lock();
                    if let Some(done) = now.ready.remove(&n) {
                        now.taken = n + 1;
                        changed.notify_all();
                        break done;
                    }
                    let (now, timeout) = changed.wait_timeout(now, TICK).unwrap_or_else(PoisonError::into_inner);
                    drop(now);
                    if timeout.timed_out() {
                        sink(None)?;
                    }
                };
                let value = done.map_err(|_| Error::Internal(format!("a panic in the work on item {n}")))?;
                sink(Some((n, value)))?;
            }
            Ok(())
        })();
        lock().stop = true;
        changed.notify_all();
        outcome
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_come_in_order_until_the_sink_fails() {
        for threads in [1, 2, 5] {
            let mut got = Vec::new();
            let outcome = super::ordered(
                threads,
                3..1000,
                |n, calls: &mut u64| {
                    *calls += 1;
                    n * n
                },
                |result| {
                    got.extend(result);
                    if got.len() == 500 { Err(crate::Error::Argument("enough".into())) } else { Ok(()) }
                },
            );
            assert!(outcome.is_err());
            assert_eq!(got, (3..503).map(|n| (n, n * n)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        let outcome = super::ordered(2, 0..10, |n, (): &mut ()| assert!(n != 4), |_| Ok(()));
        assert!(matches!(outcome, Err(crate::Error::Internal(_))));
    }

    #[test]
    fn each_item_is_seen_once() {
        let mut data = vec![1u32; 10_000];
        for threads in [1, 3] {
            super::each(data.chunks_mut(7), threads, |chunk| chunk.iter_mut().for_each(|x| *x += 1));
        }
        assert!(data.iter().all(|&x| x == 3));
    }

    #[test]
    fn keeps_the_order_for_any_thread_count() {
        let want: Vec<usize> = (0..1000).map(|i| i * i).collect();
        for threads in [1, 2, 5] {
            assert_eq!(super::map(1000, threads, |i| i * i), want);
        }
        assert!(super::map(0, 3, |i| i).is_empty());
    }
}
