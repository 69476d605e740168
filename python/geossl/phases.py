"""The parts of a training step, told to whoever profiles it: code says what it is doing with `phase`."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Recorder = Callable[[str], AbstractContextManager[object]]

PHASES = (
    "data wait",
    "upload",
    "augment",
    "forward",
    "momentum update",
    "backward",
    "optimizer",
    "figures and log",
    "checkpoint",
)

_recorder: Recorder | None = None


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Say that what happens inside is this part of a step, one of `PHASES`; it costs a microsecond.

    Also a decorator. What an inner phase takes is not the outer one's.
    """
    with nullcontext() if _recorder is None else _recorder(name):
        yield


def record(recorder: Recorder | None) -> None:
    """Enter `recorder(name)` around every phase from now on; None ends it."""
    global _recorder  # noqa: PLW0603 - who profiles is not for the arguments of all code below to carry
    _recorder = recorder
