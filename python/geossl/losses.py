"""The losses and accuracies, as pure functions of logits and features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from geossl.geo import EARTH_RADIUS_KM

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = -1
"""Label of an image whose place or category is unknown."""


def info_nce(logits: Tensor) -> Tensor:
    """InfoNCE of float32 [B, 1 + K] logits whose first column is the positive: -log softmax(logits)[:, 0].

    >>> info_nce(torch.zeros(8, 1 + 63))  # nothing is known of the positive: log(64)
    tensor(4.1589)

    """
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def known_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of float32 [B, K] logits over the known int64 [B] labels; 0 if none is known.

    >>> known_cross_entropy(torch.zeros(3, 10), torch.tensor([4, -1, 7]))  # the second is unknown
    tensor(2.3026)

    """
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def known_soft_cross_entropy(logits: Tensor, shares: Tensor, known: Tensor) -> Tensor:
    """Mean cross-entropy of float32 [B, K] logits and distributions over the known rows, bool [B]; 0 if none is.

    What the distributions hold in an unknown row does not matter; NaN neither.

    >>> known_soft_cross_entropy(torch.zeros(2, 4), torch.full((2, 4), 0.25), torch.tensor([True, False]))
    tensor(1.3863)

    """
    shares = torch.where(known[:, None], shares, 0.0)
    return -(shares * F.log_softmax(logits, 1)).sum() / known.sum().clamp(min=1)


def known_cosine_loss(predicted: Tensor, points: Tensor, known: Tensor) -> Tensor:
    """Mean of 1 - cos between predicted and true float32 [B, 3] unit vectors of the known rows, bool [B]; 0 if none is.

    What the true vectors hold in an unknown row does not matter; NaN neither.

    >>> north, east = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    >>> known_cosine_loss(north, east, torch.tensor([True]))  # a quarter of the globe apart
    tensor(1.)

    """
    points = torch.where(known[:, None], points, 0.0)
    return ((1 - (predicted * points).sum(1)) * known).sum() / known.sum().clamp(min=1)


def angles(points: Tensor, others: Tensor) -> Tensor:
    """Great-circle distance of each of float32 [B, 3] to each of [K, 3] unit vectors, radians, [B, K].

    By the chord, and not as a product of matrices: the cosine in float32 knows no distances below 2 km.
    """
    chord = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")
    return 2 * torch.asin((chord / 2).clamp(max=1))


def spacing(centroids: Tensor) -> Tensor:
    """Median distance of float32 [K, 3] unit vectors, K >= 2, to their nearest other, radians."""
    return angles(centroids, centroids).fill_diagonal_(torch.inf).amin(1).quantile(0.5)


def soft_labels(points: Tensor, centroids: Tensor, scale: Tensor) -> Tensor:
    """Distribution over the clusters, float32 [B, K]: softmax of -(d / scale)^2, d the distance to the centroid.

    Args:
        points: float32 [B, 3], unit vectors.
        centroids: float32 [K, 3], unit vectors.
        scale: radians, as `spacing` gives it.

    >>> centroids = torch.eye(3)  # each a quarter of the globe from the others
    >>> soft_labels(centroids[:1], centroids, spacing(centroids))
    tensor([[0.5761, 0.2119, 0.2119]])

    """
    return torch.softmax(-((angles(points, centroids) / scale) ** 2), dim=1)


def median_km(predicted: Tensor, points: Tensor, known: Tensor) -> Tensor:
    """Median great-circle distance of float32 [B, 3] unit vectors over the known rows, bool [B], km; 0 if none is.

    >>> north, east = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    >>> round(median_km(north, east, torch.tensor([True])).item())
    10008

    """
    chord = torch.linalg.vector_norm(predicted - points, dim=1)
    km = 2 * EARTH_RADIUS_KM * torch.asin((chord / 2).clamp(max=1))
    return torch.where(known, km, torch.nan).nanquantile(0.5).nan_to_num(0.0)


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the known int64 [B] labels that float32 [B, K] logits rank first; 0 if none is known."""
    known = labels != IGNORE
    return ((logits.argmax(1) == labels) & known).sum() / known.sum().clamp(min=1)


def pretext_top1(logits: Tensor) -> Tensor:
    """Share of float32 [B, 1 + K] logits that rank their positive, the first column, above all negatives.

    >>> pretext_top1(torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]))
    tensor(0.5000)

    """
    return (logits.argmax(1) == 0).float().mean()
