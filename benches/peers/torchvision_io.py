"""torchvision's own JPEG decoder and tensor transforms (v2, on uint8, as its documentation advises for speed)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from peers.pairs import passes
from work import (
    BLUR_P,
    BLUR_SIDE,
    BLUR_SIGMA,
    BRIGHTNESS,
    CONTRAST,
    GRAY_P,
    HUE,
    JITTER_P,
    MEAN,
    SATURATION,
    STD,
    Job,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGES = ["torch", "torchvision"]


def read(path: str) -> torch.Tensor:
    """uint8 [3, H, W], channels last in memory, for which the resize has a fast path."""
    return decode_image(path, mode=ImageReadMode.RGB)


def transform(job: Job) -> Callable[[torch.Tensor], torch.Tensor]:
    """The transforms of a view."""
    steps = [v2.RandomResizedCrop(job.size, scale=job.scale, antialias=True), v2.RandomHorizontalFlip()]
    if job.floats:
        steps += [
            v2.RandomApply([v2.ColorJitter(BRIGHTNESS, CONTRAST, SATURATION, HUE)], p=JITTER_P),
            v2.RandomGrayscale(p=GRAY_P),
            v2.RandomApply([v2.GaussianBlur(BLUR_SIDE, BLUR_SIGMA)], p=BLUR_P),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    view: Callable[[torch.Tensor], torch.Tensor] = v2.Compose(steps)
    return view


def make(job: Job) -> Callable[[int], Iterator[torch.Tensor]]:
    """Passes through a DataLoader."""
    return passes(job, read=read, view=transform(job))
