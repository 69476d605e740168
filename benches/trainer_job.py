"""What every trainer of the bench is asked for, told in one place. Only the standard library: peers import this."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Plain MoCo-v2, one pass over the images of a folder in a random order."""

    folder: str
    """Folder with the JPEGs, nothing else."""
    index: str
    """Our index of it."""
    out: str
    """Folder for whatever a trainer leaves; there is none yet."""
    steps: int
    batch: int
    size: int
    """Side of a view, pixels."""
    workers: int
    """Threads or processes that load."""
    queue: int
    seed: int
    backbone: str = "resnet18"
    features: int = 512
    """Width of the backbone's feature; the projection's hidden layer is as wide, as in MoCo-v2."""
    dim: int = 128
    temperature: float = 0.2
    momentum: float = 0.99
    lr: float = 0.06
    weight_decay: float = 1e-4
    scale: tuple[float, float] = (0.2, 1.0)

    @property
    def sigma(self) -> tuple[float, float]:
        """Blur in pixels of a view: MoCo-v2's at 224."""
        return 0.1 * self.size / 224, 2.0 * self.size / 224


@dataclass
class Steps:
    """What a trainer notes of its steps."""

    losses: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    """Clock at the end of each step, seconds."""

    def note(self, loss: float) -> None:
        """A step is over."""
        self.losses.append(loss)
        self.ends.append(time.perf_counter())


Trainer = Callable[[TrainJob], Steps]
