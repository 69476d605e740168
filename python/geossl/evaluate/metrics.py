"""How good the class probabilities are: top-1, top-5 and macro-F1, per image and per place.

Per place is the paper's "temporal classification" (section 5.1): the probabilities of all images of a place
are summed, and the place is one sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import f1_score

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Shares, 0..1. A top-5 is NaN where there are five classes or fewer: it would be 1 by definition."""

    top1: float
    top5: float
    f1: float
    place_top1: float
    place_top5: float
    place_f1: float
    images: int
    """Test images."""
    places: int
    """Places that they show."""


def score(*, probabilities: torch.Tensor, labels: torch.Tensor, places: torch.Tensor) -> Scores:
    """Compare class probabilities with labels.

    Args:
        probabilities: float [N, C], rows sum to 1, N >= 1.
        labels: true classes, int64 [N].
        places: code of each row's place, integer [N]; any codes, equal for the images of a place.

    A place's class is the most frequent label of its images, the lowest of equals. Macro-F1 is
    scikit-learn's `f1_score(average="macro", zero_division=0)`: the mean over the classes that are true or
    predicted somewhere, so a class without test rows counts only if something was taken for it.

    """
    probability = probabilities.double().cpu().numpy()
    label = labels.cpu().numpy()
    codes, place = np.unique(places.cpu().numpy(), return_inverse=True)
    summed = np.zeros((len(codes), probability.shape[1]))
    np.add.at(summed, place, probability)
    seen = np.zeros(summed.shape, dtype=np.int64)
    np.add.at(seen, (place, label), 1)
    top1, top5, f1 = _score(probability, label)
    place_top1, place_top5, place_f1 = _score(summed, seen.argmax(axis=1))
    return Scores(
        top1=top1,
        top5=top5,
        f1=f1,
        place_top1=place_top1,
        place_top5=place_top5,
        place_f1=place_f1,
        images=len(label),
        places=len(codes),
    )


def _score(probability: NDArray[np.float64], label: NDArray[np.int64]) -> tuple[float, float, float]:
    """Top-1, top-5 and macro-F1."""
    own = np.take_along_axis(probability, label[:, None], axis=1)
    # How many classes come before the true one; among equals the lower class is first, as in argmax.
    earlier = np.arange(probability.shape[1]) < label[:, None]
    rank = ((probability > own) | ((probability == own) & earlier)).sum(axis=1)
    top5 = float((rank < 5).mean()) if probability.shape[1] > 5 else float("nan")
    f1 = float(f1_score(label, probability.argmax(axis=1), average="macro", zero_division=0))
    return float((rank == 0).mean()), top5, f1
