"""Statistics of an image's values as its feature: what can be told without looking at where a value is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
COUNT = 6 + len(PERCENTILES)
"""Figures of a band."""
IMAGES = 16
"""Images worked on together, in double precision."""


def image_statistics(images: Tensor) -> Tensor:
    """Mean, standard deviation, skewness, kurtosis, least, greatest and percentiles of each band, band by band.

    Skewness and kurtosis are those of scipy.stats (biased; the kurtosis is 0 for a normal distribution), 0 for a band
    of one value. Percentiles are numpy's, with linear interpolation.

    Args:
        images: float [B, C, H, W]; NaN where there is no data, which has no part in any figure.

    Returns:
        float32 [B, 13 C], on the images' device; 0 for a band without data.

    """
    return torch.cat([_statistics(part) for part in torch.split(images, IMAGES)])


def _statistics(images: Tensor) -> Tensor:
    values = images.flatten(2).double().sort(dim=2).values  # NaN last
    count = (~values.isnan()).sum(dim=2)
    mean = values.nanmean(dim=2)
    from_mean = (values - mean[..., None]).nan_to_num_(0.0)
    second, third, fourth = (from_mean.pow(power).sum(dim=2) / count for power in (2, 3, 4))
    # What rounding leaves of the deviations of equal values is none.
    varies = second > (torch.finfo(torch.float64).eps * mean).square()
    skewness = torch.where(varies, third / second.pow(1.5), 0.0)
    kurtosis = torch.where(varies, fourth / second.square() - 3, 0.0)
    shares = torch.tensor([0, *PERCENTILES, 100], dtype=torch.float64, device=images.device) / 100
    at = shares * (count[..., None] - 1).clamp(min=0)
    low, high = (values.gather(2, position.long()) for position in (at.floor(), at.ceil()))
    quantiles = low.lerp(high, at.frac())
    moments = torch.stack([mean, second.sqrt(), skewness, kurtosis], dim=2)
    least, between, greatest = quantiles[..., :1], quantiles[..., 1:-1], quantiles[..., -1:]
    figures = torch.cat([moments, least, greatest, between], dim=2)
    return figures.masked_fill_((count == 0)[..., None], 0.0).flatten(1).float()
