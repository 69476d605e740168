"""How good guesses are, per image and per place: top-1, top-5, F1, calibration, and the figures of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import f1_score, precision_recall_fscore_support

from geossl.evaluate.calibration import reliability
from geossl.evaluate.guesses import Guesses, PlacedGuesses, guess_images, guess_places
from geossl.evaluate.places import group_places

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Shares, 0..1. A top-5 is NaN where there are five classes or fewer: it would be 1 by definition."""

    top1: float
    top5: float
    f1: float
    """Macro-F1: the mean over the classes."""
    f1_weighted: float
    """The mean over the images: each class counts by its true images."""
    ece: float
    """Expected calibration error of the guesses (`geossl.evaluate.calibration`)."""
    place_top1: float
    """These and the following are of places, by the sum of their images' probabilities."""
    place_top5: float
    place_f1: float
    place_f1_weighted: float
    place_ece: float
    images: int
    """Test images."""
    places: int
    """Places that they show."""
    views_mean: float
    """Test images of a place."""
    views_median: float


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Of any guesses, of images or of places. Shares, 0..1; a top-5 as in `Scores`."""

    top1: float
    top5: float
    f1: float
    f1_weighted: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassScores:
    """Figures of each of C classes; 0 where one would divide by 0."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    """Images, or places, that are of the class."""


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
    true = labels.cpu().numpy()
    grouped = group_places(places=places.cpu().numpy(), labels=true)
    by_sum, _ = guess_places(probabilities, grouped)
    return score_guesses(PlacedGuesses(images=guess_images(probabilities, true), by_sum=by_sum, places=grouped))


def score_guesses(made: PlacedGuesses) -> Scores:
    """The scores of guesses of images, and of their places."""
    image, place, views = rate(made.images), rate(made.by_sum), made.places.views
    return Scores(
        top1=image.top1,
        top5=image.top5,
        f1=image.f1,
        f1_weighted=image.f1_weighted,
        ece=reliability(made.images).ece,
        place_top1=place.top1,
        place_top5=place.top5,
        place_f1=place.f1,
        place_f1_weighted=place.f1_weighted,
        place_ece=reliability(made.by_sum).ece,
        images=len(made.images),
        places=len(made.by_sum),
        views_mean=float(views.mean()),
        views_median=float(np.median(views)),
    )


def rate(guesses: Guesses) -> Rates:
    """The figures that do not look at confidences."""
    f1 = {
        average: float(f1_score(guesses.labels, guesses.guess, average=average, zero_division=0))
        for average in ("macro", "weighted")
    }
    return Rates(
        top1=float(guesses.right.mean()),
        top5=float((guesses.rank < 5).mean()) if guesses.classes > 5 else float("nan"),
        f1=f1["macro"],
        f1_weighted=f1["weighted"],
    )


def score_classes(guesses: Guesses) -> ClassScores:
    """Precision, recall and F1 of each class."""
    figures = precision_recall_fscore_support(
        guesses.labels, guesses.guess, labels=np.arange(guesses.classes), zero_division=0
    )
    return ClassScores(precision=figures[0], recall=figures[1], f1=figures[2], support=figures[3])


def count_confusions(guesses: Guesses) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pairs (true class, guess) that occur, in order, and how often: int64 [M] each.

    They are the entries of the confusion matrix that are not 0: of thousands of classes, the matrix has millions.
    """
    pairs, counts = np.unique(guesses.labels * guesses.classes + guesses.guess, return_counts=True)
    return pairs // guesses.classes, pairs % guesses.classes, counts
