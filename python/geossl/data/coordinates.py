"""Where the places of an index are, in degrees and as directions from the centre of the globe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

if TYPE_CHECKING:
    from geossl.data.index import Index


def unit_vectors(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """float64 [N, 3]: unit vectors of latitudes and longitudes in degrees; NaN where one is not finite."""
    with np.errstate(invalid="ignore"):
        lat, lon = np.radians(lat), np.radians(lon)
        return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def lat_lon(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude in degrees, float64 [N] each, of vectors [N, 3] of any length; NaN of NaN or no length."""
    x, y, z = vectors.astype(np.float64).T
    flat = np.hypot(x, y)
    somewhere = np.where((flat == 0) & (z == 0), np.nan, 1.0)
    return np.degrees(np.arctan2(z, flat)) * somewhere, np.degrees(np.arctan2(y, x)) * somewhere


def sum_by(codes: np.ndarray, vectors: np.ndarray, count: int) -> np.ndarray:
    """float64 [count, 3]: the sums of the vectors, float64 [N, 3], that share a code, int64 [N] below `count`."""
    return np.stack([np.bincount(codes, weights=axis, minlength=count) for axis in vectors.T], axis=1)


def place_coordinates(index: Index) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lat, lon, images) of each place, [P] each: where the mean of its images' unit vectors points, degrees.

    NaN where no image has coordinates; `images`, int64, counts those that have.
    """
    places = index.places
    count = int(places.max()) + 1 if len(places) else 0
    lat, lon = (index.table[name].to_numpy().astype(np.float64) for name in ("lat", "lon"))
    known = np.isfinite(lat) & np.isfinite(lon)
    sums = sum_by(places[known], unit_vectors(lat[known], lon[known]), count)
    return *lat_lon(sums), np.bincount(places[known], minlength=count)


def place_names(index: Index) -> list[str]:
    """Each place's location_id, in the order of `Index.places`; the path of its image where it has none."""
    first = np.unique(index.places, return_index=True)[1]
    named = pc.coalesce(index.table["location_id"].take(first), index.table["path"].take(first))
    names: list[str] = named.to_pylist()
    return names
