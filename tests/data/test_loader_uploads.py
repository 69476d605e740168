"""Pinned slots are not refilled before the copies out of them are over. The events are made up: this needs no GPU."""

import ctypes
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from loading import digest, epoch, geossl_threads, loader, needs_proc, run

from geossl.config import LoaderConfig
from geossl.data import uploads
from geossl.data.index import Index
from geossl.data.loader import Batch, Loader

Jpegs = Callable[..., Index]


class Event:
    """In the place of torch.cuda.Event: completes when a test says so."""

    def __init__(self, device: torch.device | None) -> None:
        self.device, self.done, self.awaited = device, False, False

    def query(self) -> bool:
        return self.done

    def synchronize(self) -> None:
        self.awaited = True


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Every event that is recorded, in order."""
    made: list[Event] = []

    def record(device: torch.device | None = None) -> Event:
        made.append(Event(device))
        return made[-1]

    monkeypatch.setattr(uploads, "record_event", record)
    return made


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch, jpegs: Jpegs) -> Callable[..., Loader]:
    """Makes a loader that takes its memory for pinned."""
    index, empty = jpegs(), torch.empty

    def pageable(*size: Any, pin_memory: bool, **options: Any) -> torch.Tensor:
        assert pin_memory
        return empty(*size, **options)

    def make(slots: int = 2) -> Loader:
        with monkeypatch.context() as patch:
            patch.setattr(torch, "empty", pageable)
            return loader(index, pin=True, loader=LoaderConfig(threads=2), slots=slots)

    return make


class Taker(threading.Thread):
    """Waits for the next batch beside the test."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        super().__init__()
        self.batches = batches
        self.got: list[str] = []

    def run(self) -> None:
        self.got.append(digest(next(self.batches)))


def test_a_slot_is_refilled_once_its_copies_are_over(pinned: Callable[..., Loader], events: list[Event]) -> None:
    expected = epoch(pinned(7))
    events.clear()
    running = iter(pinned(2))
    first = next(running)
    start, size = first.images.data_ptr(), first.images.numel()
    before = ctypes.string_at(start, size)
    del first
    assert digest(next(running)) == expected[1]
    assert len(events) == 2
    taker = Taker(running)
    taker.start()
    time.sleep(0.3)  # ample time for threads to fill a slot that they should not
    assert taker.is_alive()
    assert ctypes.string_at(start, size) == before
    events[0].done = True
    taker.join(timeout=60)
    assert taker.got == [expected[2]]
    assert ctypes.string_at(start, size) != before
    assert not events[1].done
    for event in events:
        event.done = True
    running.close()  # type: ignore[attr-defined]


def test_a_slot_whose_copies_are_over_at_once_is_refilled_at_once(
    pinned: Callable[..., Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(device: torch.device | None = None) -> Event:
        event = Event(device)
        event.done = True
        return event

    monkeypatch.setattr(uploads, "record_event", record)
    source = pinned(2)
    assert len(set(epoch(source))) == 7
    assert not source._uploads.waiting


def test_copies_by_to_are_waited_for_wherever_they_were_made(
    pinned: Callable[..., Loader], events: list[Event]
) -> None:
    source = pinned(2)
    running = iter(source)
    batch = next(running)
    moved = batch.to("meta")  # the one other device that every machine has
    assert (moved.images.device.type, moved.rows.device.type, moved.color.device.type) == ("meta", "meta", "cpu")
    assert moved.images.shape == batch.images.shape
    assert batch.to("cpu").images is batch.images
    assert [event.device for event in events] == [torch.device("meta")], "nothing is recorded for the CPU"
    assert moved.to("meta").uploads is None
    del batch
    assert [event.device for event in events] == [torch.device("meta"), None]
    events[1].done = True
    assert source._uploads.completed() == []
    events[0].done = True
    assert len(source._uploads.completed()) == 1
    assert not source._uploads.waiting
    running.close()  # type: ignore[attr-defined]


@needs_proc
def test_leaving_early_with_copies_under_way_neither_hangs_nor_leaks(
    pinned: Callable[..., Loader], events: list[Event]
) -> None:
    expected = epoch(loader_without_pin := pinned(7))
    del loader_without_pin
    gc.collect()
    events.clear()
    source = pinned(2)
    for batch in source:
        kept = batch
        break
    del batch, kept
    assert geossl_threads() == 0
    assert len(events) == 1
    rest = iter(source)
    assert digest(next(rest)) == expected[1], "the other slot is free"
    for event in events:
        event.done = True
    assert digest(next(rest)) == expected[2]
    rest.close()  # type: ignore[attr-defined]
    unfinished = [event for event in events if not event.done]
    assert unfinished
    del source, rest
    gc.collect()
    assert geossl_threads() == 0
    assert all(event.awaited for event in unfinished), "the memory goes after the copies"


def test_an_exception_on_its_way_is_neither_lost_nor_seen_by_the_events(
    pinned: Callable[..., Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def record(device: torch.device | None = None) -> Any:
        calls.append(device)
        raise RuntimeError("no device")

    monkeypatch.setattr(uploads, "record_event", record)

    def consume() -> None:
        for _batch in pinned(3):
            raise ValueError("consumer")

    with pytest.raises(ValueError, match="consumer"):
        consume()
    gc.collect()
    assert calls == [None]


def test_the_end_of_the_interpreter_is_quiet(jpegs: Jpegs) -> None:
    done = run(
        """
import torch
from geossl.data import uploads
class Event:
    query = synchronize = lambda self: 1 / 0
uploads.record_event = lambda device=None: Event()
empty = torch.empty
torch.empty = lambda *size, pin_memory, **options: empty(*size, **options)
source = loader(source_index, pin=True)
running = iter(source)
first, second = next(running).images, next(running)
print("done")
""",
        jpegs().root,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "done", "")
