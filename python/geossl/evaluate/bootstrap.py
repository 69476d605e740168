"""How far figures would move with other places: 95 % percentile bootstrap intervals, and those of differences.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. Places are drawn with replacement,
as many as there are, and all images of a drawn place come along, as many times as it was drawn: images of one place are
no independent samples, and intervals over images would be too narrow. The interval is from the 2.5th to the 97.5th
percentile of the figure over 2,000 such draws. What is trained is the same in all of them: the interval tells of the
test places, not of the seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from geossl.errors import UsageError
from geossl.evaluate.guesses import guess_images, guess_places
from geossl.evaluate.places import group_places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geossl.evaluate.guesses import Guesses
    from geossl.evaluate.places import Places
    from geossl.evaluate.predictions import Predictions

RESAMPLES = 2000
LEVEL = 0.95
METRICS = ("top1", "f1", "place_top1", "place_f1")
"""What has intervals: top-1 and macro-F1, per image and per place."""
BLOCK_VALUES = 2**22
"""Counts held at once, of places or of classes, by draws: 32 MiB of float64."""


class Interval(NamedTuple):
    """From `low` to `high`; NaN where there are fewer than two places."""

    low: float
    high: float


class Difference(NamedTuple):
    """Of two figures on the same rows: the second less the first, and its interval."""

    value: float
    low: float
    high: float


def intervals(
    *, images: Guesses, by_sum: Guesses, places: Places, seed: int, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """The interval of each of `METRICS`.

    Args:
        images: guesses of N images.
        by_sum: guesses of their P places.
        places: which image shows which place.
        seed: seed of the draws; the same seed draws the same places wherever there are as many.
        resamples: number of draws.

    """
    if len(by_sum) < 2:
        return dict.fromkeys(METRICS, Interval(np.nan, np.nan))
    drawn = resample(images=images, by_sum=by_sum, places=places, seed=seed, resamples=resamples)
    return {name: Interval(*_percentiles(values)) for name, values in drawn.items()}


def compare(
    first: Predictions, second: Predictions, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Difference]:
    """What the second predictions have over the first on the same images, for each of `METRICS`.

    Both are looked at on the same drawn places, so that what is hard for both is no part of the interval: it is the
    one to look at when two encoders are compared, and narrower than that of either.

    Args:
        first: predictions of some test rows.
        second: predictions of the same rows, in the same order.
        seed: seed of the draws.
        resamples: number of draws.

    Raises:
        UsageError: the rows, their classes or their places are not the same.

    """
    for name in ("rows", "labels", "places"):
        if not torch.equal(getattr(first, name), getattr(second, name)):
            raise UsageError(f"predictions can be compared on the same test images alone: their {name} differ")
    if first.probabilities.shape != second.probabilities.shape:
        raise UsageError("predictions can be compared of the same classes alone")
    labels = first.labels.numpy()
    places = group_places(places=first.places.numpy(), labels=labels)
    own, drawn = [], []
    for each in (first, second):
        guesses = {
            "images": guess_images(each.probabilities, labels),
            "by_sum": guess_places(each.probabilities, places)[0],
        }
        once = torch.ones(1, len(places), dtype=torch.float64)
        own.append(_figures(_sums(**guesses, places=places), once))
        if len(places) > 1:
            drawn.append(resample(**guesses, places=places, seed=seed, resamples=resamples))
    return {
        name: Difference(
            float(own[1][name][0] - own[0][name][0]),
            *(_percentiles(drawn[1][name] - drawn[0][name]) if drawn else (np.nan, np.nan)),
        )
        for name in METRICS
    }


def resample(
    *, images: Guesses, by_sum: Guesses, places: Places, seed: int, resamples: int = RESAMPLES
) -> dict[str, NDArray[np.float64]]:
    """Each of `METRICS` in every draw of the places, float64 [resamples]; arguments as for `intervals`."""
    sums = _sums(images=images, by_sum=by_sum, places=places)
    size = max(len(places), sums.shape[0])
    parts = [_figures(sums, weights) for weights in _draws(len(places), size=size, seed=seed, resamples=resamples)]
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def _draws(places: int, *, size: int, seed: int, resamples: int) -> Iterator[torch.Tensor]:
    """How often each place is drawn, float64 [draws, P], some draws at a time; the same whatever their number."""
    random = np.random.default_rng(seed)
    step = max(1, BLOCK_VALUES // size)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = random.integers(0, places, (count, places)) + np.arange(count)[:, None] * places
        yield torch.from_numpy(np.bincount(drawn.ravel(), minlength=count * places)).view(count, places).double()


def _sums(*, images: Guesses, by_sum: Guesses, places: Places) -> torch.Tensor:
    """What the draws are multiplied with: how many of each place are of, are taken for, and are rightly taken for each
    class; of images, then of places. Sparse float64 [6 C, P], with the C classes that occur.
    """
    every = (images, places.of_row), (by_sum, np.arange(len(places)))
    used, position = np.unique(
        np.concatenate([part for guesses, _ in every for part in (guesses.labels, guesses.guess)]), return_inverse=True
    )
    label, guess = np.split(position[: 2 * len(images)], 2), np.split(position[2 * len(images) :], 2)
    rows, columns = [], []
    for number, ((guesses, place), (true, taken)) in enumerate(zip(every, (label, guess), strict=True)):
        for kind, (codes, chosen) in enumerate(((true, slice(None)), (taken, slice(None)), (true, guesses.right))):
            rows.append((3 * number + kind) * len(used) + codes[chosen])
            columns.append(place[chosen])
    at = torch.from_numpy(np.stack([np.concatenate(rows), np.concatenate(columns)]))
    ones = torch.ones(at.shape[1], dtype=torch.float64)
    return torch.sparse_coo_tensor(at, ones, (6 * len(used), len(places)), check_invariants=False).coalesce()


def _figures(sums: torch.Tensor, weights: torch.Tensor) -> dict[str, NDArray[np.float64]]:
    """Each of `METRICS` for each row of weights, float64 [draws, P]."""
    found = torch.sparse.mm(sums, weights.T.contiguous()).view(2, 3, -1, len(weights)).numpy()
    figures = {}
    for prefix, (true, taken, right) in zip(("", "place_"), found, strict=True):
        figures[f"{prefix}top1"] = right.sum(axis=0) / true.sum(axis=0)
        # Macro-F1 as scikit-learn's: the mean over the classes that are true or guessed somewhere in the draw.
        seen = true + taken
        f1 = np.divide(2 * right, seen, out=np.zeros_like(seen), where=seen > 0)
        figures[f"{prefix}f1"] = f1.sum(axis=0) / (seen > 0).sum(axis=0)
    return figures


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)
