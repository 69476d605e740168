"""Whether a run goes well: the figures of a step, an end where they are not finite, and warnings.

What the figures mean, and how they look when something is wrong, is in docs/loss.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from geossl.errors import GeosslError
from geossl.models.moco import MoCo
from geossl.phases import phase
from geossl.training import bad_batch, figures
from geossl.training.ranks import ALONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from geossl.config import TrainConfig
    from geossl.data.index import Index
    from geossl.data.loader import Batch
    from geossl.training.learns import Learns, Steps
    from geossl.training.ranks import Ranks

COLLAPSED_STD = 0.1
"""feature_std below which an encoder is taken to have collapsed. What the bounds rest on is in docs/loss.md."""
COLLAPSED_RANK = 3.0
"""rankme below which an encoder is taken to have collapsed."""
COLLAPSED_STEPS = 100
"""For so many steps: every encoder begins narrow, and spreads out in its first steps."""
STARVED_SHARE = 0.2
"""Share of the time spent waiting for the loader from which a run is starved."""
STARVED_SECS = 60.0
"""Over so many seconds."""
SKIPPED_STEPS = 40
"""With fp16, whose loss scale leaves out a step when a gradient overflows: so many in a row end the run. The scale
begins at 2^16 and halves at each."""


class NotFiniteError(GeosslError):
    """The loss or the gradient is no longer finite (exit code 1)."""


class Watcher:
    """Reads the figures of every step, and ends the run when they are not finite."""

    def __init__(
        self, config: TrainConfig, *, learner: Learns, stepper: Steps, index: Index, ranks: Ranks = ALONE
    ) -> None:
        self._config, self._stepper, self._index, self._ranks = config, stepper, index, ranks
        self._moco = learner.model if isinstance(learner.model, MoCo) else None
        self._skipped = 0  # steps in a row whose gradient has overflown

    @phase("figures and log")
    def read(self, made: dict[str, Tensor], *, batch: Batch, step: int, epoch: int, logged: bool) -> dict[str, float]:
        """The figures as numbers, waiting for the device once.

        Args:
            made: the step's figures, on the device, of the global batch.
            batch: what this process learnt from.
            step: steps completed, this one among them.
            epoch: from 0.
            logged: whether a row of metrics is due: adds the figures that only rows have.

        Raises:
            NotFiniteError: the loss or the gradient is not finite; the batch is left in the run folder.

        """
        values = torch.stack([value.float() for value in made.values()])
        moco = self._moco if logged else None
        if moco is None:
            found = dict(zip(made, values.tolist(), strict=True))
            self._check(found, batch=batch, step=step, epoch=epoch)
            return found
        keys = moco.queue[:, : step * self._config.batch]
        gram = keys @ keys.T
        read = torch.cat([values, gram.flatten()]).cpu()
        found = dict(zip(made, read[: len(made)].tolist(), strict=True))
        self._check(found, batch=batch, step=step, epoch=epoch)
        queue = moco.queue.shape[1]
        oldest, mean = figures.queue_age(step, queue=queue, batch=self._config.batch)
        return found | {
            "infonce_ratio": figures.infonce_ratio(found["infonce"], queue=queue),
            "rankme": figures.effective_rank(read[len(made) :].view_as(gram)),
            "queue_age": oldest,
            "queue_age_mean": mean,
        }

    def _check(self, found: dict[str, float], *, batch: Batch, step: int, epoch: int) -> None:
        """Raise NotFiniteError, with the batch saved, unless the loss and the gradient are finite."""
        bad = next((name for name in ("loss", "grad_norm") if not math.isfinite(found[name])), None)
        self._skipped = self._skipped + 1 if bad == "grad_norm" else 0
        if bad is None or (self._config.precision == "fp16" and 0 < self._skipped < SKIPPED_STEPS):
            return
        run = self._config.out
        file = run / (bad_batch.NAME if self._ranks.first else f"rank{self._ranks.rank}_{bad_batch.NAME}")
        views, _ = self._stepper.prepare(batch, number=step - 1)  # the same again: nothing about it is drawn anew
        bad_batch.save(file, views=views, batch=batch, index=self._index, figures=found, step=step)
        images = self._ranks.each(bad_batch.first_bad_image(views, batch, self._index))
        image = next((name for name in images if name is not None), None)
        what = "the loss" if bad == "loss" else "the gradient's norm"
        if image is None:
            remedy = f"try a smaller learning rate (it is {self._config.optim.lr:g})"
        else:
            remedy = f"{image} is not finite after augmentation; look at it, or leave it out of the index"
        where = f"at step {step} of epoch {epoch + 1}"
        raise NotFiniteError(f"{run}: {what} is {found[bad]} {where}; {remedy}; the batch is in {file.name}")


class Warnings:
    """Says what looks wrong in the rows of metrics: once, when it begins."""

    def __init__(self, config: TrainConfig, *, faster: Sequence[str] | None = None) -> None:
        """Watch a run.

        Args:
            config: its settings.
            faster: what makes its loader faster; by default the settings of `geossl train` that do.

        """
        self._config = config
        self._faster = _faster_settings(config) if faster is None else faster
        self._narrow_since: int | None = None
        self._spans: list[tuple[float, float]] = []  # seconds, and those of them spent waiting, of the latest rows
        self._on: set[str] = set()

    def of(self, row: dict[str, Any], *, secs: float) -> list[str]:
        """What begins with this row.

        Args:
            row: of metrics.
            secs: seconds since the row before.

        """
        found = {"collapse": self._collapse(row), "starving": self._starving(row, secs)}
        now = {name for name, text in found.items() if text}
        new = [f"{name}: {text}" for name, text in found.items() if text and name not in self._on]
        self._on = now
        return new

    def _collapse(self, row: dict[str, Any]) -> str | None:
        if not self._config.contrastive:
            return None
        std, rank = row["feature_std"], row["rankme"]
        if std >= COLLAPSED_STD and rank >= COLLAPSED_RANK:
            self._narrow_since = None
            return None
        if self._narrow_since is None:
            self._narrow_since = row["step"]
        if row["step"] - self._narrow_since < COLLAPSED_STEPS:
            return None
        which = f"feature_std {std:.3f}, rankme {rank:.1f} of {self._config.model.dim}"
        return f"since step {self._narrow_since} all images look alike to the encoder ({which}); {self._remedy()}"

    def _remedy(self) -> str:
        model, lr = self._config.model, self._config.optim.lr
        return (
            f"try a smaller optim.lr (it is {lr:g}), another model.temperature ({model.temperature:g}), "
            f"or in a run of a few thousand steps model.momentum 0.99 ({model.momentum:g})"
        )

    def _starving(self, row: dict[str, Any], secs: float) -> str | None:
        self._spans.append((secs, secs * row["loader_wait"]))
        while sum(span for span, _ in self._spans[1:]) >= STARVED_SECS:
            del self._spans[0]
        total, waited = (sum(values) for values in zip(*self._spans, strict=True))
        if total < STARVED_SECS or waited < STARVED_SHARE * total:
            return None
        faster = self._faster
        return (
            f"the step waited for images {waited / total:.0%} of the last {total:.0f} s; try "
            f"{', '.join(faster[:-1])}{' or ' if len(faster) > 1 else ''}{faster[-1]}"
        )


def _faster_settings(config: TrainConfig) -> list[str]:
    faster = ["more --loader.threads"]
    if config.loader.pack is None:
        faster.append("`geossl data pack` and --loader.pack")
    if config.crop.decode == "exact":
        faster.append("--crop.decode scaled")
    return faster
