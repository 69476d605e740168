"""A picture of an index: views of its places, the time between them, its dates and its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow.compute as pc
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from geossl.data.pairs import GAPS
from geossl.viz.summary import GRID, INK, PALETTE, save

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from geossl.data.index import Index
    from geossl.data.inspect import Inspection

CLASSES = 25
"""Classes drawn, the most frequent."""
VIEWS = 40
"""Views a place that have a bar of their own; the last bar has those with more."""


def plot_inspection(out: Path, index: Index, found: Inspection) -> Path:
    """Write a PNG of four panels to `out`, atomically, and return `out`. Raises GeosslError if it cannot be written."""
    figure = Figure(figsize=(12, 7.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    _draw_views(panels[0, 0], found.views)
    _draw_gaps(panels[0, 1], found.gaps)
    _draw_dates(panels[1, 0], index)
    _draw_classes(panels[1, 1], index)
    save(figure, out)
    return out


def _draw_views(axes: Axes, views: np.ndarray) -> None:
    if not len(views):
        _nothing(axes, "Images of a place", "no image has a location_id")
        return
    most = min(int(views.max()), VIEWS)
    counts = np.bincount(np.minimum(views, VIEWS), minlength=most + 1)[1:]
    axes.bar(np.arange(1, most + 1), counts, 0.85, color=PALETTE[0])
    more = f" (the last bar: {VIEWS} and more)" if views.max() > VIEWS else ""
    axes.set_xlabel(f"images{more}", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _style(axes, f"Images of a place: {len(views):,} places, mean {views.mean():.2f}", "places")


def _draw_gaps(axes: Axes, gaps: np.ndarray) -> None:
    title = "Time between two dates of a place"
    if not gaps.sum():
        _nothing(axes, title, "no place has two dates that are known")
        return
    at = np.arange(len(GAPS))
    axes.bar(at, gaps, 0.85, color=PALETTE[2])
    axes.set_xticks(at, list(GAPS), rotation=30, ha="right")
    _style(axes, f"{title}: {gaps.sum():,} pairs", "pairs")


def _draw_dates(axes: Axes, index: Index) -> None:
    known = index.table["timestamp"].drop_null()
    if not len(known):
        _nothing(axes, "Dates", "no image has a timestamp")
        return
    months = known.cast("timestamp[us]").to_numpy().astype("datetime64[M]").astype(np.int64)
    first, last = int(months.min()), int(months.max())
    step = 1 if last - first < 120 else 3 if last - first < 360 else 12
    edges = np.arange(first - first % step, last + step + 1, step)
    counts, _ = np.histogram(months, edges)
    axes.stairs(counts, 1970 + edges / 12, fill=True, color=PALETTE[4])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    each = {1: "month", 3: "quarter", 12: "year"}[step]
    _style(axes, f"Dates: {len(known):,} images, by {each}", "images")


def _draw_classes(axes: Axes, index: Index) -> None:
    counts = pc.value_counts(index.table["category"].drop_null())
    if not len(counts):
        _nothing(axes, "Classes", "no image has a category")
        return
    numbers = counts.field("counts").to_numpy()
    names = counts.field("values").to_pylist()
    order = sorted(range(len(names)), key=lambda i: (-numbers[i], names[i]))[:CLASSES]
    axes.barh(np.arange(len(order)), numbers[order], 0.8, color=PALETTE[1])
    axes.set_yticks(np.arange(len(order)), [names[i] for i in order])
    axes.invert_yaxis()
    more = f"{len(names):,}, the most frequent {CLASSES}" if len(names) > CLASSES else f"{len(names):,}"
    _style(axes, f"Images of each class: {more}", "", grid="x")


def _nothing(axes: Axes, title: str, why: str) -> None:
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color=INK)
    axes.set(xticks=[], yticks=[])
    _style(axes, title, "")


def _style(axes: Axes, title: str, label: str, *, grid: Literal["x", "y"] = "y") -> None:
    axes.set_title(title, fontsize=11, color=INK)
    axes.set_ylabel(label, fontsize=9, color=INK)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=GRID, linewidth=0.6)
    axes.tick_params(labelsize=8, colors=INK, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
