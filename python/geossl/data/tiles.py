"""Large scenes as tiles of a ground grid, the same on every date of a place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl.data.footprints import CORNERS, apply, to_degrees, transform_points
from geossl.data.table import SCHEMA, transforms

MIN_BOX = 2
"""Boxes of this many pixels a side or less are no tiles."""


@dataclass(frozen=True)
class _Grid:
    """A place's grid: squares of `side` pixels of its founder's image, counted from that image's corner."""

    matrix: np.ndarray
    crs: str
    side: int


def tile_table(table: pa.Table, founders: np.ndarray, *, side: int) -> pa.Table:
    """One row a tile that lies wholly in its image, by image and then by row and column of the grid.

    The grid of a place is its founder's: squares of `side` of its pixels, counted from its upper left corner, also
    beyond its edges. A tile's box in another date's image is the nearest in whole pixels, of the size that the tile
    has in them. location_id becomes place/row_column, lat and lon the tile's centre.

    Args:
        table: images, with location_id, transform and crs.
        founders: int64 [N], the row whose image founds each row's place; -1 for an image without tiles.
        side: pixels of the founder.

    """
    matrices, names = transforms(table), table["crs"].to_pylist()
    sizes = np.stack([table["width"].to_numpy(), table["height"].to_numpy()], axis=1)
    rows, numbers, boxes, centres = [], [], [], []
    for row in np.flatnonzero(founders >= 0).tolist():
        founder = founders[row]
        grid = _Grid(matrices[founder], names[founder], side)
        number, box = _tiles(grid, matrices[row], names[row], sizes[row])
        rows.append(np.full(len(box), row))
        numbers.append(number)
        boxes.append(box)
        centres.append(apply(grid.matrix, (number[:, ::-1] + 0.5) * side))
    of_row, number, box = np.concatenate(rows), np.concatenate(numbers), np.concatenate(boxes)
    out = table.take(pa.array(of_row))
    crs = table["crs"].take(pa.array(founders[of_row]))
    degrees = to_degrees(crs, np.concatenate(centres)[:, None])[:, 0]
    missing = np.isnan(degrees[:, 0])
    suffix = [f"/{i}_{j}" for i, j in number.tolist()]
    new = {
        "location_id": pc.binary_join_element_wise(out["location_id"], pa.array(suffix, pa.string()), ""),
        "lat": pa.array(degrees[:, 1], mask=missing),
        "lon": pa.array(degrees[:, 0], mask=missing),
    }
    new |= {f"box_{name}": pa.array(box[:, i], pa.int32()) for i, name in enumerate("xywh")}
    return pa.table([new.get(name, out[name]) for name in SCHEMA.names], schema=SCHEMA)


def _tiles(grid: _Grid, matrix: np.ndarray, crs: str, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, column) int64 [M, 2] and boxes int64 [M, 4] of the tiles wholly within an image."""
    nothing = np.zeros((0, 2), np.int64), np.zeros((0, 4), np.int64)
    reach = _pixels(matrix, crs, CORNERS * size, grid.matrix, grid.crs) / grid.side
    if not np.isfinite(reach).all():
        return nothing
    (left, top), (right, bottom) = np.floor(reach.min(axis=0)).astype(int), np.ceil(reach.max(axis=0)).astype(int)
    row, column = (v.ravel() for v in np.mgrid[top:bottom, left:right])
    corners = np.stack([row, column], axis=1)[:, None, ::-1] + CORNERS
    inside = _pixels(grid.matrix, grid.crs, corners.reshape(-1, 2) * grid.side, matrix, crs).reshape(-1, 4, 2)
    # Grids that are turned against each other, as those of two UTM zones: the mean of the edges on either side.
    inside = np.sort(np.where(np.isfinite(inside), inside, -1e9), axis=1)
    low, high = inside[:, :2].mean(axis=1), inside[:, 2:].mean(axis=1)
    start, extent = np.floor(low + 0.5).astype(np.int64), np.floor(high - low + 0.5).astype(np.int64)
    kept = (extent > MIN_BOX).all(axis=1) & (start >= 0).all(axis=1) & (start + extent <= size).all(axis=1)
    return np.stack([row, column], axis=1)[kept], np.concatenate([start, extent], axis=1)[kept]


def _pixels(source: np.ndarray, crs: str, pixels: np.ndarray, target: np.ndarray, target_crs: str) -> np.ndarray:
    """Pixels [M, 2] of one image in those of another, by their geotransforms."""
    a, b, c, d, e, f = target
    if crs == target_crs:
        # The difference of the origins first: it is small, and they are millions of metres.
        linear = np.array([source[0], source[1], source[2] - c, source[3], source[4], source[5] - f])
        offset = apply(linear, pixels)
    else:
        offset = transform_points(crs, target_crs, apply(source, pixels)[None])[0] - (c, f)
    x, y = np.moveaxis(offset, -1, 0)
    scale = a * e - b * d
    return np.stack([(e * x - b * y) / scale, (a * y - d * x) / scale], axis=-1)
