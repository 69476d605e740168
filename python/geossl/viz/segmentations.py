"""The classes of an image's pixels, drawn beside what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from geossl.embedding.image import central_square
from geossl.transfer.segmentations import whole_mask
from geossl.viz.summary import INK, PALETTE, save

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geossl.data.index import Index
    from geossl.transfer.objects import Objects
    from geossl.transfer.segmentations import Segmentation

ALPHA = 0.5


def plot_segmentation(
    out: Path,
    seen: Segmentation,
    *,
    index: Index,
    objects: Objects | None = None,
    categories: list[str] | None = None,
    pack: Path | None = None,
) -> Path:
    """Write a PNG of the largest central square of an image to `out`, atomically, and return `out`.

    The image; then its classes, in a colour for each category; then what is there, if that is known.

    Args:
        out: where to.
        seen: in the image.
        index: of the image.
        objects: what is there, if that is known.
        categories: names of the categories, without `objects`.
        pack: lossless pack that the image is read from, in place of its file.

    Raises UsageError if the image cannot be read, GeosslError if the picture cannot be written.

    """
    names = objects.categories if objects is not None else categories or []
    shown, square = central_square(index, seen.row, pack=pack)
    title = index.column("path")[seen.row].as_py()
    panels = [(shown, title), (_tinted(shown, _thinned(seen.classes, square, len(shown))), "predicted")]
    if objects is not None:
        there = objects.of(seen.row)
        truth = whole_mask(objects.geometry[there], objects.category[there], shape=seen.classes.shape)
        panels.append((_tinted(shown, _thinned(truth, square, len(shown))), "what is there"))
    figure = Figure(figsize=(4 * len(panels), 4.5), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (pixels, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(pixels)
        axes.set_axis_off()
        axes.set_title(title, fontsize=8, color=INK)
    for code, name in enumerate(names):
        figure.axes[0].plot([], [], color=PALETTE[code % len(PALETTE)], linewidth=4, label=name)
    figure.legend(loc="outside lower center", ncols=6, fontsize=7, frameon=False)
    save(figure, out)
    return out


def _thinned(classes: NDArray[np.integer], square: tuple[int, int, int], size: int) -> NDArray[np.integer]:
    """The classes of a square (left, top, side) at a picture's size."""
    left, top, side = square
    at = ((np.arange(size) + 0.5) * side / size).astype(int)
    thinned: NDArray[np.integer] = classes[top + at][:, left + at]
    return thinned


def _tinted(shown: NDArray[np.uint8], classes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The picture, with the categories' colours over it."""
    colours = np.array([to_rgb(PALETTE[code % len(PALETTE)]) for code in range(max(int(classes.max()), 1))])
    over = 255 * colours[classes.clip(1) - 1]
    mixed = np.where((classes > 0)[..., None], ALPHA * over + (1 - ALPHA) * shown, shown)
    return mixed.astype(np.uint8)
