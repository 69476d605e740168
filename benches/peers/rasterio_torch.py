"""rasterio's windowed read of the pixels as they are, resampled by torch, which works on floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rasterio
import torch
from rasterio.windows import Window
from torch.nn.functional import interpolate

from peers.crops import passes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from work import CropJob

PACKAGES = ["rasterio", "torch"]


def make(job: CropJob) -> Callable[[int], Iterator[torch.Tensor]]:
    """Passes through a DataLoader."""
    torch.set_num_threads(1)

    def read(row: int, x: int, y: int, width: int, height: int) -> torch.Tensor:
        with rasterio.open(job.files[row]) as file:
            pixels = torch.from_numpy(file.read(window=Window(x, y, width, height))).float()
        return interpolate(pixels[None], (job.size, job.size), mode="bilinear", antialias=True)[0]

    return passes(job, read)
