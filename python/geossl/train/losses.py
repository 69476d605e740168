"""The losses and what is watched beside them, as pure functions of logits and features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = -1
"""Label of an image whose place or category is unknown."""


def info_nce(logits: Tensor) -> Tensor:
    """InfoNCE of float32 [B, 1 + K] logits whose first column is the positive: -log softmax(logits)[:, 0]."""
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def known_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of float32 [B, K] logits over the known int64 [B] labels; 0 if none is known."""
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the known int64 [B] labels that float32 [B, K] logits rank first; 0 if none is known."""
    known = labels != IGNORE
    return ((logits.argmax(1) == labels) & known).sum() / known.sum().clamp(min=1)


def pretext_top1(logits: Tensor) -> Tensor:
    """Share of float32 [B, 1 + K] logits that rank their positive, the first column, above all negatives."""
    return (logits.argmax(1) == 0).float().mean()


def feature_std(features: Tensor) -> Tensor:
    """How spread out float32 [B, D] features are: 1 over the whole sphere, 0 collapsed to a point.

    The standard deviation over the batch of each component of the unit-length features, averaged, times
    sqrt(D) (the collapse measure of SimSiam, arXiv 2011.10566, section 4.1).
    """
    spread = F.normalize(features).std(0).mean()
    return spread * math.sqrt(features.shape[1])
