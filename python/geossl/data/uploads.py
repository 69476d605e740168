"""Memory of batches that a GPU may still be copying from: it is not refilled before the copies are over."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

import torch


def record_event(device: torch.device | None = None) -> Any:
    """An event that completes after all that the current stream of `device` has been given so far.

    The device is the current one by default.
    """
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


class Uploads:
    """The slots of a loader that no tensor uses any more, but copies may.

    A copy to a GPU only begins when it is asked for. It is over when an event has completed that was recorded after
    it on its stream: by `Batch.to` right after its copies, and for others on the current stream when the last
    tensor over the slot goes away.
    """

    def __init__(self, slots: list[torch.Tensor]) -> None:
        # Torch would give the memory to others while a copy still reads it, so it has to outlive the copies.
        self._slots = slots
        self._events: dict[int, list[Any]] = {}
        self._waiting: deque[tuple[int, list[Any]]] = deque()

    def lend(self, slot: int) -> list[Any]:
        """A new list for the events of copies from `slot`, which is handed to a consumer."""
        events: list[Any] = []
        self._events[slot] = events
        return events

    def may_refill(self, slot: int) -> bool:
        """Whether all copies from `slot` are over; if not, `completed` names it once they are.

        Called when the last tensor that uses the slot goes away, by whichever thread lets go of it.
        """
        events = [*self._events.pop(slot, []), record_event()]
        if all(event.query() for event in events):
            return True
        self._waiting.append((slot, events))
        return False

    @property
    def waiting(self) -> bool:
        """Whether there are slots whose copies are not known to be over."""
        return bool(self._waiting)

    def completed(self) -> list[int]:
        """The slots whose copies are over by now, each named once."""
        done = []
        # Others may add to the end meanwhile.
        for _ in range(len(self._waiting)):
            slot, events = self._waiting.popleft()
            if all(event.query() for event in events):
                done.append(slot)
            else:
                self._waiting.append((slot, events))
        return done

    def __del__(self) -> None:
        # The interpreter may be ending, and CUDA be gone.
        with contextlib.suppress(Exception):
            for _, events in self._waiting:
                for event in events:
                    event.synchronize()
