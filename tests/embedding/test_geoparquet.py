"""The file is GeoParquet 1.1 by the rules of its specification, and its item is STAC by those of the extensions.

The rules are written out here from opengeospatial/geoparquet v1.1.0 (geoparquet.md, schema.json), STAC 1.0.0, the
embedding extension 0.0.1, the processing extension 1.2.0 and the table extension 1.2.0.
"""

import json
import re
import struct
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedding_data import BATCH, DIMENSIONS, make_index

from geossl.data.index import Index
from geossl.embedding.embed import embed
from geossl.embedding.file import EmbeddingFile
from geossl.embedding.job import weights_hash
from geossl.embedding.stac import stac_path
from geossl.models.weights import load_backbone


def test_the_metadata_are_those_of_the_specification(features):
    file = pq.ParquetFile(features)
    geo = json.loads(file.metadata.metadata[b"geo"])
    assert set(geo) == {"version", "primary_column", "columns"}
    assert geo["version"] == "1.1.0"
    assert geo["primary_column"] in geo["columns"]
    (name, column) = next(iter(geo["columns"].items()))
    # No crs: OGC:CRS84, longitude and latitude.
    assert set(column) == {"encoding", "geometry_types", "covering", "bbox"}
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Point"])
    assert column["covering"] == {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}}
    # Geometry: BYTE_ARRAY at the root, optional as its covering is.
    parquet = {file.schema.column(i).path: file.schema.column(i) for i in range(len(file.schema))}
    assert parquet[name].physical_type == "BYTE_ARRAY"
    assert [path for path in parquet if path.startswith("bbox.")] == [
        f"bbox.{s}" for s in ("xmin", "ymin", "xmax", "ymax")
    ]
    assert {parquet[path].physical_type for path in parquet if path.startswith("bbox.")} == {"DOUBLE"}
    assert file.schema_arrow.field(name).nullable
    assert file.schema_arrow.field("bbox").nullable
    assert not any(field.nullable for field in file.schema_arrow.field("bbox").type)


def test_geometries_are_points_with_their_covering(features, index):
    table = pq.read_table(features)
    lat, lon = table["lat"].to_pylist(), table["lon"].to_pylist()
    for i, (wkb, box) in enumerate(zip(table["geometry"].to_pylist(), table["bbox"].to_pylist(), strict=True)):
        if lat[i] is None:
            assert wkb is None
            assert box is None
            continue
        order, kind, x, y = struct.unpack("<BIdd", wkb)
        assert (order, kind, x, y) == (1, 1, lon[i], lat[i])
        assert box == {"xmin": x, "ymin": y, "xmax": x, "ymax": y}
    known = [i for i, value in enumerate(lat) if value is not None]
    assert known == list(range(len(known))), "those without a place come last"
    geo = json.loads(pq.read_schema(features).metadata[b"geo"])
    xs, ys = [lon[i] for i in known], [lat[i] for i in known]
    assert geo["columns"]["geometry"]["bbox"] == [min(xs), min(ys), max(xs), max(ys)]


def test_row_groups_can_be_skipped_by_place(features):
    file = pq.ParquetFile(features)
    metadata = file.metadata
    areas = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
        assert all(column.compression == "ZSTD" for column in columns.values())
        assert columns["embedding.list.element"].statistics is None
        ends = {side: columns[f"bbox.{side}"].statistics for side in ("xmin", "ymin", "xmax", "ymax")}
        boxes = file.read_row_group(number, ["bbox"])["bbox"].drop_null().to_pylist()
        if boxes:
            assert ends["xmin"].min == min(box["xmin"] for box in boxes)
            assert ends["ymax"].max == max(box["ymax"] for box in boxes)
            areas.append((ends["xmax"].max - ends["xmin"].min) * (ends["ymax"].max - ends["ymin"].min))
    assert len(areas) >= 4
    assert np.median(areas) < 360 * 160 / 4


def test_the_file_says_what_made_it(features, run, index):
    about = EmbeddingFile(features).about
    encoder, read = load_backbone(run), Index.read(index)
    assert about["model"] == {
        "architecture": encoder.name,
        "arm": "geo_tp",
        "weights_sha256": weights_hash(encoder.module),
        "bands": 3,
        "band_names": ["red", "green", "blue"],
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "size": 32,
        "context": True,
    }
    assert about["images"]["index_hash"] == read.content_hash
    assert about["features"] == {"dimensions": DIMENSIONS, "dtype": "float32", "batch": BATCH, "device": "cpu"}
    assert (about["run"], about["data"], about["unreadable"]) == (str(run), str(index), 0)
    assert EmbeddingFile(features).root == read.root


def test_a_root_below_the_file_moves_with_it(run, tmp_path):
    data = make_index(tmp_path / "a", 4)
    embed(run, data=data, out=tmp_path / "a" / "f.parquet", batch=BATCH, device="cpu", threads=1)
    (tmp_path / "a").rename(tmp_path / "b")
    file = EmbeddingFile(tmp_path / "b" / "f.parquet")
    assert file.about["root"] == "images"
    assert file.root == (tmp_path / "b" / "images").resolve()


INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def item_of(path):
    """The item, held against the rules that every item has to keep."""
    item = json.loads(stac_path(path).read_text(encoding="utf-8"))
    assert (item["type"], item["stac_version"]) == ("Feature", "1.0.0")
    assert {"id", "geometry", "properties", "links", "assets"} <= set(item)
    assert item["stac_extensions"] == [
        "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json",
        "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
        "https://stac-extensions.github.io/table/v1.2.0/schema.json",
    ]
    # GeoJSON: a box if and only if there is a geometry. No link to a collection: no collection.
    assert ("bbox" in item) == (item["geometry"] is not None)
    assert "collection" not in item
    assert "collection" not in {link["rel"] for link in item["links"]}
    assert all(set(link) >= {"rel", "href"} and " " not in link["href"] for link in item["links"])
    assert "embeddings" in item["assets"]
    properties = item["properties"]
    assert {name for name in properties if name.startswith("emb:")} <= {
        "emb:runtime_parameters",
        "emb:preprocessing",
        "emb:postprocessing",
        "emb:fit_for_use",
        "emb:spatial_coverage",
        "emb:uncertainty",
        "emb:quantization",
        "emb:energy",
    }
    assert set(properties["emb:preprocessing"]) == {"format", "expression"}
    assert INSTANT.fullmatch(properties["processing:datetime"])
    ends = [properties.get(name) for name in ("start_datetime", "end_datetime")]
    assert (properties["datetime"] is None) == (None not in ends)
    assert all(INSTANT.fullmatch(time) for time in (properties["datetime"], *ends) if time is not None)
    assert [column["name"] for column in properties["table:columns"]] == pq.read_schema(path).names
    assert properties["table:row_count"] == pq.ParquetFile(path).metadata.num_rows
    return item


def test_the_item_describes_the_file(features, index, run):
    item = item_of(features)
    read = Index.read(index)
    times = [time for time in read.table["timestamp"].to_pylist() if time is not None]
    properties = item["properties"]
    assert datetime.fromisoformat(properties["start_datetime"]) == min(times)
    assert datetime.fromisoformat(properties["end_datetime"]) == max(times)
    assert item["bbox"] == EmbeddingFile(features).bbox
    (ring,) = item["geometry"]["coordinates"]
    assert ring[0] == ring[-1] == item["bbox"][:2]
    signed = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring))
    assert signed > 0, "counterclockwise"
    asset = item["assets"]["embeddings"]
    assert (features.parent / asset["href"]).samefile(features)
    assert (asset["type"], asset["roles"], asset["data_type"]) == (
        "application/vnd.apache.parquet",
        ["data"],
        "float32",
    )
    links = {link["rel"]: features.parent / link["href"] for link in item["links"]}
    assert links["emb:model"].samefile(run)
    assert links["emb:source-data"].samefile(index)
    assert properties["emb:runtime_parameters"]["dimensions"] == DIMENSIONS
    assert "emb:quantization" not in properties
    written = datetime.fromisoformat(properties["processing:datetime"])
    assert written.timestamp() == pytest.approx(features.stat().st_mtime, abs=1e-3)


def test_items_of_little(run, tmp_path):
    time = datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
    place = {"lat": [5.0] * 4, "lon": [-7.0] * 4, "timestamp": [time] * 4}
    line = {"lat": [5.0, 6.0, 7.0, 8.0], "lon": [-7.0] * 4, "timestamp": [None] * 4}
    nothing = {"lat": [None] * 4, "lon": [None] * 4, "timestamp": [None] * 4}
    items = []
    for number, columns in enumerate((place, line, nothing)):
        folder = tmp_path / f"with a space {number}"
        data = make_index(folder, 4, **columns)
        embed(run, data=data, out=folder / "f.parquet", dtype="int8", batch=BATCH, device="cpu", threads=1)
        items.append(item_of(folder / "f.parquet"))
    assert items[0]["geometry"] == {"type": "Point", "coordinates": [-7.0, 5.0]}
    assert items[0]["properties"]["datetime"] == "2020-02-03T04:05:06Z"
    assert items[1]["geometry"] == {"type": "LineString", "coordinates": [[-7.0, 5.0], [-7.0, 8.0]]}
    assert items[1]["properties"]["datetime"] == items[1]["properties"]["processing:datetime"]
    assert items[2]["geometry"] is None
    quantization = items[0]["properties"]["emb:quantization"]
    assert (quantization["original_dtype"], quantization["quantized_dtype"]) == ("float32", "int8")
    geo = json.loads(pq.read_schema(tmp_path / "with a space 2" / "f.parquet").metadata[b"geo"])
    assert geo["columns"]["geometry"]["geometry_types"] == []
    assert "bbox" not in geo["columns"]["geometry"]


def test_embeddings_are_lists_of_a_fixed_size(features):
    kind = pq.read_schema(features).field("embedding").type
    assert kind == pa.list_(pa.field("element", pa.float32(), nullable=False), DIMENSIONS)
