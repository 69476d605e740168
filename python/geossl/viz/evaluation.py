"""Pictures of predictions: which classes are taken for which, and whether the confidences are right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from geossl.evaluate.calibration import reliability
from geossl.viz.summary import GRID, INK, PALETTE, save

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from geossl.evaluate.guesses import Guesses

CLASSES = 100
"""Most classes of a confusion matrix that are drawn: those with the most samples."""
NUMBERED = 12
"""Most classes whose counts are written into the matrix."""


def plot_confusion(out: Path, guesses: Guesses, *, classes: Sequence[str], title: str) -> Path:
    """Write a PNG of the confusion matrix to `out`, atomically, and return `out`. See `draw_confusion`.

    Raises GeosslError if the picture cannot be written.
    """
    save(draw_confusion(guesses, classes=classes, title=title), out)
    return out


def draw_confusion(guesses: Guesses, *, classes: Sequence[str], title: str) -> Figure:
    """The confusion matrix: a row a true class, in shares of its samples, a column a guess.

    Only classes that are true or guessed somewhere have a row, at most `CLASSES` of them.

    Args:
        guesses: what was guessed.
        classes: names of the classes.
        title: what the guesses are of.

    """
    count = np.bincount(guesses.labels, minlength=len(classes))
    seen = np.union1d(guesses.labels, guesses.guess)
    shown = np.sort(seen[np.argsort(-count[seen], kind="stable")][:CLASSES])
    matrix = confusion_matrix(guesses.labels, guesses.guess, labels=shown)
    # Of all samples of the class, those that were taken for classes beyond the shown ones among them.
    shares = matrix / np.maximum(count[shown], 1)[:, None]
    side = float(np.clip(0.16 * len(shown), 3.2, 13)) + 2.4
    figure = Figure(figsize=(side + 0.9, side), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(100 * shares, cmap="viridis", vmin=0, vmax=100, interpolation="nearest")
    names = [classes[code] for code in shown]
    size = 8 if len(shown) <= 40 else 6 if len(shown) <= 70 else 4.5
    axes.set_xticks(range(len(shown)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(shown)), names, fontsize=size)
    axes.tick_params(length=0, colors=INK)
    axes.set_xlabel("guessed", color=INK)
    axes.set_ylabel("true", color=INK)
    if len(shown) <= NUMBERED:
        for row, column in np.ndindex(matrix.shape):
            ink = INK if shares[row, column] > 0.6 else "white"
            axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", fontsize=7, color=ink)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label="% of the true class")
    bar.outline.set_visible(False)
    beyond = f", the {len(shown)} most frequent of {len(seen)} classes" if len(shown) < len(seen) else ""
    axes.set_title(f"{title}{beyond}", fontsize=10, color=INK)
    return figure


def plot_calibration(out: Path, guesses: Mapping[str, Guesses], *, title: str) -> Path:
    """Write a PNG of reliability diagrams to `out`, atomically, and return `out`. See `draw_calibration`.

    Raises GeosslError if the picture cannot be written.
    """
    save(draw_calibration(guesses, title=title), out)
    return out


def draw_calibration(guesses: Mapping[str, Guesses], *, title: str) -> Figure:
    """A reliability diagram for each set of guesses: accuracy by confidence, and how many guesses had it.

    Args:
        guesses: by what they are called.
        title: what they are of.

    """
    figure = Figure(figsize=(3.6 * len(guesses) + 0.4, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, color=INK)
    panels = figure.subplots(2, len(guesses), squeeze=False, sharex=True, height_ratios=(3, 1))
    for column, (name, each) in enumerate(guesses.items()):
        _draw_reliability(panels[0, column], panels[1, column], name, each)
    panels[0, 0].set_ylabel("accuracy, %", fontsize=9, color=INK)
    panels[1, 0].set_ylabel("guesses, %", fontsize=9, color=INK)
    return figure


def _draw_reliability(above: Axes, below: Axes, name: str, guesses: Guesses) -> None:
    found = reliability(guesses)
    bins = len(found.count)
    edges, width = 100 * np.arange(bins) / bins, 100 / bins
    above.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":")
    above.bar(edges, np.nan_to_num(100 * found.accuracy), width, align="edge", color=PALETTE[0], edgecolor="white")
    above.plot(100 * found.confidence, 100 * found.accuracy, "o", color=PALETTE[3], markersize=3.5)
    above.set(ylim=(0, 100))
    above.set_title(f"{name}: ECE {100 * found.ece:.1f} %", fontsize=10, color=INK)
    below.bar(edges, 100 * found.count / found.count.sum(), width, align="edge", color="#9aa0a6", edgecolor="white")
    below.set(xlim=(0, 100))
    below.set_xlabel("confidence, %", fontsize=9, color=INK)
    for axes in (above, below):
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8, colors=INK, length=0)
        for side in axes.spines.values():
            side.set_color(GRID)
