"""The encoder over many images, batch by batch: nothing is kept of those that were handed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from geossl.errors import GeosslError
from geossl.evaluate.features import frozen_loader, run_encoder

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import torch
    from numpy.typing import NDArray

    from geossl.config import LoaderConfig
    from geossl.data.index import Index
    from geossl.data.loader import Loader

STRETCH_ROWS = 65_536
"""Rows that one loader is made for: their paths are all that it holds of images that are yet to come."""


class Encoded(NamedTuple):
    """What became of the images of one batch."""

    rows: NDArray[np.int64]
    """Rows of the index that could be read, int64 [n]."""
    x: NDArray[np.float32]
    """Their features as the encoder gives them, float32 [n, D]."""
    failures: list[tuple[int, str]]
    """(row, reason) of the others."""


def encode(
    backbone: torch.nn.Module,
    *,
    index: Index,
    rows: NDArray[np.int64],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    context: bool,
    device: torch.device,
    batch: int,
    loader: LoaderConfig,
) -> Generator[Encoded]:
    """Run the encoder over the images of `rows`, in order, as `geossl.evaluate.features.extract` does.

    The features are those that `extract` gives for the same rows and batch, bit for bit. Unreadable images are left
    out, however many there are: whoever calls decides when there are too many.

    Args:
        backbone: encoder in eval mode on `device`, float32 [B, C, size, size] -> [B, D].
        index: the index that `rows` points into.
        rows: row numbers, int64 [N], N >= 1, each once.
        size: side of the square that the encoder sees, pixels.
        mean: per-band mean of values scaled to 0..1, one a band.
        std: per-band standard deviation of values scaled to 0..1, one a band.
        context: add fMoW's context around a bounding box.
        device: where the encoder runs.
        batch: images a step.
        loader: threads, root folder, pack and bands.

    Raises:
        GeosslError: a feature is not finite.

    """
    stretch = max(STRETCH_ROWS // batch, 1) * batch
    for first in range(0, len(rows), stretch):
        part = rows[first : first + stretch]
        source = frozen_loader(
            index,
            rows=part,
            size=size,
            context=context,
            batch=batch,
            device=device,
            loader=loader.model_copy(update={"on_error": "skip"}),
            max_failures=1.0,
        )
        encoded = run_encoder(backbone, source, mean=mean, std=std, device=device)
        for number, (found, features) in enumerate(encoded):
            seen, x = found.numpy(), features.numpy()
            if not np.isfinite(x).all():
                raise GeosslError("the encoder gives values that are not finite: its training has diverged")
            wanted = part[number * batch : (number + 1) * batch]
            yield Encoded(seen, x, _failures(index, source, wanted[~np.isin(wanted, seen)]))


def _failures(index: Index, source: Loader, rows: NDArray[np.int64]) -> list[tuple[int, str]]:
    if not len(rows):
        return []
    reasons = dict(source.failures())
    paths = index.table["path"].take(rows).to_pylist()
    return [
        (row, reasons.get(index.full_path(path), "unreadable")) for row, path in zip(rows.tolist(), paths, strict=True)
    ]
