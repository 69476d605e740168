"""OpenCV and a DataLoader."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from peers.pairs import passes
from work import BLUR_SIDE, MEAN, STD, Job, colors, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGES = ["opencv-python-headless", "torch"]
SCALE, SHIFT = 1 / (255 * np.array(STD)), -np.array(MEAN) / np.array(STD)
NORMALIZE = np.stack([np.arange(256) * s + t for s, t in zip(SCALE, SHIFT, strict=True)], axis=-1, dtype=np.float32)
"""[256, 3]: from a value of a band to the normalised one; a table is the fastest way from uint8 to float."""


def read(path: str) -> np.ndarray:
    """uint8 [H, W, 3], RGB."""
    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise OSError(f"{path}: cannot be read")
    return image


def table(factor: float, shift: float = 0) -> np.ndarray:
    """A lookup table for clip(value * factor + shift)."""
    return np.clip(np.arange(256) * factor + shift + 0.5, 0, 255).astype(np.uint8)


def gray_of(view: np.ndarray) -> np.ndarray:
    """[H, W]."""
    return cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)


def change(view: np.ndarray, operation: str, amount: float) -> np.ndarray:
    """One operation of the jitter."""
    if operation == "brightness":
        return cv2.LUT(view, table(amount))
    if operation == "contrast":
        return cv2.LUT(view, table(amount, (1 - amount) * cv2.mean(gray_of(view))[0]))
    if operation == "saturation":
        gray = cv2.cvtColor(gray_of(view), cv2.COLOR_GRAY2RGB)
        return cv2.addWeighted(view, amount, gray, 1 - amount, 0)
    hsv = cv2.cvtColor(view, cv2.COLOR_RGB2HSV_FULL)
    turned = (np.arange(256) + round(amount * 256)) % 256
    same = np.arange(256)
    hsv = cv2.LUT(hsv, np.stack([turned, same, same], axis=-1).astype(np.uint8)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def transform(job: Job) -> Callable[[np.ndarray], torch.Tensor]:
    """A random view, channels last."""
    size = (job.size, job.size)

    def view(image: np.ndarray) -> torch.Tensor:
        x, y, w, h = window(image.shape[1], image.shape[0], job.scale)
        # INTER_LINEAR has no antialiasing: where pixels are taken together, INTER_AREA does what the others do.
        how = cv2.INTER_AREA if w > job.size or h > job.size else cv2.INTER_LINEAR
        out = cv2.resize(image[y : y + h, x : x + w], size, interpolation=how)
        if random.random() < 0.5:
            out = cv2.flip(out, 1)
        if job.floats:
            drawn = colors()
            for operation, amount in drawn.jitter:
                out = change(out, operation, amount)
            if drawn.gray:
                out = cv2.cvtColor(gray_of(out), cv2.COLOR_GRAY2RGB)
            if drawn.sigma > 0:
                out = cv2.GaussianBlur(out, (BLUR_SIDE, BLUR_SIDE), drawn.sigma)
            out = cv2.LUT(out, NORMALIZE[None])
        return torch.from_numpy(out)

    return view


def make(job: Job) -> Callable[[int], Iterator[torch.Tensor]]:
    """Passes through a DataLoader."""
    cv2.setNumThreads(0)
    return passes(job, read=read, view=transform(job))
