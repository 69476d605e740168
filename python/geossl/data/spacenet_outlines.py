"""SpaceNet's GeoJSON files of building footprints, as polygons in the pixels of their image."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry import shape

from geossl.data.footprints import DEGREES, transform_points
from geossl.errors import GeosslError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LEAST_AREA = 0.1
"""Square pixels of the smallest piece that is kept."""
MUCH = 1.0
"""Square pixels from which on it is told that a piece was cut off: less is what roundings do."""
LON_LAT = {"urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:OGC::CRS84", "OGC:CRS84", "EPSG:4326"}
"""Names of longitude and latitude on WGS 84, in this order, which GeoJSON has where it names nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlines:
    """The buildings of one image, and what was wrong with them."""

    polygons: NDArray[Any]
    """Valid shapely polygons inside the image, in its pixels, object [N]."""
    left_out: list[str] = field(default_factory=list)
    """What gave no polygon, as "what: why"."""
    mended: list[str] = field(default_factory=list)
    """What gave another polygon than was written, as "what: why"."""


def read_outlines(file: Path, *, transform: Sequence[float], crs: str, size: tuple[int, int]) -> Outlines:
    """The buildings of a GeoJSON file in the pixels of its image.

    Every polygon of a MultiPolygon or a GeometryCollection is a building, as in the challenge's own code. Outlines that
    cross themselves are mended by shapely's make_valid, which may give several pieces; what lies beyond the image is
    cut off; heights are dropped. A file of no bytes has no buildings: the release has such files.

    Args:
        file: a FeatureCollection.
        transform: the image's geotransform a, b, c, d, e, f.
        crs: its CRS, EPSG:code or WKT.
        size: its width and height, pixels.

    Raises GeosslError, with the reason alone, if the file cannot be read as a whole.

    """
    features, source = _features(file)
    left_out: list[str] = []
    mended: list[str] = []
    found: list[Any] = []
    for feature in features:
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        if geometry is None:
            left_out.append("a feature without geometry")
            continue
        try:
            drawn = shape(geometry)
        except (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError) as e:
            left_out.append(f"an outline that cannot be drawn: {_said(e)}")
            continue
        parts = _polygons(drawn)
        if drawn.geom_type != "Polygon" and parts:
            mended.append(f"a {drawn.geom_type}, whose polygons are taken: {len(parts)}")
        elif not parts:
            left_out.append(f"not a polygon: {drawn.geom_type}")
        found += parts
    polygons = shapely.force_2d(np.array(found, object))
    usable = ~shapely.is_empty(polygons) & np.isfinite(shapely.bounds(polygons).reshape(-1, 4)).all(axis=1)
    left_out += ["an outline without numbers"] * int((~usable).sum())
    # A ring that ends where it began has a point more than corners; of three points it has two.
    few = usable & (shapely.get_num_coordinates(polygons) < 5)
    few[few] = [len(set(polygon.exterior.coords)) < 3 for polygon in polygons[few]]
    left_out += ["an outline of fewer than 3 corners"] * int(few.sum())
    polygons = _to_pixels(polygons[usable & ~few], source, transform=transform, crs=crs)
    return _inside(polygons, size, left_out, mended)


def _features(file: Path) -> tuple[list[Any], str]:
    """The features of a file, and the CRS of their coordinates."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        content = json.loads(text) if text.strip() else {"features": []}
    except (OSError, ValueError) as e:
        raise GeosslError(_said(e)) from e
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list):
        raise GeosslError("not a FeatureCollection")
    named = content.get("crs") or {}
    name = named.get("properties", {}).get("name", DEGREES) if isinstance(named, dict) else DEGREES
    return features, DEGREES if name in LON_LAT else str(name)


def _polygons(geometry: Any) -> list[Any]:
    """The polygons of a geometry, also of collections in it."""
    if geometry.geom_type == "Polygon":
        return [geometry]
    if geometry.geom_type in {"MultiPolygon", "GeometryCollection"}:
        return [polygon for part in geometry.geoms for polygon in _polygons(part)]
    return []


def _to_pixels(polygons: NDArray[Any], source: str, *, transform: Sequence[float], crs: str) -> NDArray[Any]:
    a, b, c, d, e, f = transform
    inverse = np.linalg.inv(np.array([[a, b], [d, e]]))

    def pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
        if source != crs and len(points):
            points = transform_points(source, crs, points[:, None])[:, 0]
            if not np.isfinite(points).all():
                raise GeosslError(f"coordinates that are not those of the CRS it names: {source}")
        placed: NDArray[np.float64] = (points - (c, f)) @ inverse.T
        return placed

    moved: NDArray[Any] = shapely.transform(polygons, pixels)
    return moved


def _inside(polygons: NDArray[Any], size: tuple[int, int], left_out: list[str], mended: list[str]) -> Outlines:
    """The valid parts of polygons that lie in the image."""
    crossed = ~shapely.is_valid(polygons)
    mended += [
        f"an outline that was not valid: {shapely.is_valid_reason(each).partition('[')[0]}"
        for each in polygons[crossed]
    ]
    polygons[crossed] = shapely.make_valid(polygons[crossed])
    before = shapely.area(polygons)
    frame = shapely.box(0, 0, *size)
    cut = shapely.intersection(polygons, frame)
    after = shapely.area(cut)
    beyond = (after == 0) & (before > 0)
    left_out += ["an outline beyond the image"] * int(beyond.sum())
    mended += ["an outline that reached beyond the image: cut off"] * int((~beyond & (after < before - MUCH)).sum())
    parts, of = shapely.get_parts(cut[~beyond], return_index=True)
    # make_valid may put polygons and lines in a collection, with its polygons in one.
    again, back = shapely.get_parts(parts, return_index=True)
    parts, of = again, of[back]
    big = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) >= LEAST_AREA)
    gone = int((~beyond).sum()) - len(np.unique(of[big]))
    left_out += [f"an outline of less than {LEAST_AREA:g} square pixels"] * gone
    return Outlines(polygons=parts[big], left_out=left_out, mended=mended)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
