"""The index's columns: their types, how the core's columns become them, and the content hash."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

INSTANT = pa.timestamp("us", tz="UTC")
NO_INSTANT = np.iinfo(np.int64).min
"""The core's null among microseconds since 1970."""
HASH_THREADS = 8
"""Columns that are hashed at a time: the long texts take most of it, and there are a few of them."""

SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # '/'-separated, relative to the root
        ("location_id", pa.string()),
        ("lat", pa.float64()),  # degrees
        ("lon", pa.float64()),  # degrees, -180 to 180
        ("timestamp", INSTANT),
        ("category", pa.string()),
        ("box_x", pa.int32()),  # pixels; the four are null together: the whole image
        ("box_y", pa.int32()),
        ("box_w", pa.int32()),
        ("box_h", pa.int32()),
        ("width", pa.int32()),  # pixels
        ("height", pa.int32()),
        ("bands", pa.int16()),
        ("dtype", pa.string()),  # uint8 to float64, as in the file
        ("nodata", pa.float64()),  # value of samples without data; NaN: told by a mask or alpha, or it is NaN itself
        ("band_names", pa.string()),  # in the bands' order, with commas between
        # a, b, c, d, e, f: x = a column + b row + c, y = d column + e row + f, from the upper left corner
        ("transform", pa.list_(pa.field("element", pa.float64()))),
        ("crs", pa.string()),  # of x and y: EPSG:code, or WKT
        ("reader", pa.string()),  # null: geossl's own; rasterio
        ("gsd", pa.float32()),  # metres
        ("cloud_cover", pa.float32()),  # percent
        ("sensor", pa.string()),  # the satellite, as written
        ("country_code", pa.string()),
        ("split", pa.string()),  # train, val or test
    ]
)
"""Columns of an index. All but path, width, height, bands and dtype may be null."""


def texts_from_core(texts: tuple[np.ndarray, np.ndarray]) -> pa.Array:
    """Strings from the core's (offsets int64 [N + 1], UTF-8 bytes uint8); an empty text is null."""
    offsets, data = texts
    valid = np.packbits(np.diff(offsets) > 0, bitorder="little")
    large = pa.LargeStringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data), pa.py_buffer(valid)
    )
    return large.cast(pa.string())


def instants(micros: np.ndarray) -> pa.Array:
    """Timestamps from microseconds since 1970, int64 [N]; the least int64 is null."""
    return pa.array(micros, mask=micros == NO_INSTANT).cast(INSTANT)


def table_from_core(columns: dict[str, Any]) -> pa.Table:
    """The index's table from the columns of the core's scan.

    Its nulls are "" in texts, NaN in floats, -1 in boxes and the least int64 in timestamps; a column that it does not
    have is null.
    """
    arrays = []
    for field in SCHEMA:
        if field.name not in columns:
            arrays.append(pa.nulls(len(columns["lat"]), field.type))
            continue
        column = columns[field.name]
        if field.type == pa.string():
            arrays.append(texts_from_core(column))
        elif field.type == INSTANT:
            arrays.append(instants(column))
        elif pa.types.is_floating(field.type):
            arrays.append(pa.array(column, mask=np.isnan(column)))
        elif field.name.startswith("box_"):
            arrays.append(pa.array(column, mask=column < 0))
        else:
            arrays.append(pa.array(column))
    return pa.table(arrays, schema=SCHEMA)


def content_hash(table: pa.Table) -> str:
    """SHA-256 of the rows in hex; it does not depend on the table's chunks or on where it came from."""
    digest = hashlib.sha256(f"geossl index, {len(table)} rows".encode())
    # Hashing lets other threads run.
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        for name, column in zip(SCHEMA.names, pool.map(_column_hash, table.select(SCHEMA.names).columns), strict=True):
            digest.update(name.encode())
            digest.update(column)
    return digest.hexdigest()


def _column_hash(chunks: pa.ChunkedArray) -> bytes:
    column = chunks.combine_chunks()
    digest = hashlib.sha256(np.packbits(column.is_valid().to_numpy(zero_copy_only=False)).data)
    if column.type == pa.string():
        column = column.fill_null("")
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
        data = column.buffers()[2]
        digest.update(np.diff(offsets).data)
        if data is not None and len(offsets):
            digest.update(memoryview(data)[offsets[0] : offsets[-1]])
    elif pa.types.is_list(column.type):
        digest.update(np.ascontiguousarray(column.value_lengths().fill_null(0).to_numpy(), np.int64).data)
        digest.update(np.ascontiguousarray(column.flatten().to_numpy()).data)
    else:
        number = column.cast(pa.int64()) if column.type == INSTANT else column
        values: np.ndarray = number.fill_null(0).to_numpy(zero_copy_only=False)
        digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


def image_boxes(table: pa.Table) -> np.ndarray:
    """int32 [N, 4] of x, y, width, height, pixels; width 0 stands for the whole image."""
    columns = [table[f"box_{side}"].fill_null(0).to_numpy() for side in ("x", "y", "w", "h")]
    return np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.int32)


def transforms(table: pa.Table) -> np.ndarray:
    """float64 [N, 6] of each row's geotransform a, b, c, d, e, f; NaN where it has none."""
    column = table["transform"].combine_chunks()
    out = np.full((len(table), 6), np.nan)
    out[column.is_valid().to_numpy(zero_copy_only=False)] = column.flatten().to_numpy().reshape(-1, 6)
    return out


def is_remote(path: str) -> bool:
    """Whether the path is a URL or one of GDAL's file systems (/vsi...), which only rasterio reads."""
    return "://" in path or path.startswith("/vsi")
