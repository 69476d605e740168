"""How good a segmentation is: intersection over union and accuracy, from one confusion matrix over all pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from geossl.transfer.masks import IGNORE

if TYPE_CHECKING:
    from torch import Tensor


def confusion(predicted: Tensor, truth: Tensor, *, classes: int) -> Tensor:
    """Pixels by their true class and their predicted one; those whose true class is `IGNORE` are left out.

    The matrices of batches, of images or of processes add up to that of them all.

    Args:
        predicted: classes, integer [...].
        truth: classes, integer [...] of the same shape.
        classes: their number.

    Returns:
        int64 [classes, classes] on the CPU: row the true class, column the predicted one.

    Raises:
        ValueError: the shapes differ, or a class is out of range.

    """
    if predicted.shape != truth.shape:
        raise ValueError(f"predictions of the shape {tuple(predicted.shape)} for a truth of {tuple(truth.shape)}")
    counted = truth != IGNORE
    rows, columns = truth[counted].long(), predicted[counted].long()
    if len(rows) and not 0 <= min(rows.min(), columns.min()) <= max(rows.max(), columns.max()) < classes:
        raise ValueError(f"a class is not among 0 to {classes - 1}")
    counts = torch.bincount(rows * classes + columns, minlength=classes * classes)
    return counts.view(classes, classes).cpu()


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationScores:
    """Figures of a confusion matrix, as semseg (hszhao/semseg, PSANet's authors) counts them.

    Intersections and unions are summed over the test set, and the mean is over the classes, the background among them.
    A class that is neither there nor predicted counts as 0, as it does there.
    """

    confusion: Tensor
    """int64 [classes, classes]: row the true class, column the predicted one."""

    @property
    def iou(self) -> list[float]:
        """Intersection over union of each class, 0 to 1."""
        matrix = self.confusion.double()
        union = matrix.sum(0) + matrix.sum(1) - matrix.diag()
        return _shares(matrix.diag(), union)

    @property
    def mean_iou(self) -> float:
        """Mean of the classes' intersections over unions: the paper's mIoU."""
        return sum(self.iou) / len(self.iou)

    @property
    def accuracy(self) -> list[float]:
        """Share of each class's pixels that are predicted as it, 0 to 1."""
        matrix = self.confusion.double()
        return _shares(matrix.diag(), matrix.sum(1))

    @property
    def mean_accuracy(self) -> float:
        """Mean of the classes' accuracies."""
        return sum(self.accuracy) / len(self.accuracy)

    @property
    def overall_accuracy(self) -> float:
        """Share of all pixels whose class is predicted."""
        matrix = self.confusion.double()
        return _shares(matrix.diag().sum(), matrix.sum())[0]


def _shares(part: Tensor, whole: Tensor) -> list[float]:
    shares: list[float] = (part / whole.clamp(min=1)).view(-1).tolist()
    return shares
