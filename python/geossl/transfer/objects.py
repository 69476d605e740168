"""Objects in images, boxes and outlines with a category: a Parquet file beside an index, such as xview.objects.parquet.

Columns: `path`, as in the index; `category`; `geometry`, a polygon as WKB in pixels of the image: x to the right, y
down, from the outer corner of its upper left pixel. An image without objects has no rows. shapely, geopandas and DuckDB
read the geometries.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geossl.errors import UsageError
from geossl.files import naming_full_disk, replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geossl.data.index import Index

SCHEMA = pa.schema([("path", pa.string()), ("category", pa.string()), ("geometry", pa.binary())])
METADATA_KEY = b"geossl"


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """The objects of an index's images, by image and then in their file's order."""

    image: NDArray[np.int64]
    """int64 [N]: each object's row of the index, ascending."""
    category: NDArray[np.int64]
    """int64 [N]: position in `categories`."""
    geometry: NDArray[Any]
    """shapely polygons, object [N], in pixels of the image."""
    categories: list[str]
    """Sorted distinct categories."""

    def __len__(self) -> int:
        return len(self.image)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """The least boxes around them, float64 [N, 4]: left, top, right, bottom."""
        boxes: NDArray[np.float64] = shapely.bounds(self.geometry)
        return boxes

    def of(self, row: int) -> slice:
        """Which are those of an image, a row of the index."""
        first, last = np.searchsorted(self.image, [row, row + 1]).tolist()
        return slice(first, last)


def objects_file(index: Path) -> Path:
    """Where the objects of the index in a file are."""
    return index.with_suffix(".objects.parquet")


def write_objects(
    file: Path, index: Index, *, paths: Sequence[str], categories: Sequence[str], geometry: NDArray[Any]
) -> None:
    """Write the objects of an index's images, whole or not at all.

    Args:
        file: where; `objects_file` says where they are looked for.
        index: whose images.
        paths: each object's image, [N], as in the index.
        categories: each object's category, [N].
        geometry: shapely polygons in pixels of the image, object [N].

    Raises OutOfSpaceError if the disk is full.

    """
    columns = [pa.array(paths, pa.string()), pa.array(categories, pa.string()), pa.array(shapely.to_wkb(geometry))]
    metadata = {METADATA_KEY: json.dumps({"index_hash": index.content_hash})}
    table = pa.table(columns, schema=SCHEMA.with_metadata(metadata))
    with naming_full_disk(file), replacing(file) as target:
        pq.write_table(table, target, compression="zstd")


def read_objects(index: Index, *, file: Path | None = None) -> Objects:
    """The objects of an index's images.

    Args:
        index: one that was read from a file, whose rows are whole images.
        file: where the objects are; by default beside the index.

    Raises UsageError if there is no such file, it has other columns, it belongs to another index, or it is empty.

    """
    if file is None:
        if index.source is None:
            raise UsageError("the index was not read from a file, so its objects have to be named")
        file = objects_file(index.source)
    if not file.exists():
        raise UsageError(
            f"{file}: no such file; `geossl data xview` and `geossl data spacenet` make one beside an index"
        )
    try:
        table = pq.read_table(file, columns=SCHEMA.names)
        geometry = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    except (OSError, pa.ArrowException, shapely.errors.ShapelyError) as e:
        raise UsageError(f"{file}: not a file of objects: {' '.join(str(e).split())}") from e
    metadata = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    if metadata.get("index_hash", index.content_hash) != index.content_hash:
        raise UsageError(f"{file}: was made with another index than {index.source}; make both again")
    if len(table) == 0:
        raise UsageError(f"{file}: has no objects")
    row = {path: i for i, path in enumerate(index.column("path").to_pylist())}
    image = np.array([row.get(path, -1) for path in table["path"].to_pylist()], np.int64)
    if (image < 0).any():
        first = table["path"][int(np.argmin(image))].as_py()
        raise UsageError(f"{file}: {first} is not an image of {index.source}")
    categories, category = np.unique(table["category"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    order = np.argsort(image, kind="stable")
    return Objects(
        image=image[order],
        category=category[order].astype(np.int64),
        geometry=geometry[order],
        categories=categories.tolist(),
    )
