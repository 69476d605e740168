"""What the loader tells about itself."""

import time
from collections.abc import Callable

from loading import epoch, loader

from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.data.stats import LoaderStats, count_reasons

Jpegs = Callable[..., Index]


def test_statistics_count_what_was_done(jpegs: Jpegs) -> None:
    index = jpegs()
    source = loader(index, temporal=False)
    assert source.stats() == LoaderStats(slots=4)
    epoch(source)
    stats = source.stats()
    sizes = sum(f.stat().st_size for f in index.root.glob("*.jpg"))
    assert stats.batches == 7
    assert stats.images == 28, "two views of one image are one decode"
    assert sizes * 0.8 < stats.bytes_read < sizes
    assert 0 < stats.read_secs + stats.decode_secs + stats.resample_secs <= stats.work_secs
    assert stats.ms_an_image == 1e3 * stats.work_secs / 28
    assert 0 < stats.wait_secs <= stats.run_secs
    assert stats.bytes_per_sec == stats.bytes_read / stats.run_secs
    assert (stats.slots, stats.ready_now, stats.failures) == (4, 0, {})
    # 4 slots of 2 x 4 views of 16 x 16 x 3; for each of 2 threads an image, its file, small things.
    assert source.memory_bound == 4 * 2 * 4 * 16 * 16 * 3 + 2 * (2 * 2**30 + 64 * 2**20)


def test_a_slow_consumer_finds_batches_ready_and_lets_the_threads_wait(jpegs: Jpegs) -> None:
    source = loader(jpegs(), loader=LoaderConfig(threads=2), slots=3)
    running = iter(source)
    for _ in range(4):
        batch = next(running)
        while source.stats().ready_now < 2:
            time.sleep(0.001)
    before = source.stats()
    time.sleep(0.1)
    del batch
    next(running)
    stats = source.stats()
    assert stats.idle_secs >= before.idle_secs
    assert (stats.batches, stats.ready_at_once >= 4) == (5, True)
    assert stats.queue_depth >= 2 * 4 / 5
    running.close()  # type: ignore[attr-defined]
    assert source.stats().idle_secs > 0.1


def test_the_difference_of_two_readings(jpegs: Jpegs) -> None:
    source = loader(jpegs(), temporal=False)
    epoch(source, 0)
    first = source.stats()
    epoch(source, 1)
    both = source.stats()
    second = both.since(first)
    assert (second.batches, second.images, second.slots) == (7, 28, 4)
    assert second.bytes_read == both.bytes_read - first.bytes_read
    assert second.run_secs == both.run_secs - first.run_secs > 0


def test_like_reasons_count_as_one() -> None:
    reasons = [
        "the file is empty",
        "claims 65500 x 65500 pixels of 3 bands, 12274 MiB decoded, over the limit of 1024 MiB",
        "claims 70 x 6.5 pixels of 3 bands, 12 MiB decoded, over the limit of 1024 MiB",
        "No such file or directory (os error 2)",
    ]
    claim = "claims N x N pixels of N bands, N MiB decoded, over the limit of N MiB"
    expected = {claim: 2, "the file is empty": 1, "No such file or directory": 1}
    assert count_reasons(reasons) == expected
    assert next(iter(count_reasons(reasons))) == claim


def test_one_line_tells_it_all() -> None:
    stats = LoaderStats(
        images=1000, bytes_read=3_400_000_000, work_secs=1.9, wait_secs=0.4, run_secs=40, batches=10, ready_sum=32,
        slots=4, failures={"truncated": 2},
    )  # fmt: skip
    assert str(stats) == (
        "1.9 ms an image, 3.2 of 4 batches ready, starved 0.4 s (1%), 85.0 MB/s, 2 unreadable (truncated: 2)"
    )
    assert str(LoaderStats()) == "0.0 ms an image, 0.0 of 0 batches ready, starved 0.0 s (0%), 0.0 MB/s"
