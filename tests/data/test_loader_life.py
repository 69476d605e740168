"""The loader's threads and slots: early ends, exceptions, signals, fork and spawn."""

import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from loading import digest, epoch, geossl_threads, loader, needs_proc, run
from made_images import index_of

from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.errors import UsageError

Jpegs = Callable[..., Index]


@needs_proc
def test_leaving_early_ends_the_threads(jpegs: Jpegs) -> None:
    index = jpegs()
    source = loader(index)
    whole = epoch(source)
    source.set_epoch(0)
    for _ in source:
        break
    assert geossl_threads() == 0
    assert [digest(b) for b in source] == whole[1:], "the next iteration goes on where the last one left"

    def fail() -> None:
        for _ in loader(index):
            raise RuntimeError("consumer")

    with pytest.raises(RuntimeError, match="consumer"):
        fail()
    running = iter(loader(index))
    batch = next(running)
    del running
    assert geossl_threads() == 0
    assert batch.images.float().mean() > 0, "the batch outlives its loader"


@needs_proc
def test_a_lease_does_not_keep_the_threads(jpegs: Jpegs) -> None:
    core = loader(jpegs())._core
    core.start(0, 0)
    while not (made := core.next(wait_secs=1, coming=False)):
        assert made is not None
    before = bytes(memoryview(made["lease"]))
    del core
    assert geossl_threads() == 0
    assert bytes(memoryview(made["lease"])) == before


def test_two_loaders_at_once_and_from_other_threads(jpegs: Jpegs) -> None:
    index = jpegs()
    expected = epoch(loader(index))
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(epoch(loader(index)))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [expected] * 4


def test_a_forked_child_gets_an_error_and_ends(jpegs: Jpegs) -> None:
    index = jpegs()
    done = run(
        """
running = iter(source)
next(running)
child = os.fork()
if child == 0:
    for attempt in (lambda: next(running), lambda: next(iter(source))):
        try:
            attempt()
        except UsageError as e:
            print("child:", "before a fork" in str(e), flush=True)
    del running, source
    sys.exit(0)
print("status", os.waitpid(child, 0)[1])
print("parent", sum(1 for _ in running))
""",
        index.root,
    )
    assert done.stdout.split("\n")[:4] == ["child: True", "child: True", "status 0", "parent 6"], done.stderr


def test_ctrl_c_interrupts_the_wait(jpegs: Jpegs) -> None:
    index = jpegs()
    done = run(
        """
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
held = []
started = time.monotonic()
try:
    for batch in source:
        held.append(batch)  # waits for a slot that never comes
except KeyboardInterrupt:
    print("interrupted", 0.3 < time.monotonic() - started < 4)
""",
        index.root,
    )
    assert done.stdout.strip() == "interrupted True", done.stderr


@needs_proc
def test_ctrl_c_in_the_middle_leaves_no_thread_and_no_slot(jpegs: Jpegs) -> None:
    done = run(
        """
whole = epoch(source)
source.set_epoch(0)
got = []
try:
    for batch in source:
        got.append(digest(batch))
        if len(got) == 3:
            signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted", geossl_threads())
del batch
got += [digest(batch) for batch in source]
print(got == whole, geossl_threads())
""",
        jpegs().root,
    )
    assert done.stdout.split("\n")[:2] == ["interrupted 0", "True 0"], done.stderr


@needs_proc
def test_exceptions_of_the_consumer_lose_no_slot(jpegs: Jpegs) -> None:
    source = loader(jpegs(), loader=LoaderConfig(threads=3), slots=2)

    def fail() -> None:
        for _batch in source:
            raise RuntimeError("consumer")

    for number in range(12):
        source.set_epoch(number)
        with pytest.raises(RuntimeError, match="consumer"):
            fail()
        assert geossl_threads() == 0
    assert len(epoch(source)) == 7


@needs_proc
def test_threads_are_there_while_it_runs_and_give_way(jpegs: Jpegs) -> None:
    def nice() -> dict[str, int]:
        values = {}
        for task in Path("/proc/self/task").iterdir():
            name = (task / "comm").read_text().strip()
            if name.startswith("geossl-") and "ahead" not in name:  # those end with the epoch, maybe just now
                values[name] = int((task / "stat").read_text().rpartition(")")[2].split()[16])
        return values

    own = os.getpriority(os.PRIO_PROCESS, 0)
    running = iter(loader(jpegs(), loader=LoaderConfig(threads=3)))
    next(running)
    expected = dict.fromkeys(("geossl-0", "geossl-1", "geossl-2"), min(own + 10, 19))
    # A thread has its name a moment before it lowers its priority.
    until = time.monotonic() + 30
    while nice() != expected and time.monotonic() < until:
        time.sleep(0.01)
    assert nice() == expected
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def test_the_default_leaves_the_trainers_their_cores(jpegs: Jpegs, monkeypatch: pytest.MonkeyPatch) -> None:
    index = jpegs()
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = loader(index, loader=LoaderConfig())._core.threads
    # A container's share may be less than the cores that it sees.
    assert 1 <= alone <= max(len(os.sched_getaffinity(0)) - 1, 1)
    for processes in ("2", "1000"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert loader(index, loader=LoaderConfig())._core.threads == max(alone // int(processes), 1)
    assert loader(index, loader=LoaderConfig(threads=5))._core.threads == 5


def hashes(paths: tuple[list[str], Path], connection: Connection) -> None:
    """Runs in a spawned child."""
    names, root = paths
    index = index_of(root, names, [f"place{i // 3}" for i in range(len(names))])
    connection.send((epoch(loader(index)), geossl_threads()))
    connection.close()


@needs_proc
def test_a_spawned_child_makes_its_own(jpegs: Jpegs) -> None:
    index = jpegs()
    source = loader(index)
    running = iter(source)
    next(running)
    with pytest.raises(UsageError, match="cannot be sent to another process: make it in the child"):
        pickle.dumps(source)
    here, there = multiprocessing.Pipe()
    paths = (index.table["path"].to_pylist(), index.root)
    child = multiprocessing.get_context("spawn").Process(target=hashes, args=(paths, there))
    child.start()
    got, threads = here.recv()
    child.join(60)
    assert (child.exitcode, threads) == (0, 0)
    running.close()  # type: ignore[attr-defined]
    assert got == epoch(loader(index))
