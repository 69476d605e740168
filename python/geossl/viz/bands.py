"""A picture of band statistics: the histogram of each band, with what most of its values lie between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from geossl.data.band_stats import PERCENTILES
from geossl.viz.summary import GRID, INK, PALETTE, save

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from geossl.data.band_stats import BandStats, ImageKind

ACROSS = 4
"""Panels in a row."""
BARS = 96
"""Most bars of a panel."""


def plot_bands(out: Path, stats: BandStats) -> Path:
    """Write a PNG with a panel for each band of each kind of images to `out`, atomically, and return `out`.

    A panel shows the values from the 1st to the 99th percentile; the middle half is darker, and the median a line.
    Raises GeosslError if the picture cannot be written.
    """
    rows = [-(-len(kind.bands) // ACROSS) for kind in stats.kinds]
    figure = Figure(figsize=(3.2 * ACROSS, 2.3 * sum(rows) + 0.4 * len(rows)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(rows), 1, height_ratios=rows, squeeze=False)[:, 0]
    for part, kind, down in zip(parts, stats.kinds, rows, strict=True):
        part.suptitle(f"{kind.images:,} images, {len(kind.bands)} bands, {kind.dtype}", fontsize=11, color=INK)
        panels = part.subplots(down, ACROSS, squeeze=False).ravel()
        for panel in panels[len(kind.bands) :]:
            panel.set_axis_off()
        for number, panel in enumerate(panels[: len(kind.bands)]):
            _draw(panel, kind, number)
    note = "1st to 99th percentile of the values; dark: the middle half; line: the median"
    figure.supxlabel(note, fontsize=8, color=INK)
    save(figure, out)
    return out


def _draw(axes: Axes, kind: ImageKind, number: int) -> None:
    band = kind.bands[number]
    title = kind.name(number)
    if band.nodata:
        title += f" ({band.nodata_share:.1%} without data)"
    axes.set_title(title, fontsize=9, color=INK)
    axes.tick_params(labelsize=7, colors=INK, length=0)
    axes.set_yticks([])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    if not band.count:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes)
        return
    at = dict(zip(PERCENTILES, band.percentiles, strict=True))
    edges, height = _bars(kind, number, at[1], at[99])
    axes.stairs(height, edges, fill=True, color=PALETTE[4], alpha=0.6)
    middle = (edges[:-1] >= at[25]) & (edges[1:] <= at[75])
    axes.stairs(np.where(middle, height, 0), edges, fill=True, color=PALETTE[0])
    axes.axvline(at[50], color=PALETTE[3], linewidth=1.2)
    axes.set_ylim(bottom=0)


def _bars(kind: ImageKind, number: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges, float64 [n + 1], and heights, float64 [n], of a histogram from `low` to `high`."""
    own = kind.edges(number)
    below = np.concatenate([[0], np.cumsum(kind.bands[number].histogram)])
    if np.all(own == np.floor(own) + 0.5):
        # Integers: as many in each bar.
        low, high = np.floor(low) - 0.5, np.floor(high) + 0.5
        step = -(-(high - low) // BARS)
        edges = np.arange(low, high + step, step)
    else:
        edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
    heights: np.ndarray = np.diff(np.interp(edges, own, below))
    return edges, heights
