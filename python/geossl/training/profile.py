"""Where the time of a step goes: `geossl train --profile N`."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

import torch
from torch.profiler import ProfilerActivity, record_function

from geossl.phases import PHASES, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from geossl.config import TrainConfig

FOLDER = "profile"
"""Name of the profile's folder in a run folder."""
TRACE, TABLE = "trace.json", "table.md"
WARM_STEPS = 3
"""Steps before the first that is measured: they choose kernels, compile, and fill the allocator."""
OTHER = "other"

T = TypeVar("T")


class Profile:
    """Profiles a few steps of a run, which goes on: so many with a clock, then as many with torch's profiler.

    The clock waits for the device where a phase ends, so that the table adds up to the step, whatever would overlap
    without it; the trace shows what overlaps, and its own cost too. It leaves, in profile/ in the run folder, table.md
    and trace.json (Chrome's format, for chrome://tracing or Perfetto).
    """

    def __init__(self, config: TrainConfig, *, steps: int, console: Console) -> None:
        """Profile `steps` steps with each of the two; none where it is 0."""
        self._config, self._steps, self._console = config, steps, console
        self._folder, self._device = config.out / FOLDER, torch.device(config.device)
        self._begun = 0
        self._clock: _Clock | None = None
        self._tracer: torch.profiler.profile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The run may have been shorter; its last step counts as whole.
        record(None)
        if self._tracer is not None:
            self._end_trace()
        elif self._steps and self._begun <= WARM_STEPS:
            self._say(f"profile: {self._begun} steps were left, and the first {WARM_STEPS} only warm up")
        elif self._clock is not None:
            self._end_clock()

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """Pass the batches on; a step begins when its batch is asked for, and ends when the next one is."""
        iterator = iter(batches)
        while True:
            if self._steps:
                self._begin_step()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._begun += 1
            yield batch

    def _begin_step(self) -> None:
        measured = self._begun - WARM_STEPS
        if self._clock is None and self._tracer is None and measured == 0:
            self._clock = _Clock(self._device)
            record(self._clock.phase)
        elif self._clock is not None and measured == self._steps:
            self._end_clock()
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._device.type == "cuda" else [])]
            self._tracer = torch.profiler.profile(activities=activities)
            record(record_function)
            self._tracer.start()
        elif self._tracer is not None and measured == 2 * self._steps:
            self._end_trace()

    def _end_clock(self) -> None:
        if self._clock is None:
            return
        secs, self._clock = self._clock.stop(), None
        record(None)
        table = _table(secs, steps=self._begun - WARM_STEPS, config=self._config)
        self._folder.mkdir(exist_ok=True)
        (self._folder / TABLE).write_text(table, encoding="utf-8")
        self._say(table)

    def _end_trace(self) -> None:
        if self._tracer is None:
            return
        tracer, self._tracer = self._tracer, None
        record(None)
        tracer.stop()
        path = self._folder / TRACE
        tracer.export_chrome_trace(str(path))
        self._say(f"profile: {path}, for chrome://tracing or Perfetto")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


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
