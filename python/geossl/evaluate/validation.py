"""What settings of classifiers are chosen on: places of the training images, never test images."""

from __future__ import annotations

import torch

from geossl.evaluate.few_labels import draw_places

VALIDATION_SHARE = 0.2
"""Share of each class's training places that is set aside."""
LEAST = 1e-12
"""Probabilities count as this much at least: a single sure mistake is not without end."""


def hold_out_places(*, places: torch.Tensor, labels: torch.Tensor, seed: int) -> torch.Tensor:
    """The training rows that settings are chosen on, bool [N]: whole places, so that no other date helps.

    Each class keeps a place to learn from. Where most classes have a single one, nothing is set aside: what is best
    for the few others would say little.

    Args:
        places: code of each row's place, integer [N].
        labels: class of each row, int64 [N].
        seed: seed of the draw.

    """
    held = draw_places(places=places, labels=labels, share=VALIDATION_SHARE, seed=seed, use="held out", spare=1)
    if 2 * len(torch.unique(labels[held])) < len(torch.unique(labels)):
        return torch.zeros_like(held)
    return held


def merit(probabilities: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """What a setting is chosen by: top-1, and among equals, which few images make many of, the mean log-likelihood.

    Args:
        probabilities: float [N, C].
        labels: int64 [N], on the same device.

    """
    top1 = (probabilities.argmax(dim=1) == labels).double().mean().item()
    # Of the true classes alone: with thousands of classes, all in double would not fit beside the features.
    own = probabilities.gather(1, labels[:, None]).double()
    return top1, own.clamp(min=LEAST).log().mean().item()
