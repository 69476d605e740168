"""The pictures of a report: curves of the runs, and maps of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from geossl.data.clusters import Clusters, default_path
from geossl.data.index import Index
from geossl.viz.maps import plot_map
from geossl.viz.summary import GRID, INK, PALETTE, save

if TYPE_CHECKING:
    from pathlib import Path


Metrics = dict[tuple[str, int], list[dict[str, Any]]]
"""Rows of metrics of the runs, by arm and seed; none of one that has not begun."""
CURVES = {"loss": "loss", "pretext_acc": "pretext accuracy", "feature_std": "feature std", "knn_acc": "online kNN"}


def draw_curves(out: Path, metrics: Metrics) -> list[tuple[str, str]]:
    """Write curves.png: a panel for each figure that there is, a colour for each arm, a line for each seed."""
    runs = [(arm, rows) for (arm, _), rows in metrics.items()]
    shown = [key for key in CURVES if any(row.get(key) is not None for _, rows in runs for row in rows)]
    if not shown:
        return []
    figure = Figure(figsize=(3.6 * len(shown), 3.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    arms = list(dict.fromkeys(arm for arm, _ in runs))
    for axes, key in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        named = set()
        for arm, rows in runs:
            points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
            if points:
                label = None if arm in named else arm
                named.add(arm)
                color = PALETTE[arms.index(arm) % len(PALETTE)]
                axes.plot(*zip(*points, strict=True), color=color, linewidth=1.2, label=label)
        axes.set_title(CURVES[key], fontsize=10, color=INK)
        axes.set_xlabel("step", fontsize=9, color=INK)
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.tick_params(labelsize=8, colors=INK)
        axes.legend(frameon=False, fontsize=8)
    save(figure, out / "curves.png")
    return [("curves.png", "Pretraining, a line for each seed")]


def draw_maps(out: Path, *, data: Path) -> list[tuple[str, str]]:
    """Write maps of where the images are and of the clusters, once; none where no image has coordinates."""
    made = []
    index = Index.read(data, images=False)
    clusters = default_path(data)
    if index.table["lat"].null_count == len(index):
        return []
    if not (out / "density.png").exists():
        plot_map(out / "density.png", index=index, kind="density")
    made.append(("density.png", "Where the images are"))
    if clusters.exists():
        if not (out / "clusters.png").exists():
            plot_map(out / "clusters.png", index=index, kind="clusters", clusters=Clusters.read(clusters))
        made.append(("clusters.png", "The clusters that the geo head predicts"))
    return made
