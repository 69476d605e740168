"""torchgeo's RasterDataset: crops by their coordinates and a resolution, as its samplers ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rasterio
from torchgeo.datasets import RasterDataset

from peers.crops import passes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from work import CropJob

PACKAGES = ["torchgeo", "rasterio", "torch"]


def make(job: CropJob) -> Callable[[int], Iterator[torch.Tensor]]:
    """Passes through a DataLoader.

    Files are not kept open: a set here is smaller than the dataset's cache of open files, whose decoded blocks GDAL
    would then give again, which it does not for a set of any size.
    """
    dataset = RasterDataset(job.files, cache=False)
    origins = []
    for path in job.files:
        with rasterio.open(path) as file:
            origins.append(file.transform)

    def read(row: int, x: int, y: int, width: int, height: int) -> torch.Tensor:
        left, top = origins[row] * (x, y)
        right, bottom = origins[row] * (x + width, y + height)
        step_x, step_y = (right - left) / job.size, (top - bottom) / job.size
        crop: torch.Tensor = dataset[left:right:step_x, bottom:top:step_y]["image"]
        return crop

    return passes(job, read)
