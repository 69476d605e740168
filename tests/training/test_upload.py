"""Batches copied ahead, on a device that is made up: it notes what is put into its streams. This needs no GPU."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch

from geossl.data import uploads
from geossl.data.loader import Batch
from geossl.training.upload import uploaded

META = torch.device("meta")  # the one other device that every machine has


class Stream:
    """Notes what waits for what; everything is (what, which)."""

    def __init__(self, name: str, log: list[Any]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: "Stream") -> None:
        self.log.append((f"{self.name} waits for", other.name))

    def wait_event(self, event: str) -> None:
        self.log.append((f"{self.name} waits for", event))

    def record_event(self) -> str:
        name = f"copy {sum(what == 'copy' for what, _ in self.log) - 1}"
        self.log.append((f"{self.name} records", name))
        return name


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happens, in order, on a made-up device with the streams `main` and `side`."""
    made: list[Any] = []
    main = Stream("main", made)
    current = [main]

    class Inside:
        def __init__(self, stream: Stream) -> None:
            self.stream = stream

        def __enter__(self) -> None:
            current.append(self.stream)

        def __exit__(self, *_: object) -> None:
            current.pop()

    def record(device: torch.device | None = None) -> str:
        made.append(("copy", current[-1].name))
        return "event"

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side", made))
    monkeypatch.setattr(torch.cuda, "stream", Inside)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    monkeypatch.setattr(uploads, "record_event", record)
    monkeypatch.setattr(Lease, "log", made)
    monkeypatch.setattr(Lease, "stream", lambda: current[-1].name)
    return made


class Lease(torch.Tensor):
    """Tells on which stream's turn the last reference to a batch's memory goes."""

    log: ClassVar[list[Any]] = []
    number: int

    @staticmethod
    def stream() -> str:
        return ""

    def __del__(self) -> None:
        if hasattr(self, "number"):
            type(self).log.append((f"slot {self.number} is let go of", type(self).stream()))


class Source:
    """Three batches in pinned memory."""

    def __init__(self) -> None:
        self.given, self.closed = 0, False

    def __iter__(self) -> Iterator[Batch]:
        try:
            for i in range(3):
                self.given += 1
                yield make(i)  # like the loader's, this frame holds nothing of the batch
        finally:
            self.closed = True


def make(number: int) -> Batch:
    images = torch.full((2, 4, 3, 8, 8), number, dtype=torch.uint8).as_subclass(Lease)
    images.number = number
    rows, rest = torch.full((2, 4), number), torch.zeros(2, 4, 7)
    return Batch(images=images, rows=rows, color=rest, gains=rest, uploads=[])


def test_the_next_batch_is_copied_on_a_side_stream_before_one_is_handed_over(log: list[Any]) -> None:
    for number, batch in enumerate(uploaded(Source(), META)):
        assert (batch.images.device, batch.rows.device, batch.color.device) == (META, *2 * [torch.device("cpu")])
        assert batch.rows.unique().tolist() == [number]
        log.append(("step", number))

    def copy(i: int) -> list[Any]:
        # The memory that the copy gets is free once what main was given so far is over; the slot is let go of while
        # the copy's stream is the current one, so that it waits for the copy and not for the network.
        return [
            ("side waits for", "main"),
            ("copy", "side"),
            (f"slot {i} is let go of", "side"),
            ("side records", f"copy {i}"),
        ]

    def step(i: int) -> list[Any]:
        return [("main waits for", f"copy {i}"), ("step", i)]

    assert log == [*copy(0), *copy(1), *step(0), *copy(2), *step(1), *step(2)]


def test_at_most_one_batch_is_ahead_and_leaving_early_ends_the_loader(log: list[Any]) -> None:
    source = Source()
    running = uploaded(source, META)
    next(running)
    assert (source.given, source.closed) == (2, False)
    running.close()
    assert source.closed


def test_on_the_cpu_batches_pass_untouched_one_at_a_time() -> None:
    source = Source()
    running = uploaded(source, torch.device("cpu"))
    first = next(running)
    assert (source.given, first.uploads) == (1, [])
    assert first.images.unique().tolist() == [0]
    assert [batch.rows[0, 0].item() for batch in running] == [1, 2]
    assert source.closed
