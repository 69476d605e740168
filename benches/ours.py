"""Our loader, from files and from the packs of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geossl.config import ColorConfig, CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.loader import Loader
from geossl.data.pack import PLACES, make_pack
from work import MEAN, STD, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

PACKAGES = ["geossl", "torch"]
SHORT_SIDE = 448
PACKS: dict[str, dict[str, Any]] = {
    "lossless": {},
    "sized": {"short_side": SHORT_SIDE},
    "raw": {"short_side": SHORT_SIDE, "raw": True},
}
"""Arguments of `make_pack` for each source but the files."""


def make(job: Job) -> Callable[[int], Iterator[torch.Tensor]]:
    """Passes over `job.pairs` rows of the index, which repeat where the set is smaller."""
    index = Index.read(Path(job.index))
    options: dict[str, Any] = {"normalize": (MEAN, STD)} if job.floats else {}
    pack = {} if job.source == "files" else {"pack": packed(index, Path(job.packs), job.source)}
    loader = Loader(
        index,
        rows=np.resize(np.arange(len(index)), job.pairs),
        batch=job.batch,
        views=2,
        temporal=job.temporal,
        crop=CropConfig(size=job.size, scale=job.scale),
        color=ColorConfig() if job.floats else None,
        seed=job.seed,
        train=True,
        loader=LoaderConfig(threads=job.threads, **pack),
        **options,
    )

    def passes(number: int) -> Iterator[torch.Tensor]:
        loader.set_epoch(number)
        return (batch.images.swapaxes(0, 1) for batch in loader)

    return passes


def packed(index: Index, folder: Path, source: str) -> Path:
    """The pack of a source, made where it is not there yet."""
    out = folder / source
    if not (out / PLACES).exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_pack(index, out, **PACKS[source])
    return out
