"""Coordinates that people write down, and what is wrong with them.

The same rules as the core's for sidecars and photos: what cannot be a place on Earth becomes null, with its reason.
Swapped coordinates are named and not swapped back: where one row has them, others may have them unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

NULL_ISLAND = 1e-6
"""Degrees around 0, 0 that count as it."""
NEAR = 1.0
"""Degrees that the dates of a place may be apart."""
FEWEST = 3
"""Rows of a place from which the others tell which of them is swapped."""
HINT = 0.2
"""Share of rows with swapped coordinates from which the columns are likely to be swapped."""


def checked(
    lat: np.ndarray,
    lon: np.ndarray,
    *,
    places: np.ndarray | None,
    null: Callable[[np.ndarray, Callable[[int], str]], None],
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The coordinates, both NaN where they are no place, longitudes in -180 to 180; and the notes on them.

    Args:
        lat: degrees, float64 [N]; NaN where none is given.
        lon: likewise. 180 to 360 are taken as west of Greenwich.
        places: code of each row's place, int64 [N], -1 for none: its other dates tell which is swapped.
        null: is told which rows become null, and why.

    """

    def bad(chosen: np.ndarray, what: str) -> np.ndarray:
        null(chosen, lambda i: f"{what}: {lat[i]:.9g}, {lon[i]:.9g}")
        return chosen

    missing = np.isnan(lat) | np.isnan(lon)
    out = missing | bad(missing & ~(np.isnan(lat) & np.isnan(lon)), "a coordinate without the other")
    in_lat, in_lon = (np.abs(lat) <= 90), (lon >= -180) & (lon <= 360)
    swapped = ~missing & ~in_lat & (np.abs(lon) <= 90) & (lat >= -180) & (lat <= 360)
    out |= bad(swapped, "swapped latitude and longitude")
    out |= bad(~out & ~in_lat, "latitude out of range")
    out |= bad(~out & ~in_lon, "longitude out of range")
    east = np.where(lon >= 180, lon - 360, lon)
    out |= bad(
        ~out & (np.abs(lat) <= NULL_ISLAND) & (np.abs(east) <= NULL_ISLAND), "null island, which stands for no place"
    )
    if places is not None:
        by_others = _swapped_by_others(lat, east, np.where(out, -1, places))
        out |= bad(by_others, "swapped latitude and longitude, by the other dates of its place")
        swapped |= by_others
    notes = []
    if swapped.sum() > HINT * (~missing).sum():
        notes.append(
            "many rows have latitude and longitude swapped; if all have, --map lat=lon,lon=lat sets them right"
        )
    return np.where(out, np.nan, lat), np.where(out, np.nan, east), notes


def _swapped_by_others(lat: np.ndarray, lon: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows that lie away from their place's median, and at it once swapped."""
    rows = np.flatnonzero(places >= 0)
    out = np.zeros(len(lat), bool)
    _, of, count = np.unique(places[rows], return_inverse=True, return_counts=True)
    start = np.cumsum(count) - count

    def median(values: np.ndarray) -> np.ndarray:
        ordered = values[np.lexsort((values, of))]
        middle: np.ndarray = ordered[start + (count - 1) // 2]
        return middle[of]

    y, x = lat[rows], lon[rows]
    at_y, at_x = median(y), median(x)
    away = (np.abs(y - at_y) > NEAR) | (np.abs(x - at_x) > NEAR)
    home = (np.abs(x - at_y) <= NEAR) & (np.abs(y - at_x) <= NEAR)
    out[rows] = away & home & (count[of] >= FEWEST)
    return out
