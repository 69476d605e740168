"""A STAC item that describes an embedding file.

It follows the embedding extension of geo-embeddings/embeddings-stac-specification, a proposal: version 0.0.1, as of
commit 0a9cb04 of 20 March 2026, with the processing extension 1.2.0 and the table extension 1.2.0, on STAC 1.0.0.
There `emb:type` and `emb:dimensions` are a collection's, and its schema refuses them in an item: hence they are among
the runtime parameters.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa

from geossl.files import naming_full_disk, replacing

if TYPE_CHECKING:
    from pathlib import Path

    from geossl.embedding.file import EmbeddingFile

VERSION = "1.0.0"
"""Of STAC, that the extension's schema refers to."""
EXTENSIONS = [
    "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/table/v1.2.0/schema.json",
]
PARQUET = "application/vnd.apache.parquet"
HOW_INT8 = "symmetric, a scale a vector: value = embedding * scale (columns embedding and scale)"


def stac_path(file: Path) -> Path:
    """Where the item of an embedding file lies: features.parquet has features.stac.json beside it."""
    return file.with_suffix(".stac.json")


def write_item(file: EmbeddingFile, *, run: Path, data: Path) -> None:
    """Write the item beside the file, whole or not at all."""
    out = stac_path(file.path)
    text = json.dumps(stac_item(file, run=run, data=data), indent=2, allow_nan=False, ensure_ascii=False)
    with naming_full_disk(out), replacing(out) as target:
        target.write(f"{text}\n".encode())


def stac_item(file: EmbeddingFile, *, run: Path, data: Path) -> dict[str, Any]:
    """The item: where and when the images are of, what embedded them, and how to read the file.

    Args:
        file: the finished file; the time that it was written at is that of the processing.
        run: the encoder's run or weights, which the item links to.
        data: the index, likewise.

    """
    about = file.about
    geometry, bbox = _place(file.bbox)
    made = datetime.fromtimestamp(file.path.stat().st_mtime, UTC)
    model, features = about["model"], about["features"]
    properties: dict[str, Any] = {
        **_time(file.dates(), otherwise=made),
        "processing:datetime": _instant(made),
        "processing:software": {"geossl": about["geossl_version"]},
        "emb:runtime_parameters": {
            "type": "chip",
            "dimensions": features["dimensions"],
            "model": model,
            "images": about["images"],
            "batch": features["batch"],
            "device": features["device"],
            "unreadable": about["unreadable"],
        },
        "emb:preprocessing": {
            "format": "text",
            "expression": (
                f"the image's box{' with its context' if model['context'] else ''}, else all of it; short side "
                f"resized to {model['size']} pixels, central square; (value - mean) / std by band"
            ),
        },
        "table:row_count": file.rows,
        "table:primary_geometry": "geometry",
        "table:columns": [{"name": field.name, "type": _type_name(field.type)} for field in file.schema],
    }
    if features["dtype"] == "int8":
        properties["emb:quantization"] = {
            "method": HOW_INT8,
            "original_dtype": "float32",
            "quantized_dtype": "int8",
        }
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": EXTENSIONS,
        "id": file.path.stem,
        "geometry": geometry,
        **({} if bbox is None else {"bbox": bbox}),
        "properties": properties,
        "links": [
            {"rel": "emb:model", "href": _href(run, file.path), "title": f"{model['architecture']}, the encoder"},
            {"rel": "emb:source-data", "href": _href(data, file.path), "title": "the images' index"},
        ],
        "assets": {
            "embeddings": {
                "href": _href(file.path, file.path),
                "type": PARQUET,
                "roles": ["data"],
                "title": f"{file.rows} embeddings of {features['dimensions']} dimensions",
                "data_type": features["dtype"],
            }
        },
    }


def _place(bbox: list[float] | None) -> tuple[dict[str, Any] | None, list[float] | None]:
    """GeoJSON of a bounding box, west, south, east and north in degrees."""
    if bbox is None:
        return None, None
    west, south, east, north = bbox
    if west == east and south == north:
        return {"type": "Point", "coordinates": [west, south]}, bbox
    if west == east or south == north:
        return {"type": "LineString", "coordinates": [[west, south], [east, north]]}, bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}, bbox


def _time(dates: tuple[datetime, datetime] | None, *, otherwise: datetime) -> dict[str, Any]:
    """STAC wants a time: of images without dates, it is that of the processing."""
    if dates is None:
        return {"datetime": _instant(otherwise)}
    first, last = dates
    if first == last:
        return {"datetime": _instant(first)}
    return {"datetime": None, "start_datetime": _instant(first), "end_datetime": _instant(last)}


def _instant(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{kind.value_type}>[{kind.list_size}]"
    return "struct" if pa.types.is_struct(kind) else str(kind)


def _href(path: Path, file: Path) -> str:
    """A path relative to the item's folder, as a URL has it."""
    return quote(os.path.relpath(path.resolve(), file.resolve().parent).replace(os.sep, "/"))
