"""Where images lie on the globe: from their geotransforms and CRSs to degrees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geossl import _core
from geossl.data.table import transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

DEGREES = "EPSG:4326"
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
"""Corners of an image in turn, as shares of its width and height."""
EQUATOR_M, FLATTENING = 6_378_137.0, 1 / 298.257_223_563
"""WGS 84's ellipsoid."""
DISTORTION = 0.02
"""How far a pixel of a projection may differ from its size on the ground before the latter is taken as its size."""


class Footprints:
    """Footprints of images, NaN where an image has no geotransform, no CRS, or one that degrees cannot be had from."""

    corners: np.ndarray
    """float64 [N, 4, 2]: longitude and latitude of the corners in turn, degrees."""
    centre: np.ndarray
    """float64 [N, 2]: longitude and latitude, degrees."""
    gsd: np.ndarray
    """float64 [N]: side of a pixel, metres."""

    def __init__(self, table: pa.Table) -> None:
        matrix = transforms(table)
        size = np.stack([table["width"].to_numpy(), table["height"].to_numpy()], axis=1).astype(np.float64)
        points = [size * share for share in (*CORNERS, (0.5, 0.5))]
        # One pixel to the right and one down of the centre tell the size of a pixel.
        points += [points[4] + (1, 0), points[4] + (0, 1)]
        ground = np.stack([apply(matrix, pixels) for pixels in points], axis=1)
        degrees = to_degrees(table["crs"], ground)
        self.corners, self.centre = degrees[:, :4], degrees[:, 4]
        measured = _pixel_metres(*(degrees[:, i] for i in (4, 5, 6)))
        nominal = np.sqrt(np.abs(matrix[:, 0] * matrix[:, 4] - matrix[:, 1] * matrix[:, 3])) * _unit_metres(
            table["crs"]
        )
        # Projections for maps of the world, such as Mercator's, have pixels of another size than on the ground.
        with np.errstate(invalid="ignore", divide="ignore"):
            self.gsd = np.where(np.abs(nominal / measured - 1) < DISTORTION, nominal, measured)

    def founders(self, order: np.ndarray) -> np.ndarray:
        """The row that founds each row's place, int64 [N], -1 without footprint.

        In that order, a row joins the first place whose founder's footprint it overlaps by half (intersection over
        union), else it founds one.
        """
        found = _core.index_group_footprints(np.ascontiguousarray(self.corners[order].reshape(-1, 8)))
        out = np.full(len(order), -1, np.int64)
        out[order] = np.where(found >= 0, order[found], -1)
        return out


def apply(matrix: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Coordinates x and y, float64 [..., 2], of pixels [..., 2] (column, row) by geotransforms [..., 6]."""
    a, b, c, d, e, f = np.moveaxis(matrix, -1, 0)
    column, row = np.moveaxis(pixels, -1, 0)
    return np.stack([a * column + b * row + c, d * column + e * row + f], axis=-1)


def to_degrees(crs: pa.ChunkedArray, points: np.ndarray) -> np.ndarray:
    """Longitude and latitude of points [N, K, 2], row by row of the CRS `crs` [N]; NaN where there are none."""
    out = np.full(points.shape, np.nan)
    for name, rows in _rows_by_name(crs):
        chosen = rows[np.isfinite(points[rows]).all(axis=(1, 2))]
        if len(chosen):
            out[chosen] = transform_points(name, DEGREES, points[chosen])
    out[~np.isfinite(out).all(axis=-1)] = np.nan
    lon, lat = out[..., 0], out[..., 1]
    # A CRS of degrees gives them as they are: up to 360, or past the antimeridian; and half a pixel past the pole.
    lon = np.where(np.abs(lon) > 180, (lon + 180) % 360 - 180, lon)
    lat = np.where(np.abs(lat) <= 91, np.clip(lat, -90, 90), np.nan)
    lon = np.where(np.isnan(lat), np.nan, lon)
    return np.stack([lon, lat], axis=-1)


def transform_points(source: str, target: str, points: np.ndarray) -> np.ndarray:
    """Points [N, K, 2] of the CRS `source` in the CRS `target`; a row that cannot be brought there is infinite."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import CRSError
    from rasterio.warp import transform

    flat = points.reshape(-1, 2)
    try:
        x, y = transform(source, target, flat[:, 0].tolist(), flat[:, 1].tolist())
    except CRSError:
        return np.full(points.shape, np.inf)
    except CPLE_BaseError:
        # One point outside the projection ends the whole call.
        if len(points) == 1:
            return np.full(points.shape, np.inf)
        half = len(points) // 2
        return np.concatenate([transform_points(source, target, part) for part in (points[:half], points[half:])])
    return np.stack([x, y], axis=1).reshape(points.shape)


def _rows_by_name(crs: pa.ChunkedArray) -> list[tuple[str, np.ndarray]]:
    encoded = crs.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy()
    return [(name, np.flatnonzero(codes == code)) for code, name in enumerate(encoded.dictionary.to_pylist())]


def _unit_metres(crs: pa.ChunkedArray) -> np.ndarray:
    """Metres of each row's CRS's unit, NaN for degrees and the unknown."""
    return _by_name(crs, lambda found: found.linear_units_factor[1] if found.is_projected else np.nan)


def _by_name(crs: pa.ChunkedArray, value: Callable[[Any], float]) -> np.ndarray:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    out = np.full(len(crs), np.nan)
    for name, rows in _rows_by_name(crs):
        try:
            out[rows] = value(CRS.from_user_input(name))
        except CRSError:
            continue
    return out


def _pixel_metres(centre: np.ndarray, right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Side of the square of a pixel's area, metres, from degrees [N, 2] at its corner and one pixel to each side."""
    lat = np.radians(centre[:, 1])
    squared = FLATTENING * (2 - FLATTENING)  # eccentricity
    bend = 1 - squared * np.sin(lat) ** 2
    per_lon = np.radians(1) * EQUATOR_M * np.cos(lat) / np.sqrt(bend)
    per_lat = np.radians(1) * EQUATOR_M * (1 - squared) / bend**1.5

    def metres(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lon = (point[:, 0] - centre[:, 0] + 180) % 360 - 180
        return lon * per_lon, (point[:, 1] - centre[:, 1]) * per_lat

    (x1, y1), (x2, y2) = metres(right), metres(down)
    side: np.ndarray = np.sqrt(np.abs(x1 * y2 - x2 * y1))
    return side
