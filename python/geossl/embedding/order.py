"""The order of rows by where they are, so that what is near on the ground is near in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITS = 24
"""Of each axis: cells of two metres at the equator."""


def spatial_order(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows along the Hilbert curve, int64 [N]; those of one cell keep their order, and those without coordinates end.

    Args:
        lat: latitudes in degrees, float64 [N]; not finite where there is none.
        lon: longitudes in degrees, -180 to 180, likewise.

    """
    known = np.isfinite(lat) & np.isfinite(lon)
    rows = np.flatnonzero(known)
    along = hilbert(_cells(lon[rows], -180.0, 360.0), _cells(lat[rows], -90.0, 180.0), bits=BITS)
    return np.concatenate([rows[np.argsort(along, kind="stable")], np.flatnonzero(~known)]).astype(np.int64)


def hilbert(x: NDArray[np.int64], y: NDArray[np.int64], *, bits: int) -> NDArray[np.int64]:
    """How far along the Hilbert curve cells lie, int64 [N], 0 to 4^bits - 1.

    D. Hilbert, Ueber die stetige Abbildung einer Linie auf ein Flaechenstueck, 1891. The curve begins at (0, 0) and
    ends at (2^bits - 1, 0).

    Args:
        x: columns of the cells, int64 [N], 0 to 2^bits - 1.
        y: rows of the cells, likewise.
        bits: bits of each axis, at most 31.

    """
    x, y = x.copy(), y.copy()
    along = np.zeros(len(x), np.int64)
    for bit in range(bits - 1, -1, -1):
        right, up = (x >> bit) & 1, (y >> bit) & 1
        along = along << 2 | (3 * right) ^ up
        # What is below a quadrant: its cells, mirrored and turned so that the curve in it begins where the last ended.
        x, y = x & ((1 << bit) - 1), y & ((1 << bit) - 1)
        mirrored = (up == 0) & (right == 1)
        x, y = np.where(mirrored, (1 << bit) - 1 - x, x), np.where(mirrored, (1 << bit) - 1 - y, y)
        x, y = np.where(up == 0, y, x), np.where(up == 0, x, y)
    return along


def _cells(values: NDArray[np.float64], first: float, span: float) -> NDArray[np.int64]:
    cells = np.floor((values - first) / span * (1 << BITS)).astype(np.int64)
    return np.clip(cells, 0, (1 << BITS) - 1)
