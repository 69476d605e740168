"""GeoParquet 1.1: the columns of an embedding file, what it says of itself, and how it is written.

The specification is opengeospatial/geoparquet, v1.1.0: WKB points in OGC:CRS84, the default; the column `bbox` as their
covering. How rows lie in the file follows geoembeddings.org's best practices: spatially ordered, zstd, row groups of
about 128 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geossl.data.table import SCHEMA
from geossl.embedding.vectors import vector_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from geossl.data.index import Index

FORMAT = 1
"""Of the columns, and of what the file says of itself under `METADATA_KEY`."""
METADATA_KEY = b"geossl.embeddings"
ROW_GROUP_BYTES = 128 << 20
"""Of a full row group, before compression; one is held in memory while the file is put together."""
OTHER_BYTES = 256
"""About what a row takes beside its embedding."""
FROM_INDEX = ("path", "location_id", "timestamp", "lat", "lon", "category", "split", "box_x", "box_y", "box_w", "box_h")
"""Columns that are the index's."""
TEXTS = ["path", "location_id", "category", "split"]
BBOX = ("xmin", "ymin", "xmax", "ymax")
WKB_POINT = np.dtype([("order", "u1"), ("type", "<u4"), ("x", "<f8"), ("y", "<f8")])
"""A point in little-endian WKB (OGC 06-103r4, section 8.2)."""


def make_schema(
    *, dimensions: int, dtype: str, clusters: bool, metadata: Mapping[bytes, str] | None = None
) -> pa.Schema:
    """The columns of an embedding file.

    Args:
        dimensions: components of an embedding.
        dtype: float32 or int8, which has the column `scale` too.
        clusters: whether there is a column `cluster`.
        metadata: the file's own, by key.

    """
    fields = [pa.field("row", pa.int64(), nullable=False)]
    fields += [pa.field(name, SCHEMA.field(name).type) for name in FROM_INDEX]
    if clusters:
        fields.append(pa.field("cluster", pa.int32()))
    sides = [pa.field(side, pa.float64(), nullable=False) for side in BBOX]
    fields += [pa.field("geometry", pa.binary()), pa.field("bbox", pa.struct(sides))]
    if dtype == "int8":
        fields.append(pa.field("scale", pa.float32(), nullable=False))
    component = pa.int8() if dtype == "int8" else pa.float32()
    fields.append(pa.field("embedding", vector_type(component, dimensions), nullable=False))
    return pa.schema(fields, metadata=metadata)


def geo_metadata(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> dict[str, Any]:
    """The file's key `geo`, of points in degrees, float64 [N]; not finite where a row has no geometry."""
    known = np.isfinite(lat) & np.isfinite(lon)
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Point"] if known.any() else [],
        "covering": {"bbox": {side: ["bbox", side] for side in BBOX}},
    }
    if known.any():
        x, y = lon[known], lat[known]
        column["bbox"] = [float(value) for value in (x.min(), y.min(), x.max(), y.max())]
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def write_file(
    file: BinaryIO,
    encoded: Iterable[pa.Table],
    *,
    index: Index,
    clusters: NDArray[np.int64] | None,
    schema: pa.Schema,
) -> None:
    """Write an embedding file, in bounded memory.

    Args:
        file: where to.
        encoded: tables of any length with row int64, of int8 scale float32, and embedding, in the file's order.
        index: what the rows are rows of.
        clusters: cluster of each row of the index, int64; -1 for none. None without that column.
        schema: of `make_schema`.

    """
    embedding = schema.field("embedding").type
    group = max(1, ROW_GROUP_BYTES // (embedding.list_size * embedding.value_type.bit_width // 8 + OTHER_BYTES))
    small = [name for name in schema.names if name not in {"geometry", "bbox", "embedding"}]
    # A dictionary has the 255 values of int8 in a byte each, where Parquet's own integers would take four.
    dictionary = [*TEXTS, *(["embedding.list.element"] if embedding.value_type == pa.int8() else [])]
    with pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        use_dictionary=dictionary,
        write_statistics=[*small, *(f"bbox.{side}" for side in BBOX)],
        write_page_index=True,
    ) as writer:
        for part in _regrouped(encoded, group):
            writer.write_table(_complete(part, index, clusters, schema), row_group_size=group)


def _regrouped(tables: Iterable[pa.Table], group: int) -> Iterator[pa.Table]:
    """The same rows in tables of `group` rows, and a last one of what is left."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += len(table)
        while count >= group:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, group).combine_chunks()
            # A copy: a slice would hold on to all that was joined.
            waiting = [joined.slice(group).combine_chunks()]
            count -= group
    if count:
        yield pa.concat_tables(waiting).combine_chunks()


def _complete(encoded: pa.Table, index: Index, clusters: NDArray[np.int64] | None, schema: pa.Schema) -> pa.Table:
    """The table with all columns."""
    rows = encoded["row"].to_numpy()
    columns = {name: encoded[name] for name in encoded.column_names}
    columns |= {name: index.table[name].take(rows) for name in FROM_INDEX}
    if clusters is not None:
        chosen = clusters[rows]
        columns["cluster"] = pa.array(chosen, pa.int32(), mask=chosen < 0)
    lat, lon = (columns[name].to_numpy().astype(np.float64) for name in ("lat", "lon"))
    columns["geometry"] = points(lat, lon)
    columns["bbox"] = boxes(lat, lon)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def points(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> pa.BinaryArray:
    """WKB of points in degrees, float64 [N]; null where a coordinate is not finite."""
    known = np.isfinite(lat) & np.isfinite(lon)
    wkb = np.empty(known.sum(), WKB_POINT)
    wkb["order"], wkb["type"], wkb["x"], wkb["y"] = 1, 1, lon[known], lat[known]
    ends = np.concatenate([[0], np.cumsum(known)]) * WKB_POINT.itemsize
    valid = pa.py_buffer(np.packbits(known, bitorder="little"))
    buffers = [valid, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(wkb.tobytes())]
    return pa.Array.from_buffers(pa.binary(), len(lat), buffers)


def boxes(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> pa.StructArray:
    """The bounding boxes of points in degrees, float64 [N]; null where a coordinate is not finite."""
    sides = [pa.field(side, pa.float64(), nullable=False) for side in BBOX]
    missing = ~(np.isfinite(lat) & np.isfinite(lon))
    values = [np.where(missing, 0.0, axis) for axis in (lon, lat, lon, lat)]
    return pa.StructArray.from_arrays([pa.array(value) for value in values], fields=sides, mask=pa.array(missing))
