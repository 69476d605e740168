"""Random convolutional features: patches of training images as filters, without any training.

Source: Rolf et al., "A generalizable and accessible approach to machine learning with global satellite imagery" (Nature
Communications 2021, doi 10.1038/s41467-021-24638-z; MOSAIKS), methods: patches of the data, whitened, are convolved
with an image; what rises above a bias and what lies below it are averaged over the image. Whitening, bias -1 and the
two halves are those of torchgeo's RCF (mode empirical, version 0.8), which has them from MOSAIKS' own code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCHES = 512
SIDE = 3
"""Pixels."""
BIAS = -1.0
SMALL = 1e-8
"""Length below which a patch, less its mean, is left as it is: it has one value."""
ZCA_BIAS = 1e-3
"""Added to the covariance, so that directions without variance do not grow beyond all bounds."""
BLOCK_VALUES = 2**26
"""Most values of a convolution's output: 256 MiB of float32, but at least those of an image."""


class RandomConv(nn.Module):
    """Convolves with patches: float32 [B, C, H, W] -> float32 [B, 2 K], 0 or more.

    The first K features are the means of what the convolution has above -bias, the other K of what it lacks.
    """

    weight: Tensor  # float32 [K, C, k, k]

    def __init__(self, patches: Tensor) -> None:
        """Take the filters from patches, float [K, C, k, k], K >= 1."""
        super().__init__()
        self.register_buffer("weight", whiten(patches))

    def forward(self, images: Tensor) -> Tensor:
        """The features of normalised images."""
        step = max(1, BLOCK_VALUES // (len(self.weight) * images.shape[2] * images.shape[3]))
        bias = self.weight.new_full((len(self.weight),), BIAS)
        parts = []
        for part in torch.split(images, step):
            found = F.conv2d(part, self.weight, bias)
            parts.append(torch.cat([found.clamp(min=0).mean((2, 3)), found.clamp(max=0).neg().mean((2, 3))], dim=1))
        return torch.cat(parts)


def whiten(patches: Tensor) -> Tensor:
    """Patches as filters for whitened images: each less its mean and of length 1, then ZCA twice.

    ZCA of the patches whitens them; filtering a whitened image by them is filtering the image by patches that were
    whitened twice, that is multiplied with the inverse of their covariance.

    Args:
        patches: float [K, C, k, k].

    Returns:
        float32 [K, C, k, k].

    """
    flat = patches.flatten(1).double()
    flat = flat - flat.mean(dim=1, keepdim=True)
    length = flat.norm(dim=1, keepdim=True)
    flat = flat / torch.where(length < SMALL, 1.0, length)
    covariance = flat.T @ flat / len(flat) + ZCA_BIAS * torch.eye(flat.shape[1], dtype=flat.dtype, device=flat.device)
    filters: Tensor = torch.linalg.solve(covariance, flat.T).T.float().reshape(patches.shape)
    return filters


class PatchTaker:
    """Stands in an encoder's place and takes a random patch of each image: float [B, C, H, W] -> [B, C k k]."""

    def __init__(self, draw: torch.Generator) -> None:
        self._draw = draw

    def __call__(self, images: Tensor) -> Tensor:
        """A patch of each image, at a place that the generator draws."""
        height, width = images.shape[2:]
        tops = torch.randint(height - SIDE + 1, (len(images),), generator=self._draw).tolist()
        lefts = torch.randint(width - SIDE + 1, (len(images),), generator=self._draw).tolist()
        patches = [
            image[:, top : top + SIDE, left : left + SIDE] for image, top, left in zip(images, tops, lefts, strict=True)
        ]
        return torch.stack(patches).flatten(1)
