"""`geossl train --dry-run`: what a run is, and what it takes, told by a few of its steps. Nothing is written."""

from __future__ import annotations

import itertools
import math
import resource
import statistics
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from geossl.errors import GeosslError
from geossl.training.upload import uploaded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from rich.console import Console

    from geossl.data.loader import Batch, Loader
    from geossl.training.checkpoint import TrainState
    from geossl.training.learns import L
    from geossl.training.step import Stepper

TIMED_STEPS = 4
"""Steps whose time is measured, after the first, which makes the optimizer's state and, if asked to, compiles."""
READ_AHEAD_SECS = 10.0
"""How long the loader is waited for to fill its slots, before the memory of a step is measured."""


def show_dry_run(state: TrainState[L], *, stepper: Stepper, console: Console) -> float:
    """Take a few steps of the run, and print what it is, its memory and its time.

    Args:
        state: the run, as it would begin or go on; afterwards it has learnt from the steps.
        stepper: takes them.
        console: where to print.

    Returns:
        Seconds that what is left of the run will take, as it is printed.

    Raises:
        UsageError: an image cannot be read.
        GeosslError: the loss is not finite.

    """
    done, batches = state.step, _endless(state.loader, torch.device(state.config.device))
    first = next(batches)
    loader_secs = _read_ahead(state.loader)
    with PeakMemory(torch.device(state.config.device)) as peak:
        _step(state, stepper, first)
    gradients = _size(p.grad for p in state.learner.parameters() if p.grad is not None)
    del first  # its memory is the loader's
    started, secs = time.perf_counter(), []
    for batch in itertools.islice(batches, TIMED_STEPS):
        _step(state, stepper, batch)
        now = time.perf_counter()
        secs.append(now - started)
        started = now
    batches.close()
    activations = None if peak.bytes is None else max(peak.bytes - gradients, 0)
    left = len(state.loader) * state.config.epochs - done
    rows = [*_what(state, done=done), *_memory(state, gradients=gradients, activations=activations)]
    # The measured steps found their batches ready, which a slower loader cannot keep up.
    step_secs = statistics.median(secs)
    whole = max(step_secs, loader_secs) * left
    rows.append(("time", _time(step_secs, loader_secs, left=left, whole=whole)))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.print(f"{name:<{width}}  {value}", highlight=False, markup=False, soft_wrap=True)
    return whole


class PeakMemory:
    """Measures the most memory that the process (on a GPU: its tensors) takes inside a block, over that before it."""

    def __init__(self, device: torch.device) -> None:
        self.bytes: int | None = None
        """Measured at the end of the block; None where the system does not tell."""
        self._device = device
        self._before = 0

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        else:
            # Linux forgets an earlier peak when asked to; elsewhere only what is above it is seen.
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self._before = _status("VmRSS") or _peak_resident()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device) - self._before
        else:
            self.bytes = (_status("VmHWM") or _peak_resident()) - self._before


def _what(state: TrainState[L], *, done: int) -> Iterator[tuple[str, str]]:
    config, data, learner, loader = state.config, state.data, state.learner, state.loader
    places = len(np.unique(data.index.places[data.rows]))
    yield "run", f"{config.arm} on {config.device}, {config.precision}{', compiled' if config.compile else ''}"
    yield "images", f"{len(data.rows):,} of {places:,} places"
    if config.temporal:
        left_out = config.pairs.alone == "leave_out"
        paired = len(data.rows) - (0 if left_out else data.alone)
        does = "left out" if left_out else "two crops of itself each"
        yield "pairs", f"{paired:,} images have another date{f'; {data.alone:,} not: {does}' if data.alone else ''}"
    names = f": {', '.join(data.samples.names)}" if data.samples.names else ""
    yield "bands", f"{data.samples.bands} of {data.samples.bits} bits{names}"
    if data.categories is not None:
        yield "classes", f"{data.classes:,}"
    elif data.geo is not None:
        sizes = ", ".join(f"{len(level):,} clusters" for level in data.geo.levels)
        yield "geo head", f"{config.geo.target}{f': {sizes}' if sizes else ''}"
    trained, queue = sum(p.numel() for p in learner.parameters()), config.model.queue
    kept = f", queue of {queue:,} keys" if config.contrastive and queue is not None else ""
    yield "model", f"{config.model.backbone} at {config.crop.size} pixels: {trained:,} trained parameters{kept}"
    part = config.batch // (state.ranks.world * config.accumulate)
    product = f"{_count(state.ranks.world, 'process')} x {_count(config.accumulate, 'micro-batch')} x {part}"
    rate = f"learning rate {config.optim.lr:g} for the whole batch"
    yield "batch", f"{config.batch:,} images a step = {product}; {rate}"
    behind = f", {done:,} of them done" if done else ""
    yield "steps", f"{len(loader):,} an epoch, {len(loader) * config.epochs:,} in {config.epochs:,} epochs{behind}"


def _memory(state: TrainState[L], *, gradients: int, activations: int | None) -> Iterator[tuple[str, str]]:
    learner, device = state.learner, torch.device(state.config.device)
    modules = [learner.model] if learner.head is None else [learner.model, learner.head]
    weights = _size(p for module in modules for p in module.parameters())
    buffers = _size(b for module in modules for b in module.buffers())
    moments = _size(v for held in state.optimizer.state.values() for v in held.values() if torch.is_tensor(v))
    yield "memory", f"loader: {_mib(state.loader.memory_bound)} at most, by its slots, threads and max_image_mib"
    fixed = f"weights {_mib(weights)}, gradients {_mib(gradients)}, optimizer {_mib(moments)}"
    yield "", f"model: {fixed}, queue and statistics {_mib(buffers)}"
    if activations is not None:
        yield "", f"activations: {_mib(activations)}, measured in a step"
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        yield "", f"GPU: {_mib(free)} of {_mib(total)} are free now"
    elif (resident := _status("VmRSS")) is not None:
        yield "", f"process: {_mib(resident)} now, the above among them"


def _time(step_secs: float, loader_secs: float, *, left: int, whole: float) -> str:
    after = timedelta(seconds=round(whole))
    return f"{step_secs:.3g} s a step, {loader_secs:.3g} s a batch of the loader: {after} for {left:,} steps"


def _step(state: TrainState[L], stepper: Stepper, batch: Batch) -> None:
    made, _ = stepper.step(batch, number=state.step)
    state.step += 1
    loss = made["loss"].item()  # waits for the device
    if not math.isfinite(loss):
        raise GeosslError(f"the loss is {loss} at step {state.step}; try a smaller optim.lr")


def _endless(loader: Loader, device: torch.device) -> Generator[Batch]:
    while True:
        yield from uploaded(loader, device)


def _read_ahead(loader: Loader) -> float:
    """Wait until the loader has filled its slots, and say how long it takes for a batch, seconds.

    What it allocates meanwhile would be taken for a step's memory.
    """
    deadline, before = time.perf_counter() + READ_AHEAD_SECS, -1
    while time.perf_counter() < deadline and (images := loader.stats().images) != before:
        before = images
        time.sleep(0.2)
    stats = loader.stats()
    return stats.work_secs / loader.threads / (stats.batches + stats.ready_now)


def _status(name: str) -> int | None:
    """An entry of Linux's /proc/self/status, bytes; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _peak_resident() -> int:
    """The most memory that the process has ever had, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _count(number: int, what: str) -> str:
    many = what + ("es" if what.endswith(("s", "h")) else "s")
    return f"{number} {what if number == 1 else many}"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
