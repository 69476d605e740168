"""Figures that tell how well a run is: formulas alone. What they mean for a reader is in docs/loss.md."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

RANK_EPS = 1e-7
"""Added to each share of the spectrum, as in RankMe."""


def feature_std(features: Tensor) -> Tensor:
    """How spread out float32 [B, D] features are: 1 over the whole sphere, 0 collapsed to a point.

    The standard deviation over the batch of each component of the unit-length features, averaged, times
    sqrt(D) (the collapse measure of SimSiam, arXiv 2011.10566, section 4.1).
    """
    spread = F.normalize(features).std(0).mean()
    return spread * math.sqrt(features.shape[1])


def alignment(queries: Tensor, keys: Tensor) -> Tensor:
    """How far positives are from each other: mean |q - k|^2 of float32 [B, D] unit rows, 0 (equal) to 4 (opposite).

    Wang and Isola, arXiv 2005.10242, section 4.2, with their exponent 2.
    """
    return (queries - keys).square().sum(1).mean()


def uniformity(features: Tensor) -> Tensor:
    """How evenly float32 [B, D] unit rows fill the sphere, B >= 2: log mean exp(-2 |x - y|^2) over all pairs.

    0 where all are one point; near -4 + 8 / D where they are drawn from the whole sphere. Wang and Isola,
    arXiv 2005.10242, section 4.2, with their t = 2.
    """
    count = len(features)
    # |x - y|^2 = 2 - 2 x.y of unit rows. The diagonal, each row with itself, is no pair.
    kernel = (4 * (features @ features.T) - 4).exp()
    pairs = kernel.sum() - kernel.diagonal().sum()
    return (pairs / (count * (count - 1))).log()


def effective_rank(gram: Tensor) -> float:
    """RankMe: how many dimensions features use, from 1 (all on a line) to D (all directions alike).

    exp of the entropy of the singular values' shares, p_i = s_i / sum(s) + 1e-7 (Garrido et al., arXiv 2210.02885,
    equation 1). The singular values of Z, [N, D], are the roots of the eigenvalues of its small Gram matrix.

    Args:
        gram: float [D, D], Z.T @ Z, on the CPU.

    """
    singular = torch.linalg.eigvalsh(gram.double()).clamp(min=0).sqrt()
    share = singular / singular.sum().clamp(min=1e-30) + RANK_EPS
    return math.exp(-float((share * share.log()).sum()))


def gradient_norm(gradients: Iterable[Tensor]) -> Tensor:
    """Euclidean length of all gradients together, on their device."""
    norms: Sequence[Tensor] = torch._foreach_norm(list(gradients))  # noqa: SLF001 - it has no public name in torch 2.6
    total: Tensor = torch.linalg.vector_norm(torch.stack(list(norms)))
    return total


def infonce_ratio(loss: float, *, queue: int) -> float:
    """InfoNCE over log(1 + K), K the keys of the queue: 1 is an encoder that tells the positive by chance."""
    return loss / math.log1p(queue)


def queue_age(step: int, *, queue: int, batch: int) -> tuple[float, float]:
    """How many steps ago the queue's keys were made: (the oldest, their mean), as step `step` (from 1) saw it.

    The keys that the queue starts with are noise, and have no age: at the first step both are 0.
    """
    oldest = min(step - 1, -(-queue // batch))
    return float(oldest), (oldest + 1) / 2 if oldest else 0.0
