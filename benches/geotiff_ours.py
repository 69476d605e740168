"""Our loader on GeoTIFFs, from files and from the lossless pack of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geossl.config import CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.loader import Loader
from ours import packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from work import CropJob

PACKAGES = ["geossl", "torch"]


def make(job: CropJob) -> Callable[[int], Iterator[torch.Tensor]]:
    """Passes with one thread. The loader draws the crops of `job.windows` by itself, from the same seed."""
    index = Index.read(Path(job.index))
    pack = {} if job.source == "files" else {"pack": packed(index, Path(job.packs), job.source)}
    loader = Loader(
        index,
        rows=np.resize(np.arange(len(index)), len(job.windows[0])),
        batch=job.batch,
        views=1,
        temporal=False,
        crop=CropConfig(size=job.size, scale=job.scale, flip=0),
        color=None,
        seed=job.seed,
        train=True,
        loader=LoaderConfig(threads=1, **pack),
    )

    def passes(number: int) -> Iterator[torch.Tensor]:
        loader.set_epoch(number)
        return (batch.images[0] for batch in loader)

    return passes
