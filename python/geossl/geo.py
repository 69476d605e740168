"""Great-circle distances and neighbours on the globe.

Coordinates are degrees; the Earth is the sphere of radius 6371.0088 km, its mean radius. Longitudes are taken modulo
360, so nothing special happens at the antimeridian, nor at the poles. Every result is that of comparing all pairs by
the haversine formula, whatever the number of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from geossl import _core
from geossl._core import MiniBatchKMeans
from geossl.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["EARTH_RADIUS_KM", "MiniBatchKMeans", "Nearest", "Within", "distance_km", "link", "nearest", "within"]

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG's R1), the radius of the sphere."""


class Nearest(NamedTuple):
    """The k points nearest to each of m queries, by distance; of equal distances the lower row comes first."""

    rows: NDArray[np.int64]
    """int64 [m, k]: rows of the points in the columns given."""
    km: NDArray[np.float64]
    """float64 [m, k]: their great-circle distances, kilometres."""


class Within(NamedTuple):
    """The points within a radius of each of m queries, by distance; of equal distances the lower row comes first.

    Those of query i are `rows[offsets[i]:offsets[i + 1]]`.
    """

    offsets: NDArray[np.int64]
    """int64 [m + 1]: where the neighbours of each query start, and where the last ones end."""
    rows: NDArray[np.int64]
    """int64 [pairs]: rows of the points in the columns given."""
    km: NDArray[np.float64]
    """float64 [pairs]: their great-circle distances, kilometres."""


def distance_km(lat_a: ArrayLike, lon_a: ArrayLike, lat_b: ArrayLike, lon_b: ArrayLike) -> NDArray[np.float64]:
    """Great-circle distances of points, by the haversine formula.

    The relative error stays near 1e-15, for points a millimetre apart as for antipodes.

    Args:
        lat_a: Latitudes, degrees, of any shape; the four arguments are broadcast against each other.
        lon_a: Longitudes, degrees.
        lat_b: Latitudes of the other points.
        lon_b: Longitudes of the other points.

    Returns:
        float64 of the common shape: kilometres.

    Raises:
        UsageError: If a latitude is beyond 90 degrees, a coordinate is not finite, or the shapes do not fit together.
    """
    try:
        columns = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (lat_a, lon_a, lat_b, lon_b)))
        km = _core.distance_km(*(np.ascontiguousarray(column).ravel() for column in columns))
    except ValueError as e:
        raise UsageError(str(e)) from e
    return km.reshape(columns[0].shape)


def nearest(
    lat: ArrayLike,
    lon: ArrayLike,
    query_lat: ArrayLike | None = None,
    query_lon: ArrayLike | None = None,
    *,
    k: int,
    threads: int = 0,
) -> Nearest:
    """The k points nearest to each query.

    Args:
        lat: Latitudes of the n points, degrees [n].
        lon: Longitudes of the points [n].
        query_lat: Latitudes of the m queries [m]; without them the points are the queries, and each has itself, or
            another point at its place, as its first neighbour.
        query_lon: Longitudes of the queries [m].
        k: Neighbours of each query, from 1 to n.
        threads: Threads; 0 is all cores. The result does not depend on it.

    Raises:
        UsageError: If `k` is out of its range, a latitude is beyond 90 degrees, a coordinate is not finite (NaN are to
            be left out before), or the columns do not fit together.
    """
    points, queries = _points_and_queries(lat, lon, query_lat, query_lon)
    if k < 1:
        raise UsageError(f"k = {k}: it must be from 1 to the number of points, {len(points[0])}")
    try:
        return Nearest(*_core.nearest(*points, *queries, k=k, threads=threads))
    except ValueError as e:
        raise UsageError(str(e)) from e


def within(
    lat: ArrayLike,
    lon: ArrayLike,
    query_lat: ArrayLike | None = None,
    query_lon: ArrayLike | None = None,
    *,
    radius_km: float,
    threads: int = 0,
) -> Within:
    """All points at most a radius from each query.

    Args:
        lat: Latitudes of the n points, degrees [n].
        lon: Longitudes of the points [n].
        query_lat: Latitudes of the m queries [m]; without them the points are the queries, and each is among its own
            neighbours.
        query_lon: Longitudes of the queries [m].
        radius_km: The radius, kilometres, itself included; 0 finds the points at the query's place.
        threads: Threads; 0 is all cores. The result does not depend on it.

    Raises:
        UsageError: If the radius is negative, a latitude is beyond 90 degrees, a coordinate is not finite (NaN are to
            be left out before), or the columns do not fit together.
    """
    points, queries = _points_and_queries(lat, lon, query_lat, query_lon)
    try:
        return Within(*_core.within(*points, *queries, radius_km=radius_km, threads=threads))
    except ValueError as e:
        raise UsageError(str(e)) from e


def link(lat: ArrayLike, lon: ArrayLike, *, radius_km: float, threads: int = 0) -> NDArray[np.int64]:
    """Group points that chains of short steps join (single link).

    Two points at most `radius_km` apart are in one group, and so are all that a chain of such points joins; a group may
    thus be much wider than the radius.

    Args:
        lat: Latitudes of the n points, degrees [n].
        lon: Longitudes of the points [n].
        radius_km: Longest step, kilometres, itself included; 0 groups the points of equal coordinates.
        threads: Threads; 0 is all cores. The result does not depend on it.

    Returns:
        int64 [n]: the group of each point; groups are numbered from 0 by their first point.

    Raises:
        UsageError: If the radius is negative, a latitude is beyond 90 degrees, a coordinate is not finite (NaN are to
            be left out before), or the columns differ in length.
    """
    try:
        return _core.link_places(_column(lat), _column(lon), radius_km=radius_km, threads=threads)
    except ValueError as e:
        raise UsageError(str(e)) from e


_Columns = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


def _points_and_queries(
    lat: ArrayLike, lon: ArrayLike, query_lat: ArrayLike | None, query_lon: ArrayLike | None
) -> tuple[_Columns, _Columns]:
    points = _column(lat), _column(lon)
    if query_lat is None and query_lon is None:
        return points, points
    if query_lat is None or query_lon is None:
        raise UsageError("queries need both query_lat and query_lon")
    return points, (_column(query_lat), _column(query_lon))


def _column(values: ArrayLike) -> NDArray[np.float64]:
    column = np.ascontiguousarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise UsageError(f"a column of coordinates has one dimension, not {column.ndim}")
    return column
