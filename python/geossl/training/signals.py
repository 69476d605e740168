"""Stopping between two steps, when a signal asks for it."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; the end of a job, or of a machine that is lent; SLURM's warning before that (`--signal=USR1@120`)."""
ECHO_SECS = 1.0
"""A signal that follows the first so soon is the same one: a launcher passes on what the whole group has got."""


class StopRequest:
    """Notes a signal of `STOPS` instead of dying of it; a second one acts at once, as it did before.

    Outside the main thread, where Python cannot handle signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The signal that came, None as long as none has."""
        self._at = 0.0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._at = signal.Signals(number), now
        elif now - self._at >= ECHO_SECS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())  # type: ignore[arg-type]
