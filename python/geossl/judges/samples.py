"""What a benchmark's data set has, whatever its files are: labelled images in training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from numpy.typing import NDArray

SPLITS = {"train": "train", "valid": "val", "validation": "val", "val": "val", "test": "test"}
"""The splits of an index, by the benchmarks' names."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image of a benchmark, without its pixels."""

    name: str
    """Unique in the set."""
    split: str
    """train, val or test."""
    category: str
    transform: tuple[float, ...] | None = None
    """a, b, c, d, e, f of its georeference, as an index has them; None where it has none."""
    crs: Any = None
    """What `transform` leads to: a text, or what rasterio has for it."""
    lat: float | None = None
    """Degrees, where the benchmark says it apart from the georeference, as `lon`."""
    lon: float | None = None
    timestamp: datetime | None = None
    """With a time zone."""


class BenchmarkSet(Protocol):
    """A data set of a benchmark."""

    title: str
    """What it is, for people."""
    bands: tuple[str, ...]
    """Names of the bands of `pixels`, in their order."""
    splits: list[str]
    """The split of each sample: train, val or test."""

    def describe(self, sample: int) -> Sample:
        """All but the pixels of a sample, counted from 0."""

    def pixels(self, sample: int) -> NDArray[Any]:
        """A sample's pixels, [bands, height, width], as they are published."""

    def published_moments(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of each band over training images, as published; None if they are not."""


def training_moments(
    found: BenchmarkSet, *, progress: Callable[[int, int], None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each band over the training images, float64 [bands].

    They are the published ones, else measured on every finite pixel.

    Args:
        found: the data set.
        progress: called with the images done and their number.

    """
    published = found.published_moments()
    if published is not None:
        return np.array(published[0], np.float64), np.array(published[1], np.float64)
    train = [i for i, split in enumerate(found.splits) if split == "train"]
    count, total, squares = (np.zeros(len(found.bands)) for _ in range(3))
    for done, i in enumerate(train, 1):
        values = found.pixels(i).astype(np.float64).reshape(len(found.bands), -1)
        finite = np.isfinite(values)
        values = np.where(finite, values, 0.0)
        count, total, squares = count + finite.sum(1), total + values.sum(1), squares + np.square(values).sum(1)
        progress(done, len(train))
    mean = total / np.maximum(count, 1)
    return mean, np.sqrt(np.maximum(squares / np.maximum(count, 1) - np.square(mean), 0))
