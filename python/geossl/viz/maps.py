"""Maps of an index: how many images there are where, its clusters, its classes, its splits, and errors in kilometres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.patches import PathPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from geossl.data.coordinates import place_coordinates, unit_vectors
from geossl.errors import UsageError
from geossl.viz.summary import INK, PALETTE, save

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from geossl.data.clusters import Clusters
    from geossl.data.index import Index

Kind = Literal["density", "clusters", "classes", "splits", "errors"]
KM_A_DEGREE = 6371.0088 * np.pi / 180
LAND, SEA, LINES = "#e9e7e2", "#ffffff", "#c9ccd1"
COLOURS = (*PALETTE, "#F0E442", "#5b4a9e")
"""Of clusters; one that is near has another."""
SPLIT_COLOURS = {"train": "#56B4E9", "val": "#E69F00", "test": "#D55E00"}
NO_SPLIT = "#8c8c8c"
SCALE = "cividis"
"""Of counts and errors: even in lightness, and the same to the colour-blind."""
CLASSES = 6
"""Of the most frequent, a panel each."""
REGION = 60.0
"""Degrees: points that span less, on both axes, are shown by themselves."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """From degrees to kilometres on the map, areas kept: Equal Earth for the globe; for a region, degrees scaled
    to its middle."""

    middle: tuple[float, float] | None
    """Latitude and longitude of a region's middle, degrees; None: the globe."""
    extent: tuple[float, float, float, float]
    """Left, right, bottom and top of the map, kilometres."""

    def __call__(self, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X and y of points, kilometres."""
        if self.middle is None:
            return equal_earth(lat, lon)
        lat0, lon0 = self.middle
        around = (np.asarray(lon) - lon0 + 180) % 360 - 180
        return around * KM_A_DEGREE * np.cos(np.radians(lat0)), (np.asarray(lat) - lat0) * KM_A_DEGREE

    @classmethod
    def of(cls, lat: np.ndarray, lon: np.ndarray) -> Projection:
        """The globe, or the region of these points, with a margin, where they are near together."""
        # The longitudes lie in the circle without the widest gap between two that follow each other.
        around = np.sort(lon % 360)
        gaps = np.diff(np.append(around, around[0] + 360))
        widest = int(np.argmax(gaps))
        wide, high = 360 - gaps[widest], np.ptp(lat)
        lat0 = (lat.min() + lat.max()) / 2
        if max(wide, high) >= REGION or abs(lat0) > 75:
            right, _ = equal_earth(np.zeros(1), np.full(1, 180.0))
            _, top = equal_earth(np.full(1, 90.0), np.zeros(1))
            return cls(middle=None, extent=(-right[0], right[0], -top[0], top[0]))
        lon0 = (around[(widest + 1) % len(around)] + wide / 2 + 180) % 360 - 180
        # A tenth more on each side, half a degree at least, and not too narrow a strip.
        across, up = wide * np.cos(np.radians(lat0)), high
        side = max(across, up)
        half = [max(0.6 * length, 0.35 * side, 0.5) * KM_A_DEGREE for length in (across, up)]
        return cls(middle=(float(lat0), float(lon0)), extent=(-half[0], half[0], -half[1], half[1]))


def equal_earth(lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X and y in kilometres of points in degrees, by the Equal Earth projection: areas are those of the sphere.

    Šavrič, Patterson and Jenny: The Equal Earth map projection, 2018 (doi 10.1080/13658816.2018.1504949).
    """
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    t = np.arcsin(np.sqrt(3) / 2 * np.sin(np.radians(lat)))
    t2 = t * t
    t6 = t2**3
    slope = a1 + 3 * a2 * t2 + t6 * (7 * a3 + 9 * a4 * t2)
    x = 2 * np.sqrt(3) / 3 * np.radians(lon) * np.cos(t) / slope
    y = t * (a1 + a2 * t2 + t6 * (a3 + a4 * t2))
    return 6371.0088 * x, 6371.0088 * y


def plot_map(
    out: Path,
    *,
    index: Index,
    kind: Kind,
    clusters: Clusters | None = None,
    errors: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> Path:
    """Write a PNG of a map to `out`, atomically, and return `out`. See `draw_map`.

    Raises UsageError as `draw_map` does, GeosslError if the picture cannot be written.
    """
    save(draw_map(index=index, kind=kind, clusters=clusters, errors=errors), out)
    return out


def draw_map(
    *,
    index: Index,
    kind: Kind,
    clusters: Clusters | None = None,
    errors: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """A map of the globe, or of the region that has all the points.

    Kinds:

    - density: images, counted in hexagons of equal area.
    - clusters: places, in the colours of their clusters, of which near ones differ.
    - classes: images of the most frequent classes, a panel each, counted in hexagons.
    - splits: places in the colour of their split, in a random order, so that none lies on top.
    - errors: median error in hexagons.

    Args:
        index: The images; those without coordinates are counted in the title.
        kind: What is shown.
        clusters: Clusters of the index, for that kind.
        errors: For that kind: latitudes and longitudes in degrees and errors in kilometres, float64 [N] each.

    Raises:
        UsageError: no image has coordinates, or what the kind shows is missing.

    """
    if kind == "errors":
        if errors is None:
            raise UsageError("a map of errors needs a run with a geo head: give --run")
        lat, lon = errors[0], errors[1]
    else:
        lat, lon = (index.table[name].to_numpy().astype(np.float64) for name in ("lat", "lon"))
    known = np.isfinite(lat) & np.isfinite(lon)
    if not known.any():
        raise UsageError(f"{index.source or 'the index'}: no image has coordinates, so there is nothing to map")
    projection = Projection.of(lat[known], lon[known])
    if kind == "classes":
        return _draw_classes(index, projection, lat, lon, known)
    figure, (axes,) = _figure(projection, 1)
    if kind == "density":
        unit = _hexagons(axes, projection, lat[known], lon[known], label="images")
        _title(axes, f"{known.sum():,} images, counted in hexagons of {unit}", (~known).sum())
    elif kind == "errors" and errors is not None:
        unit = _hexagons(axes, projection, lat[known], lon[known], errors[2][known], label="median error, km")
        middle = np.median(errors[2][known])
        _title(axes, f"median error {middle:,.0f} km over {known.sum():,} images, in hexagons of {unit}", 0)
    elif kind == "clusters":
        if clusters is None:
            raise UsageError("a map of clusters needs them: give --clusters, or make them with geossl data cluster")
        _draw_clusters(axes, projection, index, clusters)
    else:
        _draw_splits(axes, projection, index)
    return figure


def _figure(projection: Projection, panels: int) -> tuple[Figure, list[Axes]]:
    left, right, bottom, top = projection.extent
    across = 1 if panels == 1 else 2
    down = -(-panels // across)
    wide = 11.0
    high = wide / across * (top - bottom) / (right - left)
    figure = Figure(figsize=(wide + 1.1, min(max(high, 2.5) + 0.5, 11) * down), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[panels:]:
        axes.set_axis_off()
    for axes in grid[:panels]:
        _draw_land(axes, projection)
    return figure, list(grid[:panels])


def _draw_land(axes: Axes, projection: Projection) -> None:
    left, right, bottom, top = projection.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set(xticks=[], yticks=[])
    land = {"facecolor": LAND, "edgecolor": "none", "zorder": 0.5}
    if projection.middle is None:
        edge = np.linspace(-90, 90, 181)
        border = np.column_stack(equal_earth(np.r_[edge, edge[::-1]], np.repeat([180.0, -180.0], 181)))
        rim = PathPatch(Outline(border, closed=True), facecolor=SEA, edgecolor=LINES, linewidth=0.8, zorder=0.4)
        axes.add_patch(rim)
        for lon in range(-120, 121, 60):
            axes.plot(*equal_earth(edge, np.full(181, lon)), color=LINES, linewidth=0.4, zorder=0.6)
        for lat in range(-60, 61, 30):
            axes.plot(*equal_earth(np.full(2, lat), np.array([-180, 180])), color=LINES, linewidth=0.4, zorder=0.6)
        outline = _outline([np.column_stack(equal_earth(ring[:, 1], ring[:, 0])) for ring in _land()])
        axes.add_patch(PathPatch(outline, **land)).set_clip_path(rim)
        return
    lat0, lon0 = projection.middle
    scale = KM_A_DEGREE * np.array([np.cos(np.radians(lat0)), 1.0])
    for turn in (-360, 0, 360):
        axes.add_patch(PathPatch(_outline([(ring - [lon0 + turn, lat0]) * scale for ring in _land()]), **land))
    for side in axes.spines.values():
        side.set(visible=True, color=LINES)
    for axis, middle, unit, ends in ((axes.xaxis, lon0, scale[0], "EW"), (axes.yaxis, lat0, scale[1], "NS")):
        low, high = axis.get_view_interval() / unit + middle
        at = [value for value in MaxNLocator(6).tick_values(low, high) if low <= value <= high]
        axis.set_ticks([(value - middle) * unit for value in at], [_degrees(value, ends) for value in at])
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.grid(color=LINES, linewidth=0.4, zorder=0.6)


def _degrees(value: float, ends: str) -> str:
    if ends == "EW":
        value = (value + 180) % 360 - 180
    return f"{abs(value):.4g}°{ends[0] if value > 0 else ends[1] if value < 0 else ''}"


@cache
def _land() -> list[np.ndarray]:
    """Rings of the land's outline, float64 [n, 2] of longitude and latitude, no two points far apart."""
    with files("geossl.viz").joinpath("land.npz").open("rb") as file, np.load(file) as read:
        rings = np.split(read["points"].astype(np.float64), read["starts"][1:-1])
    return [_dense(ring) for ring in rings]


def _dense(ring: np.ndarray, degrees: float = 2.0) -> np.ndarray:
    """The ring with points on its long edges: what is straight in degrees is bent on a map."""
    steps = np.maximum(1, np.ceil(np.abs(np.diff(ring, axis=0)).max(axis=1) / degrees)).astype(int)
    starts = np.concatenate([[0], np.cumsum(steps)])
    at = np.arange(starts[-1] + 1)
    return np.column_stack([np.interp(at, starts, ring[:, axis]) for axis in (0, 1)])


def _outline(rings: list[np.ndarray]) -> Outline:
    codes = [np.r_[Outline.MOVETO, np.full(len(ring) - 2, Outline.LINETO), Outline.CLOSEPOLY] for ring in rings]
    return Outline(np.concatenate(rings), np.concatenate(codes))


def _title(axes: Axes, text: str, without: int) -> None:
    note = f"; {without:,} without coordinates" if without else ""
    axes.set_title(text + note, fontsize=10, color=INK)


def _cells(projection: Projection, panels: int = 1) -> int:
    """Hexagons across a map: more on one that is drawn larger."""
    return 120 if panels == 1 else 60


def _hexagons(
    axes: Axes, projection: Projection, lat: np.ndarray, lon: np.ndarray, value: np.ndarray | None = None, *, label: str
) -> str:
    """Draw counts, or medians of values, with a scale of colours; returns the area of a hexagon in words."""
    shown, area = _hexbin(axes, projection, lat, lon, value, cells=120)
    counts = np.asarray(shown.get_array())
    low, high = float(counts.min()), float(counts.max())
    shown.set_norm(LogNorm(max(low, 1e-3), max(high, max(low, 1e-3) * 1.0001)))
    if high < 10 * low:
        from matplotlib.colors import Normalize

        shown.set_norm(Normalize(0, high))
    bar = axes.figure.colorbar(shown, ax=axes, fraction=0.025, pad=0.015, aspect=30, shrink=0.8)
    bar.set_label(label, fontsize=9, color=INK)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return _area_words(area)


def _hexbin(
    axes: Axes,
    projection: Projection,
    lat: np.ndarray,
    lon: np.ndarray,
    value: np.ndarray | None,
    *,
    cells: int,
    **look: Any,
) -> tuple[Any, float]:
    """Hexagons with points in them, and the area of one, square kilometres."""
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
        mincnt=None if value is not None else 1,
        cmap=SCALE,
        linewidths=0.1,
        edgecolors="face",
        zorder=2,
        **look,
    )
    axes.set(xlim=(left, right), ylim=(bottom, top))
    # A hexagon takes the room of half a cell of the grid.
    return shown, (right - left) / cells * (top - bottom) / rows / 2


def _area_words(area: float) -> str:
    digits = 3 if area < 1000 else 2
    return f"{float(f'{area:.{digits}g}'):,.6g} km²"


def _draw_classes(
    index: Index, projection: Projection, lat: np.ndarray, lon: np.ndarray, known: np.ndarray
) -> Figure:
    labels = np.where(known, index.labels, -1)
    count = np.bincount(labels[labels >= 0], minlength=len(index.categories))
    chosen = [label for label in np.argsort(-count, kind="stable")[:CLASSES].tolist() if count[label]]
    if not chosen:
        raise UsageError(f"{index.source or 'the index'}: no image has a category and coordinates")
    figure, panels = _figure(projection, len(chosen))
    drawn = []
    for axes, label in zip(panels, chosen, strict=True):
        mine = labels == label
        shown, area = _hexbin(axes, projection, lat[mine], lon[mine], None, cells=60)
        drawn.append(shown)
        axes.set_title(f"{index.categories[label]}: {count[label]:,} images", fontsize=10, color=INK)
    most = max(float(np.asarray(shown.get_array()).max()) for shown in drawn)
    for shown in drawn:
        shown.set_norm(LogNorm(1, max(most, 2)))
    bar = figure.colorbar(drawn[0], ax=panels, fraction=0.02, pad=0.01, aspect=40, shrink=0.7)
    bar.set_label(f"images in a hexagon of {_area_words(area)}", fontsize=9, color=INK)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    of = "" if len(chosen) == len(index.categories) else f"the {len(chosen)} most frequent of {len(index.categories)} classes"
    if of:
        figure.suptitle(of, fontsize=10, color=INK)
    return figure


def _points(axes: Axes, projection: Projection, lat: np.ndarray, lon: np.ndarray, colours: np.ndarray) -> PathCollection:
    """Points in a random order, so that none of a colour lies on top of all others."""
    order = np.random.default_rng(0).permutation(len(lat))
    x, y = projection(lat[order], lon[order])
    size = float(np.clip(12_000 / max(len(lat), 1), 1.0, 22))
    return axes.scatter(x, y, s=size, c=list(colours[order]), linewidths=0, zorder=2)


def _draw_clusters(axes: Axes, projection: Projection, index: Index, clusters: Clusters) -> None:
    lat, lon, _ = place_coordinates(index)
    first = np.unique(index.places, return_index=True)[1]
    label = clusters.labels(index)[first]
    known = np.isfinite(lat)
    colours = np.array([*cluster_colours(clusters.centroids), NO_SPLIT], np.object_)
    _points(axes, projection, lat[known], lon[known], colours[label[known]])
    x, y = projection(clusters.centroids[:, 0], clusters.centroids[:, 1])
    axes.scatter(x, y, s=26, c="white", linewidths=0, marker="P", zorder=3)
    axes.scatter(x, y, s=12, c=INK, linewidths=0, marker="P", zorder=3.1)
    alone = int((label[known] < 0).sum())
    note = f", {alone:,} of them in none (grey)" if alone else ""
    _title(axes, f"{known.sum():,} places in {clusters.k} clusters{note}; crosses: their centroids", (~known).sum())


def cluster_colours(centroids: np.ndarray) -> list[str]:
    """A colour for each cluster, [K] of `COLOURS`: of each, the one whose nearest holder so far is farthest.

    So the seven nearest of the clusters before it have other colours. `centroids`: latitude and longitude in degrees,
    float64 [K, 2].
    """
    vectors = unit_vectors(centroids[:, 0], centroids[:, 1])
    closest = np.full((len(centroids), len(COLOURS)), -2.0)
    chosen = []
    for number, vector in enumerate(vectors):
        colour = int(np.argmin(closest[number]))
        chosen.append(COLOURS[colour])
        closest[:, colour] = np.maximum(closest[:, colour], vectors @ vector)
    return chosen


def _draw_splits(axes: Axes, projection: Projection, index: Index) -> None:
    lat, lon, _ = place_coordinates(index)
    first = np.unique(index.places, return_index=True)[1]
    known = np.isfinite(lat)
    split = np.array(index.table["split"].take(first).to_pylist(), np.object_)
    present = [*SPLIT_COLOURS, *sorted({name for name in split if name} - set(SPLIT_COLOURS))]
    if not any((split == name).any() for name in present):
        raise UsageError(f"{index.source or 'the index'}: no image has a split; see geossl data split")
    colour = dict(zip(present, [*SPLIT_COLOURS.values(), *COLOURS], strict=False))
    colours = np.array([colour.get(name, NO_SPLIT) for name in split], np.object_)
    _points(axes, projection, lat[known], lon[known], colours[known])
    shown: list[Any] = [(name, colour[name], split == name) for name in present]
    shown.append(("none", NO_SPLIT, split == None))  # noqa: E711
    handles = [
        axes.scatter([], [], s=40, c=look, linewidths=0, label=f"{name} {(mine & known).sum():,}")
        for name, look, mine in shown
        if mine.any()
    ]
    axes.legend(handles=handles, loc="lower left", fontsize=9, frameon=False, labelcolor=INK)
    _title(axes, f"{known.sum():,} places by their split", (~known).sum())
