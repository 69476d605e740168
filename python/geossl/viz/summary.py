"""One picture of a finished run: its places, its loss, a temporal pair, and how the probe went."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from geossl.errors import GeosslError, UsageError
from geossl.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from numpy.typing import NDArray

    from geossl.data.clusters import Clusters
    from geossl.data.index import Index

# Okabe and Ito's palette, which the common forms of colour blindness keep apart (black and yellow left out).
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PARTS = {"infonce": "InfoNCE", "geo": "geo-location"}
INK, GRID = "#333333", "#d8d8d8"


def plot_summary(
    out: Path,
    *,
    index: Index,
    clusters: Clusters,
    run: Path,
    results: list[tuple[str, dict[str, float]]],
) -> Path:
    """Write a PNG of four panels to `out`, atomically, and return `out`.

    The places coloured by cluster; the loss by step, from `run`/metrics.jsonl; two dates of one place; and
    the `results`: (name, {metric: share 0..1}) of each encoder, a group of bars for each metric. Raises
    UsageError if the run has no metrics or a line of them is not JSON, GeosslError if an image cannot be
    read or the picture cannot be written.
    """
    figure = Figure(figsize=(12, 7.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 0.86), width_ratios=(1.45, 1))
    _draw_map(figure.add_subplot(grid[0, 0]), index, clusters)
    _draw_loss(figure.add_subplot(grid[0, 1]), _read_losses(run / "metrics.jsonl"))
    _draw_pair(figure.add_subfigure(grid[1, 0]), index)
    _draw_results(figure.add_subplot(grid[1, 1]), results)
    save(figure, out)
    return out


def save(figure: Figure, out: Path) -> None:
    """Write a PNG, whole or not at all. Raises GeosslError if it cannot be written."""
    try:
        with replacing(out) as file:
            figure.savefig(file, format="png")
    except OSError as e:
        raise GeosslError(f"{out}: cannot write the picture: {e}") from e


def _read_losses(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as e:
        raise UsageError(f"{path}: cannot read the run's metrics: {e}") from e
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as e:
            raise UsageError(f"{path}, line {number}: not JSON: {e}") from e
        if isinstance(record, dict) and "loss" in record and "step" in record:
            records.append(record)
    return records


def _draw_map(axes: Axes, index: Index, clusters: Clusters) -> None:
    first = np.unique(index.places, return_index=True)[1]  # one row a place
    lat = index.table["lat"].to_numpy(zero_copy_only=False).astype(float)[first]
    lon = index.table["lon"].to_numpy(zero_copy_only=False).astype(float)[first]
    labels = clusters.labels(index)[first]
    known = np.isfinite(lat) & np.isfinite(lon)
    size = float(np.clip(4000 / max(known.sum(), 1), 3, 26))
    axes.scatter(lon[known & (labels < 0)], lat[known & (labels < 0)], s=size, c="#999999", linewidths=0)
    # Colour and marker together tell apart 42 clusters; beyond that, neighbours still mostly differ.
    for look in range(len(PALETTE) * len(MARKERS)):
        mine = known & (labels >= 0) & (labels % (len(PALETTE) * len(MARKERS)) == look)
        color, marker = PALETTE[look % len(PALETTE)], MARKERS[look // len(PALETTE)]
        axes.scatter(lon[mine], lat[mine], s=size, c=color, marker=marker, linewidths=0)
    axes.set(xlim=(-180, 180), ylim=(-90, 90), aspect="equal")
    axes.set(xticks=range(-120, 121, 60), yticks=range(-60, 61, 30))
    axes.xaxis.set_major_formatter(lambda x, _: _degrees(x, "EW", 0))
    axes.yaxis.set_major_formatter(lambda y, _: _degrees(y, "NS", 0))
    axes.grid(color=GRID, linewidth=0.6)
    found = len(np.unique(labels[labels >= 0]))
    _style(axes, f"{known.sum():,} places in {found} geographic clusters")


def _degrees(value: float, ends: str, digits: int) -> str:
    return f"{abs(value):.{digits}f}°{ends[0] if value > 0 else ends[1] if value < 0 else ''}"


def _draw_loss(axes: Axes, records: list[dict[str, Any]]) -> None:
    step = np.array([record["step"] for record in records], dtype=float)
    parts = {key: name for key, name in PARTS.items() if any(key in record for record in records)}
    if len(parts) == 1:  # a single part is the loss itself
        parts = {}
    colors = (INK, *PALETTE)
    for color, (key, name) in zip(colors, {"loss": "loss", **parts}.items(), strict=False):
        value = np.array([record.get(key, np.nan) for record in records], dtype=float)
        if len(value) >= 40:
            axes.plot(step, value, color=color, linewidth=0.6, alpha=0.25)
        axes.plot(step, _smooth(value), color=color, linewidth=1.8, label=name)
    if records:
        axes.legend(frameon=False, fontsize=9)
        axes.set_ylim(bottom=0)
    else:
        axes.text(0.5, 0.5, "no step was logged", ha="center", va="center", transform=axes.transAxes)
    axes.set_xlabel("step", fontsize=9, color=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    _style(axes, "Training loss")


def _smooth(value: NDArray[Any]) -> NDArray[Any]:
    """Centred running mean over a fortieth of the curve; narrower at the ends, so that nothing is made up."""
    reach = len(value) // 80
    spans = [value[max(0, i - reach) : i + reach + 1] for i in range(len(value))]
    return np.array([span.mean() for span in spans])


def _draw_pair(figure: SubFigure, index: Index) -> None:
    figure.suptitle("One temporal pair: the same place on two dates", fontsize=11, color=INK)
    rows = _find_pair(index)
    if rows is None:
        figure.text(0.5, 0.5, "no place has two dates", ha="center", va="center")
        return
    for ax, row in zip(figure.subplots(1, 2), rows, strict=True):
        record = index.table.slice(row, 1).to_pylist()[0]
        ax.set_axis_off()
        ax.imshow(_read_rgb(index.root / record["path"]), interpolation="nearest")
        date = record["timestamp"]
        ax.set_title(f"{date:%Y-%m-%d}" if date else "date unknown", fontsize=10, color=INK)
    where = ""
    if record["lat"] is not None and record["lon"] is not None:
        where = f"{_degrees(record['lat'], 'NS', 2)} {_degrees(record['lon'], 'EW', 2)}"
    note = ", ".join(part for part in (record["category"], where) if part)
    figure.supxlabel(note, fontsize=9, color=INK)


def _find_pair(index: Index) -> tuple[int, int] | None:
    """Two rows of one place, the earlier first: of the clear ones, those whose seasons differ most."""
    order = np.argsort(index.places, kind="stable")
    pairs = order[np.flatnonzero(np.diff(index.places[order]) == 0)[:, None] + [0, 1]]
    if not len(pairs):
        return None
    seconds = index.table["timestamp"].cast("int64").to_numpy(zero_copy_only=False).astype(float) / 1e6
    cloud = np.nan_to_num(index.table["cloud_cover"].to_numpy(zero_copy_only=False).astype(float))
    year = 365.2425 * 86_400
    apart = np.abs(np.sin(np.pi * np.diff(seconds[pairs], axis=1)[:, 0] / year))  # 1: half a year, mod a year
    best = pairs[np.argmax(np.nan_to_num(apart) - cloud[pairs].max(axis=1) / 10)]
    first, second = sorted((int(row) for row in best), key=lambda row: seconds[row])
    return first, second


def _read_rgb(path: Path) -> NDArray[np.uint8]:
    """An image as uint8 [h, w, 3]; a GeoTIFF's first three bands, stretched from 2 % to 98 %."""
    try:
        if path.suffix.lower() not in {".tif", ".tiff"}:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # where it lies does not matter here
            with rasterio.open(path) as source:
                bands = source.read([1, 2, 3] if source.count >= 3 else [1, 1, 1]).astype(np.float32)
    except (OSError, ValueError) as e:  # rasterio's errors are OSErrors
        raise GeosslError(f"{path}: cannot read the image for the picture: {e}") from e
    low, high = np.percentile(bands, (2, 98))
    scaled = ((bands - low) / max(float(high - low), 1e-6)).clip(0, 1)
    return np.asarray((255 * scaled + 0.5).astype(np.uint8).transpose(1, 2, 0))


def _draw_results(axes: Axes, results: list[tuple[str, dict[str, float]]]) -> None:
    metrics = list(dict.fromkeys(metric for _, values in results for metric in values))
    width = 0.8 / max(len(results), 1)
    for i, (name, values) in enumerate(results):
        at = np.arange(len(metrics)) + (i - (len(results) - 1) / 2) * width
        height = [100 * values.get(metric, np.nan) for metric in metrics]
        bars = axes.bar(at, height, 0.92 * width, color=PALETTE[i % len(PALETTE)], label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=8, color=INK, padding=2)
    axes.set_xticks(range(len(metrics)), metrics)
    axes.set(ylim=(0, 112), yticks=range(0, 101, 20))
    axes.yaxis.set_major_formatter("{x:.0f} %")
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    if results:
        axes.legend(frameon=False, fontsize=9, loc="upper left", ncols=2)
    _style(axes, "Probe of the frozen encoder")


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11, color=INK)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=INK, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
