"""The batch that ended a run, kept for its owner to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from geossl.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from geossl.data.index import Index
    from geossl.data.loader import Batch

NAME = "nan_batch.pt"
"""Its name in the run folder."""


def save(path: Path, *, views: Tensor, batch: Batch, index: Index, figures: dict[str, float], step: int) -> None:
    """Write what a step learnt from, atomically; `torch.load` reads it.

    It is a dict of `step` (from 1), `figures`, `paths` (of the index, [V][B]), `rows` (of the index, int64 [V, B]),
    `views` (as the network saw them, float32 [V, B, C, H, W]), `color` and `gains` (the parameters of the augmentation,
    see `geossl.augment`), V views of B images.

    Args:
        path: the file.
        views: as the network saw them, on any device.
        batch: as the loader gave it; may have a few more images than the views, which were not learnt from.
        index: what its rows are of.
        figures: the step's.
        step: the step's number.

    """
    count = views.shape[1]
    rows = batch.rows[:, :count].cpu()
    names = index.table["path"]
    content: dict[str, Any] = {
        "step": step,
        "figures": figures,
        "paths": [names.take(view.numpy()).to_pylist() for view in rows],
        # Copies: the loader's memory, and parts of larger tensors, would be written whole.
        "rows": rows.clone(),
        "views": views.to("cpu", torch.float32, copy=True),
        "color": batch.color[:, :count].clone(),
        "gains": batch.gains[:, :count].clone(),
    }
    with replacing(path) as file:
        torch.save(content, file)


def first_bad_image(views: Tensor, batch: Batch, index: Index) -> str | None:
    """Path of the first image whose view, of float32 [V, B, C, H, W], has values that are not finite; None if none."""
    bad = ~views.isfinite().flatten(2).all(2)
    if not bool(bad.any()):
        return None
    row = int(batch.rows[:, : views.shape[1]][bad.cpu()][0])
    return str(index.table["path"][row].as_py())
