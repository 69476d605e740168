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
from geossl.evaluate.guesses import PlacedGuesses, guess_images, guess_places
from geossl.evaluate.places import group_places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

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


def intervals(made: PlacedGuesses, *, seed: int, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """The interval of each of `METRICS`.

    Args:
        made: guesses of images and of their places.
        seed: seed of the draws; the same seed draws the same places wherever there are as many.
        resamples: number of draws.

    """
    if len(made.places) < 2:
        return dict.fromkeys(METRICS, Interval(np.nan, np.nan))
    drawn = resample(made, seed=seed, resamples=resamples)
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
        by_sum, _ = guess_places(each.probabilities, places)
        made = PlacedGuesses(images=guess_images(each.probabilities, labels), by_sum=by_sum, places=places)
        own.append(_figures(_sums(made), torch.ones(1, len(places), dtype=torch.float64)))
        if len(places) > 1:
            drawn.append(resample(made, seed=seed, resamples=resamples))
    return {
        name: Difference(
            float(own[1][name][0] - own[0][name][0]),
            *(_percentiles(drawn[1][name] - drawn[0][name]) if drawn else (np.nan, np.nan)),
        )
        for name in METRICS
    }


def resample(made: PlacedGuesses, *, seed: int, resamples: int = RESAMPLES) -> dict[str, NDArray[np.float64]]:
    """Each of `METRICS` in every draw of the places, float64 [resamples]; arguments as for `intervals`."""
    sums = _sums(made)
    places = sums.shape[1]
    draws = _draws(places, size=max(sums.shape), seed=seed, resamples=resamples)
    parts = [_figures(sums, weights) for weights in draws]
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def _draws(places: int, *, size: int, seed: int, resamples: int) -> Iterator[torch.Tensor]:
    """How often each place is drawn, float64 [draws, P], some draws at a time; the same whatever their number."""
    random = np.random.default_rng(seed)
    step = max(1, BLOCK_VALUES // size)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = random.integers(0, places, (count, places)) + np.arange(count)[:, None] * places
        yield torch.from_numpy(np.bincount(drawn.ravel(), minlength=count * places)).view(count, places).double()


def _sums(made: PlacedGuesses) -> torch.Tensor:
    """What the draws are multiplied with: how many of each place are of, are taken for, and are rightly taken for each
    class; of images, then of places. Sparse float64 [6 C, P], with the C classes that occur.
    """
    images, by_sum = made.images, made.by_sum
    used = np.unique(np.concatenate([images.labels, images.guess, by_sum.labels, by_sum.guess]))
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    for guesses, place in ((images, made.places.of_row), (by_sum, np.arange(len(by_sum)))):
        true, taken, right = np.searchsorted(used, guesses.labels), np.searchsorted(used, guesses.guess), guesses.right
        for codes, of in ((true, place), (taken, place), (true[right], place[right])):
            rows.append(len(rows) * len(used) + codes)
            columns.append(of)
    at = torch.from_numpy(np.stack([np.concatenate(rows), np.concatenate(columns)]))
    ones = torch.ones(at.shape[1], dtype=torch.float64)
    size = (6 * len(used), len(by_sum))
    return torch.sparse_coo_tensor(at, ones, size, check_invariants=False).coalesce()


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
