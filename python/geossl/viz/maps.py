"""Maps of an index: how many images are where, its clusters, classes and splits, and errors in kilometres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from geossl.data.coordinates import place_coordinates, unit_vectors
from geossl.data.leaks import split_codes
from geossl.errors import UsageError
from geossl.viz.globe import Projection, draw_land
from geossl.viz.summary import INK, PALETTE, save

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection

    from geossl.data.clusters import Clusters
    from geossl.data.index import Index

Kind = Literal["density", "clusters", "classes", "splits", "errors"]
COLOURS = (*PALETTE, "#F0E442", "#5b4a9e")
"""Of clusters."""
SPLIT_COLOURS = ("#56B4E9", "#E69F00", "#D55E00", "#CC79A7", "#009E73", "#0072B2")
NONE = "#8c8c8c"
"""Of what has no cluster or no split."""
SCALE = "viridis_r"
"""Of counts and errors: even in lightness, the same to the colour-blind, and dark where there is much."""
CELLS = (30, 120)
"""Least and most hexagons across a map: fewer where there are few images."""
CLASSES = 6
"""Most classes shown."""
WIDE, HIGH = 11.0, 7.5
"""Most inches that panels side by side, and a panel, take."""


def plot_map(
    out: Path, *, index: Index, kind: Kind, clusters: Clusters | None = None, km: np.ndarray | None = None
) -> Path:
    """Write a PNG of a map to `out`, atomically, and return `out`. See `draw_map`.

    Raises UsageError as `draw_map` does, GeosslError if the picture cannot be written.
    """
    save(draw_map(index=index, kind=kind, clusters=clusters, km=km), out)
    return out


def draw_map(*, index: Index, kind: Kind, clusters: Clusters | None = None, km: np.ndarray | None = None) -> Figure:
    """A map of the globe, or of the region that has all the points.

    - density: images, counted in hexagons of equal area.
    - clusters: places, in the colours of their clusters, of which near ones differ.
    - classes: images of the most frequent classes, a panel each, counted in hexagons.
    - splits: places in the colours of their splits, in a random order, so that none lies on top.
    - errors: median error of the images in each hexagon.

    Args:
        index: The images; of those without coordinates the title tells how many there are.
        kind: What is shown.
        clusters: Clusters of the index, for that kind.
        km: For errors, the error of each row, float64 [N], kilometres; NaN is none.

    Raises:
        UsageError: no image has coordinates, or what the kind shows is missing.

    """
    lat, lon = (index.table[name].to_numpy().astype(np.float64) for name in ("lat", "lon"))
    known = np.isfinite(lat) & np.isfinite(lon)
    name = index.source or "the index"
    if not known.any():
        raise UsageError(f"{name}: no image has coordinates, so there is nothing to map")
    if kind == "errors":
        if km is None:
            raise UsageError("a map of errors needs a run with a geo head: give --run")
        known &= np.isfinite(km)
        if not known.any():
            raise UsageError(f"{name}: no image has coordinates and an error, so there is nothing to map")
    if kind == "clusters" and clusters is None:
        raise UsageError("a map of clusters needs them: make them with geossl data cluster")
    projection = Projection.of(lat[known], lon[known])
    if kind == "classes":
        return _draw_classes(index, projection, lat, lon, known)
    figure, (axes,) = _figure(projection, 1)
    if clusters is not None and kind == "clusters":
        _draw_clusters(axes, projection, index, clusters)
    elif kind == "splits":
        _draw_splits(axes, projection, index)
    else:
        value = None if km is None or kind == "density" else km[known]
        shown, area = _hexagons(axes, projection, lat[known], lon[known], value, cells=_cells(known.sum()))
        if value is None:
            _scale([shown], [axes], "images", counts=True)
            title = f"{known.sum():,} images, counted in hexagons of {area}{_without(~known)}"
        else:
            _scale([shown], [axes], "median error, km", counts=False)
            title = f"errors of {known.sum():,} images, median {np.median(value):,.0f} km; in hexagons of {area}"
        _title(axes, title)
    return figure


def cluster_colours(centroids: np.ndarray) -> list[str]:
    """A colour of `COLOURS` for each cluster: of each, the one whose nearest holder so far is farthest.

    So a cluster has another colour than the seven nearest of those before it.

    Args:
        centroids: latitude and longitude in degrees, float64 [K, 2].

    """
    vectors = unit_vectors(centroids[:, 0], centroids[:, 1])
    # The cosine of the distance to the nearest holder of each colour; -2: it has none.
    closest = np.full((len(vectors), len(COLOURS)), -2.0)
    chosen = []
    for number, vector in enumerate(vectors):
        colour = int(np.argmin(closest[number]))
        chosen.append(COLOURS[colour])
        closest[:, colour] = np.maximum(closest[:, colour], vectors @ vector)
    return chosen


def _figure(projection: Projection, panels: int) -> tuple[Figure, list[Axes]]:
    left, right, bottom, top = projection.extent
    across = 1 if panels == 1 else 2
    down = -(-panels // across)
    # Inches of a kilometre: as wide as a page allows, or as high.
    scale = min(WIDE / across / (right - left), HIGH / (top - bottom))
    size = (across * scale * (right - left) + 1.2, down * (scale * (top - bottom) + 0.4))
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(down, across, squeeze=False).ravel())
    for axes in grid[panels:]:
        axes.set_axis_off()
    for axes in grid[:panels]:
        draw_land(axes, projection)
    return figure, grid[:panels]


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=10, color=INK)


def _without(missing: np.ndarray) -> str:
    return f"; {missing.sum():,} without coordinates" if missing.any() else ""


def _cells(images: int) -> int:
    return int(np.clip(3 * np.sqrt(images), *CELLS))


def _hexagons(
    axes: Axes, projection: Projection, lat: np.ndarray, lon: np.ndarray, value: np.ndarray | None, *, cells: int
) -> tuple[PolyCollection, str]:
    """Hexagons that have points: of their count, or of the median of values; and the area of one in words."""
    left, right, bottom, top = projection.extent
    # As regular as a whole number of rows allows.
    rows = max(1, round(cells * (top - bottom) / (right - left) / np.sqrt(3)))
    x, y = projection(lat, lon)
    shown = axes.hexbin(
        x,
        y,
        C=value,
        reduce_C_function=np.median,
        gridsize=(cells, rows),
        extent=projection.extent,
        mincnt=1 if value is None else None,
        cmap=SCALE,
        linewidths=0.1,
        edgecolors="face",
        zorder=2,
    )
    axes.set(xlim=(left, right), ylim=(bottom, top))
    # Two to a cell of the grid.
    area = (right - left) / cells * (top - bottom) / rows / 2
    return shown, f"{float(f'{area:.2g}'):,.6g} km²"


def _scale(shown: list[PolyCollection], axes: list[Axes], label: str, *, counts: bool) -> None:
    """One scale of colours for all: logarithmic where the values span more than a factor of ten."""
    values = np.concatenate([np.asarray(one.get_array(), np.float64) for one in shown])
    low, high = float(values.min()), float(values.max())
    wide = high > 10 * low
    norm = LogNorm(max(low, high / 1e6), high) if wide else Normalize(0, high or 1)
    for one in shown:
        one.set_norm(norm)
    bar = axes[0].figure.colorbar(shown[0], ax=axes, fraction=0.025, pad=0.012, aspect=32, shrink=0.75)
    bar.set_label(label, fontsize=9, color=INK)
    digits = (1.0,) if high > 1000 * low else (1.0, 2.0, 5.0)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=digits) if wide else MaxNLocator(6, integer=counts))
    bar.ax.yaxis.set_major_formatter("{x:,.6g}")
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)


def _draw_classes(index: Index, projection: Projection, lat: np.ndarray, lon: np.ndarray, known: np.ndarray) -> Figure:
    labels = np.where(known, index.labels, -1)
    count = np.bincount(labels[labels >= 0], minlength=len(index.categories))
    chosen = [label for label in np.argsort(-count, kind="stable")[:CLASSES].tolist() if count[label]]
    if not chosen:
        raise UsageError(f"{index.source or 'the index'}: no image has a category and coordinates")
    figure, panels = _figure(projection, len(chosen))
    shown = []
    cells = _cells(known.sum()) // 2  # a panel is half as wide
    for axes, label in zip(panels, chosen, strict=True):
        mine = labels == label
        hexagons, area = _hexagons(axes, projection, lat[mine], lon[mine], None, cells=cells)
        shown.append(hexagons)
        _title(axes, f"{index.categories[label]}: {count[label]:,} images")
    _scale(shown, panels, f"images in a hexagon of {area}", counts=True)
    if len(chosen) < len(index.categories):
        figure.suptitle(
            f"the {len(chosen)} most frequent of {len(index.categories)} classes{_without(~known)}",
            fontsize=11,
            color=INK,
        )
    return figure


def _draw_clusters(axes: Axes, projection: Projection, index: Index, clusters: Clusters) -> None:
    lat, lon, label = _places(index, clusters.labels(index))
    known = np.isfinite(lat)
    colours = np.array([*cluster_colours(clusters.centroids), NONE], np.object_)
    _points(axes, projection, lat[known], lon[known], colours[label[known]])
    x, y = projection(clusters.centroids[:, 0], clusters.centroids[:, 1])
    for size, colour, width in ((30, "white", 2.2), (22, INK, 1.0)):
        axes.scatter(x, y, s=size, c=colour, linewidths=width, marker="+", zorder=3)
    alone = int((label[known] < 0).sum())
    note = f", {alone:,} of them in none (grey)" if alone else ""
    _title(axes, f"{known.sum():,} places in {clusters.k} clusters{note}; crosses: centroids{_without(~known)}")


def _draw_splits(axes: Axes, projection: Projection, index: Index) -> None:
    splits, code = split_codes(index)
    if not splits:
        raise UsageError(f"{index.source or 'the index'}: no image has a split; see geossl data split")
    lat, lon, label = _places(index, code)
    known = np.isfinite(lat)
    colours = [SPLIT_COLOURS[number % len(SPLIT_COLOURS)] for number in range(len(splits))] + [NONE]
    _points(axes, projection, lat[known], lon[known], np.array(colours, np.object_)[label[known]])
    for number, (name, colour) in enumerate(zip([*splits, "none"], colours, strict=True)):
        count = int((label[known] == (number if number < len(splits) else -1)).sum())
        if count:
            axes.scatter([], [], s=40, c=colour, linewidths=0, label=f"{name} {count:,}")
    axes.legend(loc="lower left", fontsize=9, frameon=False, labelcolor=INK)
    _title(axes, f"{known.sum():,} places by the split of their first image{_without(~known)}")


def _places(index: Index, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latitude, longitude (NaN if unknown) and, of `rows` [N], the first row's value of each place, [P] each."""
    lat, lon, _ = place_coordinates(index)
    return lat, lon, rows[np.unique(index.places, return_index=True)[1]]


def _points(axes: Axes, projection: Projection, lat: np.ndarray, lon: np.ndarray, colours: Any) -> None:
    """Points in a random order, so that those of one colour do not lie on top of all others."""
    order = np.random.default_rng(0).permutation(len(lat))
    x, y = projection(lat[order], lon[order])
    size = float(np.clip(12_000 / len(lat), 1.0, 22.0))
    axes.scatter(x, y, s=size, c=colours[order].tolist(), linewidths=0, zorder=2)
