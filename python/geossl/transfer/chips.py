"""Square windows of large images, which a network sees one at a time: drawn for training, laid in rows for the rest."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geossl.data.index import Index

MOST_OVERLAP = 0.25
"""Share of a training chip's area that another one may share, the paper's."""
TRIES = 10
"""Draws for each chip that an image may have; a chip that overlaps others too much is drawn again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chips:
    """Windows of an index's images, by image."""

    image: NDArray[np.int64]
    """int64 [N]: each chip's row of the index, ascending."""
    window: NDArray[np.int64]
    """int64 [N, 4]: left, top, width and height in pixels of the image; width and height are equal."""
    size: int
    """Side of what the network sees, pixels: a window of an image that is smaller is enlarged to it."""

    def __len__(self) -> int:
        return len(self.image)

    def of(self, row: int) -> slice:
        """Which are those of an image, a row of the index."""
        first, last = np.searchsorted(self.image, [row, row + 1]).tolist()
        return slice(first, last)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Chips:
        """Some of them, in their order."""
        return Chips(image=self.image[chosen], window=self.window[chosen], size=self.size)

    def index(self, index: Index) -> Index:
        """An index with a row for each chip, whose box is its window: what the loader reads."""
        return index.parts(self.image, self.window)

    def scale(self, chip: int) -> float:
        """Pixels that the network sees for a pixel of the image."""
        return self.size / float(self.window[chip, 2])


def draw_chips(
    index: Index, rows: NDArray[np.int64], *, size: int, most: int, seed: int, overlap: float = MOST_OVERLAP
) -> Chips:
    """Windows of random position, at most `most` an image, no two of which share more than a part of their area.

    Source: the paper's rule for xView (random 416 x 416 chips, up to 100 an image, under 25 % overlap). What is drawn
    for an image depends on its path, its size and the seed. A window of an image that is smaller than `size` is the
    largest square in it.

    Args:
        index: images, a row each.
        rows: int64, which of them.
        size: side of a window, pixels.
        most: windows an image.
        seed: of the draw.
        overlap: share of a window's area that another may share; 1 draws each by itself.

    """
    widths, heights = (index.column(name).to_numpy() for name in ("width", "height"))
    paths = index.column("path")
    images, windows = [], []
    for row in rows.tolist():
        width, height = int(widths[row]), int(heights[row])
        side = min(size, width, height)
        rng = np.random.default_rng([seed, zlib.crc32(paths[row].as_py().encode())])
        drawn = np.stack(
            [rng.integers(0, width - side + 1, most * TRIES), rng.integers(0, height - side + 1, most * TRIES)], 1
        )
        kept: list[NDArray[np.int64]] = []
        for corner in drawn:
            apart = np.abs(np.array(kept).reshape(-1, 2) - corner)
            shared = (side - apart).clip(0).prod(1)
            if (shared < overlap * side * side).all():
                kept.append(corner)
                if len(kept) == most:
                    break
        images += [row] * len(kept)
        windows += [[x, y, side, side] for x, y in np.array(kept).tolist()]
    return Chips(image=np.array(images, np.int64), window=np.array(windows, np.int64).reshape(-1, 4), size=size)


def lay_chips(index: Index, rows: NDArray[np.int64], *, size: int, overlap: int) -> Chips:
    """Windows in rows and columns that cover the images, neighbours sharing at least `overlap` pixels.

    Args:
        index: images, a row each.
        rows: int64, which of them, ascending.
        size: side of a window, pixels; less in an image that is smaller.
        overlap: pixels, less than `size`.

    """
    widths, heights = (index.column(name).to_numpy() for name in ("width", "height"))
    images, windows = [], []
    for row in rows.tolist():
        width, height = int(widths[row]), int(heights[row])
        side = min(size, width, height)
        for y in starts(height, side=side, overlap=overlap):
            for x in starts(width, side=side, overlap=overlap):
                images.append(row)
                windows.append([x, y, side, side])
    return Chips(image=np.array(images, np.int64), window=np.array(windows, np.int64).reshape(-1, 4), size=size)


def starts(length: int, *, side: int, overlap: int) -> list[int]:
    """Where windows of a side begin that cover a length, evenly spaced, sharing at least `overlap` pixels."""
    if length <= side:
        return [0]
    count = -(-(length - overlap) // max(side - overlap, 1))
    return [round(i * (length - side) / (count - 1)) for i in range(count)] if count > 1 else [0]


def zones(chips: Chips, index: Index) -> NDArray[np.float64]:
    """The part of its image that each laid chip answers for, float64 [N, 4]: left, top, right, bottom in pixels.

    The zones of an image's chips do not overlap and cover it: they meet in the middle of what two chips share.
    """
    out = np.empty((len(chips), 4))
    widths, heights = (index.column(name).to_numpy() for name in ("width", "height"))
    for row in np.unique(chips.image).tolist():
        own = chips.of(row)
        for axis, length in ((0, int(widths[row])), (1, int(heights[row]))):
            begins = chips.window[own, axis]
            side = int(chips.window[own.start, 2])
            first = np.unique(begins)
            edges = np.concatenate([[0], (first[1:] + first[:-1] + side) / 2, [length]])
            at = np.searchsorted(first, begins)
            out[own, axis], out[own, axis + 2] = edges[at], edges[at + 1]
    return out
