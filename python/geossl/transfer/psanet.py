"""Point-wise spatial attention: each place of a feature map collects from all places, and distributes to all.

Zhao et al., "PSANet: Point-wise Spatial Attention Network for Scene Parsing", ECCV 2018, sections 3.2 and 3.3. The
order of layers and their widths are those of the authors' code (hszhao/semseg, model/psanet.py), whose CUDA extension
is a gather here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

SHRINK = 2
"""Attention is computed on a map of about this many times fewer rows and columns."""


def shrunk(length: int) -> int:
    """Rows or columns of the map that attention is computed on, of a map with so many."""
    return (length - 1) // SHRINK + 1


class PointwiseAttention(nn.Module):
    """The whole module, with both branches: float32 [B, C, H, W] -> [B, 2 C, H, W], the input and what it adds.

    Args:
        channels: C of the input.
        reduced: channels of each branch.
        size: rows and columns of the input; the over-completed maps are made for it, so it is fixed.

    """

    def __init__(self, channels: int, *, reduced: int = 512, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        rows, columns = shrunk(size[0]), shrunk(size[1])
        self.collect = _Branch(channels, reduced, rows, columns, mode="collect")
        self.distribute = _Branch(channels, reduced, rows, columns, mode="distribute")
        self.project = _conv(2 * reduced, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Raises ValueError for a map of another size."""
        if tuple(features.shape[2:]) != self.size:
            raise ValueError(f"a map of {tuple(features.shape[2:])} for attention over {self.size}")
        both = torch.cat([self.collect(features), self.distribute(features)], 1)
        resized = _resize(self.project(both), (self.size[0], self.size[1]))
        return torch.cat([features, resized], 1)


class _Branch(nn.Module):
    """Collect or distribute: [B, C, H, W] -> [B, reduced, rows, columns]."""

    def __init__(
        self, channels: int, reduced: int, rows: int, columns: int, *, mode: Literal["collect", "distribute"]
    ) -> None:
        super().__init__()
        self.mode: Literal["collect", "distribute"] = mode
        self.map_size = (rows, columns)
        self.reduce = _conv(channels, reduced)
        over_completed = (2 * rows - 1) * (2 * columns - 1)
        self.attention = nn.Sequential(
            _conv(reduced, reduced), nn.Conv2d(reduced, over_completed, kernel_size=1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        reduced = _resize(self.reduce(features), self.map_size)
        weights = attention_weights(self.attention(reduced), mode=self.mode)
        return torch.bmm(reduced.flatten(2), weights).view_as(reduced)


def attention_weights(over_completed: Tensor, *, mode: Literal["collect", "distribute"]) -> Tensor:
    """How much of each place reaches each other, from the maps that every place makes of its surroundings.

    A place makes a map of (2 H - 1) (2 W - 1) that is centred on it; the part that lies on the H x W of the feature map
    is cut out (figure 3 of the paper). To collect, a place weighs all places by its own map; to distribute, it is
    weighed by theirs. Weights are a softmax over the places that are drawn from.

    Args:
        over_completed: float32 [B, (2 H - 1) (2 W - 1), H, W].
        mode: which branch.

    Returns:
        float32 [B, H W, H W]: row the place that is drawn from, column the one that receives. Columns add up to 1.

    """
    rows, columns = over_completed.shape[2:]
    row = torch.arange(rows, device=over_completed.device).repeat_interleave(columns)
    column = torch.arange(columns, device=over_completed.device).repeat(rows)
    # Where, in the map of the place of the second axis, the place of the first one is.
    down, right = row[:, None] - row + rows - 1, column[:, None] - column + columns - 1
    at = (down * (2 * columns - 1) + right).expand(len(over_completed), -1, -1)
    weights = over_completed.flatten(2).gather(1, at)
    if mode == "distribute":
        weights = weights.transpose(1, 2)
    return weights.softmax(1)


def _conv(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel_size=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


def _resize(features: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(features, size=size, mode="bilinear", align_corners=True)
