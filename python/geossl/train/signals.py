"""Stopping between two steps, when a signal asks for it."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType


class StopRequest:
    """Notes SIGINT and SIGTERM instead of dying of them; a second one acts as it did before.

    Outside the main thread, where Python cannot handle signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The signal that came, None as long as none has."""
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())  # type: ignore[arg-type]
