"""What a detector sees in an image, drawn beside what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from geossl.embedding.image import central_square
from geossl.viz.summary import INK, PALETTE, save

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from geossl.data.index import Index
    from geossl.transfer.detections import Detections
    from geossl.transfer.objects import Objects

SURE = 0.5
"""Score from which a box is drawn."""


def plot_detections(
    out: Path,
    seen: Detections,
    *,
    index: Index,
    objects: Objects | None = None,
    categories: list[str] | None = None,
    pack: Path | None = None,
) -> Path:
    """Write a PNG of the largest central square of an image to `out`, atomically, and return `out`.

    What is seen with a score of 0.5 or more is drawn in a colour for each category; what is there, in white.

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
    shown, (left, top, side) = central_square(index, seen.row, pack=pack)
    scale = len(shown) / side
    figure = Figure(figsize=(7, 7.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(shown)
    axes.set_axis_off()
    sure = seen.scores >= SURE
    if objects is not None:
        there = objects.of(seen.row)
        _frame(axes, (objects.boxes[there] - [left, top, left, top]) * scale, color="white", width=1.6)
    drawn = np.unique(seen.categories[sure]).tolist()
    for code in drawn:
        boxes = (seen.boxes[sure & (seen.categories == code)] - [left, top, left, top]) * scale
        _frame(axes, boxes, color=PALETTE[code % len(PALETTE)], width=1.0)
        axes.plot([], [], color=PALETTE[code % len(PALETTE)], label=names[code])
    if drawn:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.09), ncols=4, fontsize=7, frameon=False)
    known = "" if objects is None else "; white: what is there"
    axes.set_title(
        f"{index.column('path')[seen.row].as_py()}: {int(sure.sum()):,} objects{known}", fontsize=9, color=INK
    )
    axes.set(xlim=(0, len(shown)), ylim=(len(shown), 0))
    save(figure, out)
    return out


def _frame(axes: Axes, boxes: NDArray[np.floating], *, color: str, width: float) -> None:
    patches = [Rectangle((a, b), c - a, d - b) for a, b, c, d in boxes.tolist()]
    axes.add_collection(PatchCollection(patches, facecolor="none", edgecolor=color, linewidth=width))
