"""Images with the categories that a classifier gives them, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from geossl.embedding.image import image_index, picture
from geossl.errors import UsageError
from geossl.viz.search import SIDE, draw_panel
from geossl.viz.summary import save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from geossl.data.index import Index

ACROSS = 6
"""Most images in a row."""
SHOWN = 24
"""Most images of a picture."""


def plot_classes(out: Path, *, index: Index, rows: Sequence[int], captions: Sequence[str], context: bool) -> Path:
    """Write a PNG of images of an index with a caption each to `out`, atomically, and return `out`.

    An image that cannot be read is a grey square with the reason. Raises GeosslError if the picture cannot be written.

    Args:
        out: where to.
        index: of the images.
        rows: which, 1 or more.
        captions: one a row.
        context: add fMoW's context around a bounding box.

    """
    across = min(ACROSS, len(rows))
    down = -(-len(rows) // across)
    figure = Figure(figsize=(1.7 * across, 2.15 * down), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for place in axes:
        place.set_axis_off()
    for place, row, caption in zip(axes, rows, captions, strict=False):
        draw_panel(place, _read(index, row, context=context), caption, framed=False)
    save(figure, out)
    return out


def _read(index: Index, row: int, *, context: bool) -> np.ndarray | str:
    """The pixels, uint8 [SIDE, SIDE, 3], or why there are none."""
    path, *box = (index.column(name)[row].as_py() for name in ("path", "box_x", "box_y", "box_w", "box_h"))
    try:
        one = image_index(index.root, path, box=box, tile=index.boxes == "tiles")
        return picture(one, size=SIDE, context=context)
    except UsageError as e:
        return str(e)
