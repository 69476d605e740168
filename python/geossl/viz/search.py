"""What a search found, drawn: the images side by side, and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from geossl.embedding.image import image_index, picture
from geossl.errors import UsageError
from geossl.viz.globe import Projection, draw_land
from geossl.viz.summary import GRID, INK, PALETTE, save

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from geossl.embedding.file import EmbeddingFile
    from geossl.embedding.search import Found, Query

ACROSS = 7
"""Most images in a row."""
SIDE = 160
"""Of an image, pixels."""
WIDE, HIGH = 11.0, 7.5
"""Most inches that a map takes."""


def plot_sheet(
    out: Path, *, file: EmbeddingFile, query: Query, found: Found, image: Path | None = None, root: Path | None = None
) -> Path:
    """Write a PNG of the query and of what was found, the most similar first, to `out`, atomically; returns `out`.

    An image that cannot be read is a grey square with the reason. Raises GeosslError if the picture cannot be written.

    Args:
        out: where to.
        file: the file that was searched.
        query: what was looked for; the first of its tiles is shown.
        found: what was found.
        image: the query, where it is no tile of the file.
        root: folder that the file's paths start from, if the images have moved.

    """
    folder = file.root if root is None else root
    queries: list[dict[str, Any]] = file.take(query.positions[:1], found.table.column_names).to_pylist()
    panels = [(_shown(file, folder, tile), _caption("query", tile)) for tile in queries]
    if image is not None:
        panels = [(_read(file, image.parent, image.name, None), "query\n" + image.name)]
    for rank, (tile, similarity) in enumerate(zip(found.table.to_pylist(), found.similarity, strict=True), 1):
        panels.append((_shown(file, folder, tile), _caption(f"{rank}: {similarity:.4f}", tile)))
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(1.7 * across, 2.15 * down + 0.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"nearest to {query.title}", fontsize=9, color=INK)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for place in axes:
        place.set_axis_off()
    for number, (place, (shown, caption)) in enumerate(zip(axes, panels, strict=False)):
        draw_panel(place, shown, caption, framed=number == 0)
    save(figure, out)
    return out


def plot_map(out: Path, *, query: Query, found: Found) -> Path:
    """Write a PNG of where the tiles are to `out`, atomically, and return `out`; the query is a star.

    The map is of the globe, or of the region that has all of them; the most similar are darkest, and lie on top.
    Raises UsageError if none has coordinates, GeosslError if the picture cannot be written.
    """
    lat, lon = (found.table[name].to_numpy().astype(np.float64) for name in ("lat", "lon"))
    known = np.isfinite(lat) & np.isfinite(lon)
    if not known.any():
        raise UsageError("--map: none of the tiles that were found has coordinates")
    placed = np.isfinite(query.lat) and np.isfinite(query.lon)
    ends = [np.append(axis[known], [own] if placed else []) for axis, own in ((lat, query.lat), (lon, query.lon))]
    projection = Projection.of(*ends)
    left, right, bottom, top = projection.extent
    scale = min(WIDE / (right - left), HIGH / (top - bottom))
    figure = Figure(figsize=(scale * (right - left) + 1.2, scale * (top - bottom) + 0.4), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw_land(axes, projection)
    x, y = projection(lat[known][::-1], lon[known][::-1])
    points = axes.scatter(x, y, s=34, c=found.similarity[known][::-1], cmap="viridis_r", zorder=3, edgecolors="white")
    points.set_linewidth(0.5)
    if placed:
        at = projection(np.array([query.lat]), np.array([query.lon]))
        axes.scatter(*at, s=160, c=PALETTE[3], marker="*", edgecolors="white", linewidths=0.8, zorder=4)
    bar = figure.colorbar(points, ax=axes, fraction=0.025, pad=0.012, aspect=32, shrink=0.75)
    bar.set_label("cosine similarity", fontsize=9, color=INK)
    bar.ax.yaxis.set_major_formatter("{x:.6g}")
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    missing = f"; {(~known).sum()} without coordinates" if (~known).any() else ""
    star = " (star)" if placed else ""
    axes.set_title(f"{known.sum()} tiles nearest to {query.title}{star}{missing}", fontsize=10, color=INK)
    save(figure, out)
    return out


def _shown(file: EmbeddingFile, root: Path, tile: dict[str, Any]) -> np.ndarray | str:
    return _read(file, root, tile["path"], [tile[f"box_{side}"] for side in "xywh"])


def _read(file: EmbeddingFile, root: Path, path: str, box: list[int | None] | None) -> np.ndarray | str:
    """The pixels, uint8 [h, w, 3], or why there are none."""
    try:
        index = image_index(root, path, box=box, tile=file.about["images"]["boxes"] == "tiles")
        return picture(index, size=SIDE, context=file.about["model"]["context"])
    except UsageError as e:
        return str(e)


def _caption(head: str, tile: dict[str, Any]) -> str:
    date = "" if tile["timestamp"] is None else f"{tile['timestamp']:%Y-%m-%d}"
    where = "" if tile["lat"] is None else f"{tile['lat']:.2f}, {tile['lon']:.2f}"
    return "\n".join([head, tile["category"] or "", " ".join(part for part in (date, where) if part)])


def draw_panel(axes: Axes, shown: np.ndarray | str, caption: str, *, framed: bool) -> None:
    """Show an image, uint8 [h, w, 3], or the reason why there is none, above its caption."""
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    if isinstance(shown, str):
        axes.imshow(np.full((SIDE, SIDE, 3), 200, np.uint8))
        # The end of the message: it begins with the path.
        axes.text(SIDE / 2, SIDE / 2, shown[-60:], fontsize=5, color=INK, ha="center", va="center", wrap=True)
    else:
        axes.imshow(shown, interpolation="nearest")
    for side in axes.spines.values():
        side.set(color=PALETTE[3] if framed else GRID, linewidth=2.5 if framed else 0.8)
    axes.set_xlabel(caption, fontsize=7, color=INK)
