"""Where the time of a step goes: `geossl train --profile N`."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Self, TypeVar

import torch
from torch.profiler import ProfilerActivity, record_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console

    from geossl.config import TrainConfig

FOLDER = "profile"
"""Name of the profile's folder in a run folder."""
TRACE, TABLE = "trace.json", "table.md"
WARM_STEPS = 3
"""Steps before the first that is measured: they choose kernels, compile, and fill the allocator."""
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
OTHER = "other"

T = TypeVar("T")

_recorder: Callable[[str], AbstractContextManager[object]] | None = None


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Say that what happens inside is this part of a step, one of `PHASES`; nothing is done while none is profiled.

    What an inner phase takes is not the outer one's.
    """
    with nullcontext() if _recorder is None else _recorder(name):
        yield


class Profile:
    """Profiles a few steps of a run, which goes on: so many with a clock, then as many with torch's profiler.

    The clock waits for the device where a phase ends, so that the table adds up to the step, whatever would overlap
    without it; the trace shows what overlaps, and its own cost too. It leaves, in profile/ in the run folder, table.md
    and trace.json (Chrome's format, for chrome://tracing or Perfetto).
    """

    def __init__(self, config: TrainConfig, *, steps: int, console: Console) -> None:
        """Profile `steps` steps with each of the two; none where it is 0."""
        self._config, self._steps, self._console = config, steps, console
        self._folder = config.out / FOLDER
        self._begun = 0
        self._clock: _Clock | None = None
        self._tracer: torch.profiler.profile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The run may have been shorter; its last step counts as whole.
        if self._clock is not None:
            self._finish_clock(self._begun - WARM_STEPS)
        elif self._tracer is not None:
            self._finish_trace()
        elif self._steps and self._begun <= WARM_STEPS:
            text = f"profile: not more than {WARM_STEPS} steps were left, which only warm up"
            self._console.print(text, highlight=False)

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """Pass the batches on; a step begins when its batch is asked for, and ends when the next one is."""
        iterator = iter(batches)
        while True:
            self._begin_step()
            try:
                batch = next(iterator)
            except StopIteration:
                self._begun -= 1
                return
            yield batch

    def _begin_step(self) -> None:
        global _recorder  # noqa: PLW0603 - which code runs in a step is not for arguments to carry
        if self._steps and self._begun == WARM_STEPS and self._clock is None:
            self._folder.mkdir(exist_ok=True)
            self._clock = _Clock(torch.device(self._config.device))
            _recorder = self._clock.phase
        elif self._clock is not None and self._begun == WARM_STEPS + self._steps:
            self._finish_clock(self._steps)
            self._tracer = torch.profiler.profile(activities=_activities(torch.device(self._config.device)))
            _recorder = record_function
            self._tracer.start()
        elif self._tracer is not None and self._begun == WARM_STEPS + 2 * self._steps:
            self._finish_trace()
        self._begun += 1

    def _finish_clock(self, steps: int) -> None:
        global _recorder
        if self._clock is None:
            return
        secs, self._clock, _recorder = self._clock.stop(), None, None
        table = _table(secs, steps=steps, config=self._config)
        (self._folder / TABLE).write_text(table, encoding="utf-8")
        self._console.print(table, highlight=False, markup=False, soft_wrap=True)

    def _finish_trace(self) -> None:
        global _recorder
        if self._tracer is None:
            return
        tracer, self._tracer, _recorder = self._tracer, None, None
        tracer.stop()
        path = self._folder / TRACE
        tracer.export_chrome_trace(str(path))
        self._console.print(f"profile: {path}, for chrome://tracing or Perfetto", highlight=False, soft_wrap=True)


class _Clock:
    """Adds up the time that each phase takes by itself."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._secs = dict.fromkeys((*PHASES, OTHER), 0.0)
        self._stack = [OTHER]
        self._last = self._now()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._count()
        self._stack.append(name)
        try:
            yield
        finally:
            self._count()
            self._stack.pop()

    def stop(self) -> dict[str, float]:
        """Seconds of each phase."""
        self._count()
        return self._secs

    def _count(self) -> None:
        now = self._now()
        self._secs[self._stack[-1]] += now - self._last
        self._last = now

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _activities(device: torch.device) -> list[ProfilerActivity]:
    gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    return [ProfilerActivity.CPU, *gpu]


def _table(secs: dict[str, float], *, steps: int, config: TrainConfig) -> str:
    total = sum(secs.values())
    rows = [(name, spent) for name, spent in secs.items() if name in PHASES or spent > 0]
    model = f"{config.model.backbone} at {config.crop.size} pixels, {config.precision} on {config.device}"
    lines = [
        f"{config.arm}: {model}; {steps} steps of {config.batch} images, {steps * config.batch / total:,.1f} images/s",
        "",
        "| part of a step | ms a step | share |",
        "|---|---:|---:|",
        *(f"| {name} | {1e3 * spent / steps:,.2f} | {spent / total:.1%} |" for name, spent in rows),
        f"| all | {1e3 * total / steps:,.2f} | 100.0% |",
    ]
    return "\n".join(lines) + "\n"
