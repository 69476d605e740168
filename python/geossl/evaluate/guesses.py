"""What is guessed of images and of places, by their class probabilities: all that the metrics need to know of these.

Per place is the paper's "temporal classification" (section 5.1): the probabilities of all images of a place are summed,
and the place is one sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from geossl.evaluate.places import Places

BLOCK_VALUES = 2**23
"""Probabilities looked at together: 64 MiB of float64, whatever the numbers of images and classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Guesses:
    """Of N images or places, of C classes."""

    classes: int
    labels: NDArray[np.int64]
    """True classes, int64 [N]."""
    guess: NDArray[np.int64]
    """The likeliest class, the lowest of equals, int64 [N]."""
    rank: NDArray[np.int64]
    """How many classes come before the true one, int64 [N]: 0 where the guess is right."""
    confidence: NDArray[np.float64]
    """Probability of the guess, float64 [N]."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the guess is the true class, bool [N]."""
        right: NDArray[np.bool_] = self.rank == 0
        return right

    def take(self, chosen: NDArray[np.bool_]) -> Guesses:
        """Those of the chosen ones, bool [N]."""
        return Guesses(
            classes=self.classes,
            labels=self.labels[chosen],
            guess=self.guess[chosen],
            rank=self.rank[chosen],
            confidence=self.confidence[chosen],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedGuesses:
    """Of images, and of the places that they show."""

    images: Guesses
    """Of N images."""
    by_sum: Guesses
    """Of their P places, by the sum of the probabilities."""
    places: Places
    """Which image shows which place."""

    def take(self, chosen: NDArray[np.bool_]) -> PlacedGuesses:
        """Those of the chosen places, bool [P], and of their images."""
        return PlacedGuesses(
            images=self.images.take(chosen[self.places.of_row]),
            by_sum=self.by_sum.take(chosen),
            places=self.places.take(chosen),
        )


def guess_images(probabilities: torch.Tensor, labels: NDArray[np.int64]) -> Guesses:
    """Each row by itself.

    Args:
        probabilities: float [N, C], rows sum to 1, N >= 1.
        labels: true classes, int64 [N].

    """
    values = probabilities.cpu().numpy()
    parts = []
    for start, stop in _blocks(np.arange(len(values) + 1), values.shape[1]):
        block = values[start:stop].astype(np.float64)
        parts.append(_guess(block, labels[start:stop], of=np.ones(stop - start, np.int64)))
    return _join(parts)


def guess_places(probabilities: torch.Tensor, places: Places) -> tuple[Guesses, Guesses]:
    """Each place by all of its rows: by the sum of their probabilities (the paper's way), and by majority vote.

    In a vote each row has one voice, for its likeliest class; of classes with as many voices the sums decide.

    Args:
        probabilities: float [N, C], rows sum to 1.
        places: the rows' places.

    Returns:
        The guesses by sum, with the mean probability as confidence, and by vote, with the share of the voices.

    """
    values = probabilities.cpu().numpy()
    order = np.argsort(places.of_row, kind="stable")
    ends = np.concatenate([[0], np.cumsum(places.views)])
    sums, votes = [], []
    for start, stop in _blocks(ends, values.shape[1]):
        views, labels = places.views[start:stop], places.labels[start:stop]
        block = values[order[ends[start] : ends[stop]]].astype(np.float64)
        summed = np.add.reduceat(block, ends[start:stop] - ends[start], axis=0)
        sums.append(_guess(summed, labels, of=views))
        voices = np.zeros_like(summed)
        np.add.at(voices, (np.repeat(np.arange(stop - start), views), block.argmax(axis=1)), 1)
        # The sums are at most the number of views: scaled so, they come in only among equals.
        votes.append(_guess(voices, labels, of=views, then=summed / (views + 1)[:, None]))
    return _join(sums), _join(votes)


def _blocks(ends: NDArray[np.int64], width: int) -> list[tuple[int, int]]:
    """Runs of units, each unit the rows from one of `ends` to the next, of at most so many values, or of one unit."""
    rows = max(1, BLOCK_VALUES // width)
    cuts = [0]
    while cuts[-1] < len(ends) - 1:
        fitting = int(np.searchsorted(ends, ends[cuts[-1]] + rows, side="right")) - 1
        cuts.append(max(fitting, cuts[-1] + 1))
    return list(pairwise(cuts))


def _guess(
    values: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    of: NDArray[np.int64],
    then: NDArray[np.float64] | float = 0.0,
) -> Guesses:
    """The guesses by values [n, C] of which a row's sum to `of` [n]; `then`, below 1, decides among equals."""
    ordered = values + then
    guess = ordered.argmax(axis=1)
    own = np.take_along_axis(ordered, labels[:, None], axis=1)
    # Among equals the lower class is first, as in argmax.
    earlier = np.arange(values.shape[1]) < labels[:, None]
    rank = ((ordered > own) | ((ordered == own) & earlier)).sum(axis=1)
    confidence = np.take_along_axis(values, guess[:, None], axis=1)[:, 0] / of
    return Guesses(classes=values.shape[1], labels=labels, guess=guess, rank=rank, confidence=confidence)


def _join(parts: list[Guesses]) -> Guesses:
    return Guesses(
        classes=parts[0].classes,
        labels=np.concatenate([part.labels for part in parts]),
        guess=np.concatenate([part.guess for part in parts]),
        rank=np.concatenate([part.rank for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
    )
