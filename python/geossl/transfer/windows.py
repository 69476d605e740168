"""Whole images through a network, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geossl.config import LoaderConfig
from geossl.data.loader import Loader
from geossl.models.precision import autocast
from geossl.progress import counted
from geossl.training.step import normalised
from geossl.transfer.chips import lay_chips, zones

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import nn

    from geossl.config import TrainConfig
    from geossl.data.index import Index

BATCH = 8
"""Windows that the network sees at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """What the network makes of a window."""

    window: NDArray[np.int64]
    """int64 [4]: left, top, width and height in pixels of the image."""
    zone: NDArray[np.float64]
    """float64 [4]: left, top, right, bottom of what the window answers for; see `geossl.transfer.chips.zones`."""
    scale: float
    """Pixels that the network sees for a pixel of the image."""
    output: Any
    """The network's, of this window."""


def by_image(
    model: nn.Module,
    config: TrainConfig,
    *,
    index: Index,
    rows: NDArray[np.int64],
    overlap: float,
    title: str,
    failures: list[tuple[str, str]],
) -> Iterator[tuple[int, list[Window]]]:
    """What a network, in eval mode, makes of the windows of each image: (row, windows), in order, one at a time.

    Windows lie in rows and columns, and neighbours share `overlap` of their side at least.

    Args:
        model: float32 [B, bands, S, S] -> an output for each image of the batch.
        config: of its run: size, bands, mean and std.
        index: the images.
        rows: int64, which of them, ascending.
        overlap: share of a window's side.
        title: what the progress bar says.
        failures: gets (path, reason) of windows that could not be read, which are left out.

    """
    size, device = config.crop.size, torch.device(config.device)
    chips = lay_chips(index, rows, size=size, overlap=round(overlap * size))
    zone = zones(chips, index)
    loader = Loader(
        chips.index(index),
        rows=np.arange(len(chips), dtype=np.int64),
        batch=min(BATCH, len(chips)),
        views=1,
        temporal=False,
        crop=config.crop,
        color=None,
        normalize=config.color.normalization if device.type == "cpu" else None,
        seed=0,
        train=False,
        loader=LoaderConfig(**config.loader.model_dump(exclude={"on_error", "root"}), on_error="skip"),
        pin=device.type == "cuda",
        max_failures=1.0,
    )
    mean, std = (torch.tensor(v, device=device) for v in config.color.normalization)
    model.eval()
    found: list[Window] = []
    waiting = rows.tolist()
    with counted(title) as count:
        for batch in loader:
            views = normalised(batch, count=len(batch.rows[0]), loader=loader, device=device, mean=mean, std=std)
            with torch.no_grad(), autocast(config.precision, device):
                outputs = model(views[0])
            for chip, output in zip(batch.rows[0].tolist(), outputs, strict=True):
                while waiting[0] < chips.image[chip]:
                    yield waiting.pop(0), found
                    found = []
                    count(len(rows) - len(waiting), len(rows))
                window = Window(window=chips.window[chip], zone=zone[chip], scale=chips.scale(chip), output=output)
                found.append(window)
        for row in waiting:
            yield row, found
            found = []
    failures += loader.failures()
