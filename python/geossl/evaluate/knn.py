"""k-nearest-neighbour classification of features: what the encoder separates without any training.

Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018),
section 3.4: cosine similarity s, each neighbour votes for its class with exp(s / T), T = 0.07. They use
k = 200 on ImageNet; ours is 20, for classes with tens of images.
"""

from __future__ import annotations

import torch

BLOCK_VALUES = 2**24
"""Similarities held at once: 64 MiB of float32."""


def predict_knn(
    *,
    train_x: torch.Tensor,
    train_y: torch.Tensor,
    test_x: torch.Tensor,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> torch.Tensor:
    """Each class's share of the votes of the k most similar training rows.

    Args:
        train_x: features, float32 [N, D], N >= 1.
        train_y: labels 0..classes-1, int64 [N].
        test_x: features, float32 [M, D]; all three on one device.
        classes: number of classes, C.
        k: neighbours asked; all N where there are fewer.
        temperature: T of the vote exp(s / T).

    Returns:
        float32 [M, C], rows sum to 1, on the features' device.

    """
    k = min(k, len(train_x))
    bank = torch.nn.functional.normalize(train_x, dim=1).T
    votes = torch.zeros(len(test_x), classes, device=test_x.device)
    block = max(1, BLOCK_VALUES // len(train_x))
    for start in range(0, len(test_x), block):
        query = torch.nn.functional.normalize(test_x[start : start + block], dim=1)
        similarity, neighbours = (query @ bank).topk(k, dim=1)
        vote = (similarity / temperature).softmax(dim=1)
        votes[start : start + block].scatter_add_(1, train_y[neighbours], vote)
    return votes
