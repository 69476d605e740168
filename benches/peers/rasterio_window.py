"""rasterio's windowed read, resampled by GDAL as it reads; the file is opened for each crop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rasterio
import torch
from rasterio.enums import Resampling
from rasterio.windows import Window

from peers.crops import passes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from work import CropJob

PACKAGES = ["rasterio", "torch"]


def make(job: CropJob) -> Callable[[int], Iterator[torch.Tensor]]:
    """Passes through a DataLoader."""
    shape = (job.bands, job.size, job.size)

    def read(row: int, x: int, y: int, width: int, height: int) -> torch.Tensor:
        with rasterio.open(job.files[row]) as file:
            window = Window(x, y, width, height)
            return torch.from_numpy(file.read(window=window, out_shape=shape, resampling=Resampling.bilinear))

    return passes(job, read)
