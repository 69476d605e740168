"""What sits on the encoder: MoCo-v2's projection, and the geo-location classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


def projection_head(*, features: int, dim: int) -> nn.Sequential:
    """MoCo-v2's MLP (arXiv 2003.04297), [B, features] -> [B, dim]; hidden layer as wide as the input."""
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, dim))


class GeoHead(nn.Module):
    """Predicts the cluster of an image's place: ReLU, then a linear layer (the paper's released code).

    The ReLU is not in place: its input is the projection, which InfoNCE needs too.
    """

    def __init__(self, *, features: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.ReLU(), nn.Linear(features, classes))

    def forward(self, features: Tensor) -> Tensor:
        """float32 [B, features] -> logits, float32 [B, classes]."""
        logits: Tensor = self.layers(features)
        return logits
