"""Encoders that no run has trained, to probe beside one: what a figure is to be compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch

from geossl.evaluate.image_statistics import image_statistics
from geossl.evaluate.random_conv import PATCHES, SIDE, PatchTaker, RandomConv
from geossl.models.seeds import generator
from geossl.models.weights import random_backbone

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from geossl.evaluate.features import Features
    from geossl.models.weights import LoadedBackbone

Baseline = Literal["random", "statistics", "random_conv"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)


@dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
    """An encoder as the probe uses it."""

    name: str
    module: Callable[[torch.Tensor], torch.Tensor]
    """float32 [B, C, H, W], prepared as for the trained encoder -> [B, D]."""
    standardize: bool = False
    """Whether its features are brought to mean 0 and standard deviation 1 over the training images: features of no
    common scale say little by their distances, and are hard to fit by gradient descent."""
    keep_nodata: bool = False
    """Whether it wants NaN where an image has no data, in place of the mean."""


def make_baseline(
    name: Baseline, *, like: LoadedBackbone, read: Callable[..., Features], rows: NDArray[np.int64], seed: int
) -> Probed:
    """Make a baseline for the images that the trained encoder sees.

    - random: the same architecture with random weights.
    - statistics: moments and percentiles of the values of each band.
    - random_conv: convolutions with patches of training images.

    Args:
        name: which.
        like: the trained encoder.
        read: `extract`, with all given but the encoder, the rows and the title.
        rows: training rows, int64 [N].
        seed: seed of what is random.

    """
    if name == "statistics":
        return Probed(name=name, module=image_statistics, standardize=True, keep_nodata=True)
    if name == "random":
        return Probed(name=name, module=random_backbone(like, seed=seed).module)
    draw = generator(seed, "random_conv rows")
    chosen = rows[torch.randint(len(rows), (PATCHES,), generator=draw).numpy()]
    taker = PatchTaker(generator(seed, "random_conv corners"))
    patches = read(taker, rows=chosen, title=f"{name}: patches").x
    return Probed(name=name, module=RandomConv(patches.view(len(patches), like.bands, SIDE, SIDE)), standardize=True)


class Standardizer:
    """Brings features to mean 0 and standard deviation 1, by those of some; a feature of one value becomes 0."""

    def __init__(self, x: torch.Tensor) -> None:
        """Measure features, float32 [N, D]."""
        values = x.double()
        self._mean, deviation = values.mean(dim=0), values.std(dim=0, correction=0)
        self._std = torch.where(deviation > 0, deviation, 1.0)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Standardise features, float32 [M, D]."""
        return ((x.double() - self._mean) / self._std).float()
