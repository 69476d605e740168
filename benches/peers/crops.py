"""Crops of GeoTIFFs through torch's DataLoader, without workers: everything in one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from work import CropJob

    Read = Callable[[int, int, int, int, int], torch.Tensor]
    """From file, x, y, width and height to [bands, size, size]."""


class Crops(Dataset[torch.Tensor]):
    """Item i is crop i of a pass."""

    def __init__(self, windows: list[tuple[int, int, int, int, int]], read: Read) -> None:
        """`read` gives the crop of a window."""
        self.windows, self.read = windows, read

    def __len__(self) -> int:
        """Crops of the pass."""
        return len(self.windows)

    def __getitem__(self, i: int) -> torch.Tensor:
        """[bands, size, size]."""
        return self.read(*self.windows[i])


def passes(job: CropJob, read: Read) -> Callable[[int], Iterator[torch.Tensor]]:
    """Passes over the crops of `job`."""
    return lambda number: iter(DataLoader(Crops(job.windows[number], read), batch_size=job.batch))
