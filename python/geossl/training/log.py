"""What a run tells: metrics.jsonl, TensorBoard, and a progress bar on a terminal or plain lines elsewhere."""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from geossl.files import naming_full_disk, replacing
from geossl.phases import phase
from geossl.training import metrics_csv
from geossl.training.board import Board
from geossl.training.folder import RESUME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from rich.console import Console

    from geossl.data.stats import LoaderStats
    from geossl.training.watch import Warnings
    from geossl.training.weights_biases import WandbRun

METRICS = "metrics.jsonl"
"""Name of the metrics file in a run folder."""
TENSORBOARD = "tensorboard"
"""Name of the folder of TensorBoard's files in a run folder."""
ROWS_AN_EPOCH = 100
"""About how many rows of metrics an epoch leaves; one a step if it has fewer steps than twice that."""
LINE_SECS = 10.0
"""Least time between plain lines."""

T = TypeVar("T")


class Stopwatch:
    """How fast images pass, and how long they are waited for, since the last reading."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._waited = 0.0
        self._images = 0
        self.secs = 0.0
        """Seconds between the last two readings."""

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """Pass the batches on, timing the wait for each."""
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - start
            yield batch

    def count(self, images: int) -> None:
        """Add a step of so many images."""
        self._images += images

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leave the time of the block out."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Images a second (queries, not views) and the share of the time spent waiting for the loader."""
        now = time.perf_counter()
        elapsed = self.secs = max(now - self._start, 1e-9)
        reading = {
            "images_per_sec": round(self._images / elapsed, 2),
            "loader_wait": round(min(self._waited / elapsed, 1.0), 4),
        }
        self._start, self._waited, self._images = now, 0.0, 0
        return reading


class RunLog:
    """Writes the metrics of a run, and shows them.

    A row of metrics.jsonl has: step (completed steps), epoch (from 1), lr, loss and its parts, accuracies (geo_acc is
    that of the finest clusters, geo10_acc that of a coarser level of ten), geo_km (median distance of the places that
    the geo head predicts to the true ones), feature_std, grad_norm, images_per_sec, loader_wait (share of the time),
    and time (Unix seconds); of the contrastive arms also alignment, uniformity, rankme, infonce_ratio, queue_age and
    queue_age_mean. All are that step's own, not averages; `geossl.training.figures` has the formulas, docs/loss.md what
    they mean. A row with which something begins to look wrong says so in `warnings`. TensorBoard gets the same
    figures, and Weights & Biases if it is asked for; metrics.csv has the same rows, at the end of every epoch.

    The last row of an epoch also has what the loader did in it (in the part since a restart, if there was one):
    loader_ms_an_image, loader_decode_ms, loader_ready (batches, mean), loader_starved_secs, loader_idle_secs,
    loader_mb_per_sec, and loader_failures ({reason: images so far}); see `geossl.data.stats`. Where `watch.knn_epochs`
    asks for it, knn_acc and knn_macro_f1 too; see `geossl.training.online_knn`.
    """

    def __init__(
        self,
        run: Path,
        *,
        console: Console,
        epochs: int,
        steps_an_epoch: int,
        done: int,
        stats: Callable[[], LoaderStats],
        warnings: Warnings,
        wandb: WandbRun | None = None,
    ) -> None:
        """Go on after `done` steps: later rows, which a killed run may have left, are dropped."""
        self.last: dict[str, Any] = _keep_rows(run / METRICS, up_to=done)
        """The latest row of metrics; empty before the first."""
        self._console = console
        self._epochs = epochs
        self._steps_an_epoch = steps_an_epoch
        self._done = done
        self._stats = stats
        self._warnings, self._wandb = warnings, wandb
        self._seen = stats()
        self._start = self._last_line = time.perf_counter()
        self._path = run / METRICS
        with naming_full_disk(run, hint=RESUME):
            self._file = self._path.open("a", encoding="utf-8")
            self._board = Board(run / TENSORBOARD, after=done)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )
        total = epochs * steps_an_epoch
        self._task = self._progress.add_task("training", total=total, completed=done, figures="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._progress.stop()
        if self._wandb is not None:
            self._wandb.finish(failed=error is not None)
        # What could not be written fails again here, and the first error says why.
        with suppress(OSError) if error is not None else naming_full_disk(self._path.parent, hint=RESUME):
            try:
                self._file.close()
            finally:
                self._board.close()

    def flush(self) -> None:
        """Have all rows on the disk: a checkpoint that is there has its rows, too."""
        with naming_full_disk(self._path, hint=RESUME):
            os.fsync(self._file.fileno())
        self._board.flush()

    @phase("figures and log")
    def step(self, step: int, *, epoch: int, lr: float, figures: dict[str, float], watch: Stopwatch) -> None:
        """Note a completed step; `epoch` counts from 0."""
        self._progress.update(self._task, completed=step)
        if not is_row(step, steps_an_epoch=self._steps_an_epoch):
            return
        row: dict[str, Any] = {
            "step": step,
            "epoch": epoch + 1,
            "lr": lr,
            # JSON has no infinity, and a gradient that a loss scale lets overflow is no reason to stop.
            **{name: value if math.isfinite(value) else None for name, value in figures.items()},
            **watch.read(),
            "time": round(time.time(), 3),
        }
        loader = self._loader() if step % self._steps_an_epoch == 0 else None
        if loader is not None:
            row |= _figures(loader)
        if begun := self._warnings.of(row, secs=watch.secs):
            row["warnings"] = begun
        with naming_full_disk(self._path, hint=RESUME):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        untold = {"step", "epoch", "time"}
        told = {k: v for k, v in row.items() if k not in untold and isinstance(v, int | float)}
        self._board.add(told, step=step)
        if self._wandb is not None:
            self._wandb.log(row)
        self.last = row
        for warning in begun:
            self._console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)
        if loader is not None:
            path = self._path.with_name(metrics_csv.NAME)
            with naming_full_disk(path, hint=RESUME):
                metrics_csv.write(path, read_metrics(path.parent))
            line = f"epoch {epoch + 1}/{self._epochs}  loader: {loader}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._show(row)

    def _loader(self) -> LoaderStats:
        """What the loader did since this was last asked."""
        now, earlier = self._stats(), self._seen
        self._seen = now
        return now.since(earlier)

    def _show(self, row: dict[str, Any]) -> None:
        title = f"epoch {row['epoch']}/{self._epochs}"
        text = _describe(row) + f"  left {self._time_left(row['step'])}"
        self._progress.update(self._task, description=title, figures=text)
        now = time.perf_counter()
        last_step = row["step"] == self._epochs * self._steps_an_epoch
        if not self._console.is_terminal and (last_step or now - self._last_line >= LINE_SECS):
            self._console.print(f"{title}  step {row['step']}  {text}", highlight=False, soft_wrap=True)
            self._last_line = now

    def _time_left(self, step: int) -> str:
        secs_a_step = (time.perf_counter() - self._start) / max(step - self._done, 1)
        return str(timedelta(seconds=round(secs_a_step * (self._epochs * self._steps_an_epoch - step))))


def is_row(step: int, *, steps_an_epoch: int) -> bool:
    """Whether a completed step gets a row of metrics."""
    return step % max(steps_an_epoch // ROWS_AN_EPOCH, 1) == 0 or step % steps_an_epoch == 0


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, in order; a last line that was cut short is left out."""
    try:
        lines = (run / METRICS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _keep_rows(path: Path, *, up_to: int) -> dict[str, Any]:
    rows = [row for row in read_metrics(path.parent) if row["step"] <= up_to]
    with naming_full_disk(path, hint=RESUME), replacing(path) as file:
        file.writelines(json.dumps(row).encode() + b"\n" for row in rows)
    return rows[-1] if rows else {}


def _figures(loader: LoaderStats) -> dict[str, Any]:
    return {
        "loader_ms_an_image": round(loader.ms_an_image, 3),
        "loader_decode_ms": round(loader.decode_ms, 3),
        "loader_ready": round(loader.queue_depth, 2),
        "loader_starved_secs": round(loader.wait_secs, 3),
        "loader_idle_secs": round(loader.idle_secs, 3),
        "loader_mb_per_sec": round(loader.bytes_per_sec / 1e6, 2),
        "loader_failures": loader.failures,
    }


def _describe(row: dict[str, Any]) -> str:
    accuracies = [f"{k.removesuffix('_acc')} acc {row[k]:.1%}" for k in row if k.endswith("_acc")]
    return "  ".join(
        [
            f"loss {row['loss']:.4f}",
            *accuracies,
            *([f"geo {row['geo_km']:,.0f} km"] if "geo_km" in row else []),
            f"{row['images_per_sec']:.0f} img/s",
            f"waiting {row['loader_wait']:.0%}",
        ]
    )
