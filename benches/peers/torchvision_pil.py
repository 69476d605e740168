"""Pillow and torchvision's transforms: the way of MoCo's and the paper's code. Runs on pillow-simd too."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from PIL import Image, ImageFilter
from torchvision import transforms

from peers.pairs import passes
from work import (
    BLUR_P,
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

    import torch

PACKAGES = ["torch", "torchvision"]


def read(path: str) -> Image.Image:
    """The whole image, RGB."""
    with Image.open(path) as file:
        return file.convert("RGB")


def blur(image: Image.Image) -> Image.Image:
    """MoCo's own blur."""
    return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(*BLUR_SIGMA)))


def transform(job: Job) -> Callable[[Image.Image], torch.Tensor]:
    """The transforms of a view, in MoCo's order."""
    crop = transforms.RandomResizedCrop(job.size, scale=job.scale)
    flip = transforms.RandomHorizontalFlip()
    if not job.floats:
        view: Callable[[Image.Image], torch.Tensor] = transforms.Compose([crop, flip, transforms.PILToTensor()])
        return view
    jitter = transforms.ColorJitter(BRIGHTNESS, CONTRAST, SATURATION, HUE)
    full: Callable[[Image.Image], torch.Tensor] = transforms.Compose(
        [
            crop,
            transforms.RandomApply([jitter], p=JITTER_P),
            transforms.RandomGrayscale(p=GRAY_P),
            transforms.RandomApply([blur], p=BLUR_P),
            flip,
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return full


def make(job: Job) -> Callable[[int], Iterator[torch.Tensor]]:
    """Passes through a DataLoader."""
    return passes(job, read=read, view=transform(job))
