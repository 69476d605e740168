"""What sits on the encoder: MoCo-v2's projection, and the head that predicts where an image was taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from geossl.config import GeoTarget


def projection_head(*, features: int, dim: int) -> nn.Sequential:
    """MoCo-v2's MLP (arXiv 2003.04297), [B, features] -> [B, dim]; hidden layer as wide as the input."""
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, dim))


class GeoHead(nn.Module):
    """Predicts the place of an image: ReLU, then a linear layer (the paper's released code).

    The layer has an output for each cluster of each level, one level after the other, which is the same as a linear
    head for each level; or, for the target vector, three: a direction from the centre of the globe.

    The ReLU is not in place: its input is the projection, which InfoNCE needs too.

    >>> from geossl.losses import known_cross_entropy
    >>> head = GeoHead(features=128, target="clusters", levels=[torch.eye(3)])  # three clusters, by their centroids
    >>> projection = torch.randn(4, 128)
    >>> logits = head(projection)
    >>> logits.shape
    torch.Size([4, 3])
    >>> loss = known_cross_entropy(logits, torch.tensor([0, 2, -1, 1]))  # the third place is unknown
    >>> head.place(logits).shape  # the centroids that it points at
    torch.Size([4, 3])

    """

    centroids: Tensor  # float32 [K, 3], unit vectors of the finest level; [0, 3] for the target vector

    def __init__(self, *, features: int, target: GeoTarget, levels: Sequence[Tensor]) -> None:
        """Build for images' features of that width.

        Args:
            features: width of what the head reads.
            target: what it predicts.
            levels: [K, 3] each: the centroids of the levels of clusters that are predicted, coarsest first, as unit
                vectors; none for the target vector.

        """
        super().__init__()
        self.target = target
        self.sizes = [len(centroids) for centroids in levels]
        """How many clusters each level has."""
        outputs = 3 if target == "vector" else sum(self.sizes)
        self.layers = nn.Sequential(nn.ReLU(), nn.Linear(features, outputs))
        centroids = torch.empty(0, 3) if target == "vector" else levels[-1].float()
        # Not among the weights, which have the authors' names alone; a checkpoint keeps them beside.
        self.register_buffer("centroids", centroids, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """float32 [B, features] -> float32 [B, outputs]: logits of the clusters, or a vector of any length."""
        output: Tensor = self.layers(features)
        return output

    def by_level(self, output: Tensor) -> tuple[Tensor, ...]:
        """The logits of each level, float32 [B, K] each, coarsest first, of what `forward` gave."""
        return torch.split(output, self.sizes, dim=1)

    def place(self, output: Tensor) -> Tensor:
        """The predicted place, float32 [B, 3] unit vectors: the centroid of the likeliest of the finest clusters."""
        if self.target == "vector":
            return F.normalize(output)
        return self.centroids[self.by_level(output)[-1].argmax(1)]
