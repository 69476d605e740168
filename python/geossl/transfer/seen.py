"""What a network has seen, as files: Parquet for programs, GeoJSON and GeoTIFF in the image's CRS for maps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from rasterio import Affine
from rasterio.io import MemoryFile
from shapely.geometry import mapping

from geossl.data.fallback import quiet
from geossl.data.footprints import apply
from geossl.data.table import transforms
from geossl.files import naming_full_disk, replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geossl.data.index import Index
    from geossl.transfer.detections import Detections

SCHEMA = pa.schema(
    [("path", pa.string()), ("category", pa.string()), ("score", pa.float32()), ("geometry", pa.binary())]
)
"""As the objects of an index (`geossl.transfer.objects`), with a score, 0..1; by image, the surest first."""


def write_seen(file: Path, seen: Sequence[Detections], *, index: Index, categories: Sequence[str]) -> None:
    """Write the objects seen in an index's images, whole or not at all. Raises OutOfSpaceError if the disk is full."""
    paths = index.column("path")
    names = np.array(categories)
    columns = [
        pa.array([paths[one.row].as_py() for one in seen for _ in one.scores], pa.string()),
        pa.array(np.concatenate([names[one.categories] for one in seen]).tolist(), pa.string()),
        pa.array(np.concatenate([one.scores for one in seen]), pa.float32()),
        pa.array(shapely.to_wkb(shapely.box(*np.concatenate([one.boxes for one in seen]).astype(float).T))),
    ]
    with naming_full_disk(file), replacing(file) as target:
        pq.write_table(pa.table(columns, schema=SCHEMA), target, compression="zstd")


def write_geojson(
    file: Path, polygons: NDArray[Any], *, index: Index, row: int, properties: Sequence[dict[str, Any]]
) -> None:
    """Write polygons in an image's pixels as GeoJSON in its CRS, which the member `crs` names, as GDAL reads it.

    Of an image without a georeference they stay in pixels, x to the right and y down, and there is no `crs`.

    Args:
        file: where to.
        polygons: shapely polygons in pixels of the image, object [N].
        index: of the image.
        row: its row.
        properties: of each polygon.

    """
    matrix, crs = georeference(index, row)
    content: dict[str, Any] = {"type": "FeatureCollection"}
    if crs is not None:
        polygons = shapely.transform(polygons, lambda points: apply(matrix, points))
        name = crs.replace("EPSG:", "urn:ogc:def:crs:EPSG::") if crs.startswith("EPSG:") else crs
        content["crs"] = {"type": "name", "properties": {"name": name}}
    content["features"] = [
        {"type": "Feature", "properties": said, "geometry": mapping(polygon)}
        for polygon, said in zip(polygons, properties, strict=True)
    ]
    with naming_full_disk(file), replacing(file) as target:
        target.write(json.dumps(content).encode())


def write_classes(file: Path, classes: NDArray[np.uint8], *, index: Index, row: int, categories: Sequence[str]) -> None:
    """Write the classes of an image's pixels as a GeoTIFF in its CRS: uint8, 0 the background, then the categories.

    The tag CATEGORIES of the file has their names, with commas between.
    """
    matrix, crs = georeference(index, row)
    height, width = classes.shape
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": height, "width": width}
    profile |= {"compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256}
    if crs is not None:
        profile |= {"crs": crs, "transform": Affine(*matrix)}
    with MemoryFile() as memory:
        with quiet(), memory.open(**profile) as made:
            made.write(classes, 1)
            made.update_tags(CATEGORIES=",".join(["background", *categories]))
        with naming_full_disk(file), replacing(file) as target:
            target.write(memory.read())


def georeference(index: Index, row: int) -> tuple[NDArray[np.float64], str | None]:
    """An image's geotransform, float64 [6], and CRS; None where it has not both."""
    matrix = transforms(index.table.slice(row, 1))[0]
    crs: str | None = index.column("crs")[row].as_py()
    return matrix, crs if np.isfinite(matrix).all() else None
