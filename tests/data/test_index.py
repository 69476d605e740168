"""The index: layouts, sidecars, headers, lists, the Parquet file."""

import csv
import gzip
import itertools
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import tifffile
from PIL import Image

from geossl import _core
from geossl.data.index import GeoOptions, Index, build_index
from geossl.data.table import SCHEMA, content_hash
from geossl.errors import UsageError

LISTING = Path(__file__).resolve().parents[3] / "shared/data/fmow_listing"
SQUARE = "POLYGON ((10 20, 12 20, 12 22, 10 22, 10 20))"  # its centre: lat 21, lon 11
OTHER = "POLYGON ((-60 -10, -58 -10, -58 -8, -60 -8, -60 -10))"  # lat -9, lon -59
PLAIN = {
    "gsd": 0.5,
    "timestamp": "2012-04-02T10:32:22Z",
    "cloud_cover": 7,
    "sensor_platform_name": "WORLDVIEW02",
    "country_code": "USA",
    "img_width": 40,
    "img_height": 30,
    "raw_location": SQUARE,
    "bounding_boxes": [{"ID": 3, "category": "airport", "box": [4, 5, 20, 15], "visible": True}],
}


def add_image(path: Path, *, size=(40, 30), sidecar=None, **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 200, 30)).save(path, **save)
    if sidecar is not None:
        text = sidecar if isinstance(sidecar, str) else json.dumps(sidecar)
        path.with_suffix(".json").write_text(text, encoding="utf-8")
    return path


def add_view(root: Path, view: int, sidecar=None, *, place="train/airport/airport_0", **kwargs) -> Path:
    return add_image(root / place / f"{Path(place).name}_{view}_rgb.jpg", sidecar=sidecar, **kwargs)


def column(index: Index, name: str) -> list:
    return index.table[name].to_pylist()


# --- fMoW's layouts


@pytest.mark.parametrize("kind", ["rgb", "msrgb"])
def test_the_real_listing_as_files(tmp_path, kind):
    if not LISTING.is_dir():
        pytest.skip("the real fMoW listing is not beside the checkout")
    with gzip.open(LISTING / "fmow_rgb_val_sample_files.csv.gz", "rt") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    image = add_image(tmp_path / "one.jpg", size=(8, 8))
    root = tmp_path / "fmow"
    wanted = [path for path in paths if path.endswith(f"_{kind}.jpg")]
    for folder in {os.path.dirname(path) for path in wanted}:  # noqa: PTH120 - thousands of times
        (root / folder).mkdir(parents=True)
    for path in wanted:
        os.link(image, root / path)
    index, report = build_index(root)
    assert (report.images, report.places, report.classes) == (7445, 1559, 62)
    assert (round(report.views_mean, 2), report.views_median, report.views_max) == (4.78, 4, 28)
    assert report.singletons == 287
    assert report.splits == {"val": 7445}
    assert column(index, "path") == sorted(wanted)
    assert column(index, "location_id") == [path.rsplit("/", 1)[0] for path in sorted(wanted)]
    assert column(index, "category") == [path.split("/")[1] for path in sorted(wanted)]
    assert not report.rejected


def test_every_name_of_both_real_listings():
    if not LISTING.is_dir():
        pytest.skip("the real fMoW listing is not beside the checkout")
    for name in ("rgb", "full"):
        with gzip.open(LISTING / f"fmow_{name}_val_sample_files.csv.gz", "rt") as file:
            paths = [r["path"] for r in csv.DictReader(file) if r["path"].endswith((".jpg", ".tif"))]
        assert len(paths) == 2 * 7445
        names = _core.index_fmow_names("/data", paths)
        assert texts(names["location_id"]) == [path.rsplit("/", 1)[0] for path in paths]
        assert texts(names["category"]) == [path.split("/")[1] for path in paths]
        assert set(texts(names["split"])) == {"val"}


def texts(column) -> list[str]:
    offsets, data = column
    return [bytes(data[a:b]).decode() for a, b in itertools.pairwise(offsets)]


def test_layouts(tmp_path):
    add_image(tmp_path / "train/airport/airport_0/airport_0_12_rgb.jpg")
    station = "ground_transportation_station"
    add_image(tmp_path / f"val/{station}/{station}_12/{station}_12_3_rgb.png")
    add_image(tmp_path / f"val/{station}/{station}_12/{station}_12_3_msrgb.jpg")
    add_image(tmp_path / "test/0000007/0000007_4_rgb.jpg")
    add_image(tmp_path / "test/0000008/0000008_0_rgb.jpeg")
    mapping = [{"input": "test_gt/zoo/zoo_5", "output": "test/0000007"}]
    (tmp_path / "test_gt_mapping.json").write_text(json.dumps(mapping))
    (tmp_path / "README.md").write_text("hello")
    add_image(tmp_path / "train/airport/airport_0/._airport_0_12_rgb.jpg")
    add_image(tmp_path / "train/overview.jpg")
    index, report = build_index(tmp_path)
    assert column(index, "path") == [
        "test/0000007/0000007_4_rgb.jpg",
        "test/0000008/0000008_0_rgb.jpeg",
        "train/airport/airport_0/airport_0_12_rgb.jpg",
        f"val/{station}/{station}_12/{station}_12_3_rgb.png",
    ]
    assert column(index, "location_id") == [
        "test/0000007",
        "test/0000008",
        "train/airport/airport_0",
        f"val/{station}/{station}_12",
    ]
    assert column(index, "category") == ["zoo", None, "airport", station]
    assert column(index, "split") == ["test", "test", "train", "val"]
    assert report.rejected == [("train/overview.jpg", "a name that is not fMoW's")]
    assert any("1 msrgb" in note for note in report.notes)
    assert any(note.startswith("images without a JSON sidecar") and note.endswith(": 4") for note in report.notes)

    index, _ = build_index(tmp_path, images="msrgb")
    assert column(index, "path") == [f"val/{station}/{station}_12/{station}_12_3_msrgb.jpg"]
    assert column(index, "category") == [station]


def test_one_split_and_ready_made_crops(tmp_path):
    add_view(tmp_path, 0, PLAIN)
    index, _ = build_index(tmp_path / "train")
    assert column(index, "location_id") == ["airport/airport_0"]
    assert column(index, "split") == ["train"]
    assert index.root == tmp_path / "train"

    # A crop's sidecar still tells the box in the image that it was cut from: the crop is used whole.
    crops = tmp_path / "crops"
    add_image(crops / "val/zoo/zoo_5/zoo_1/zoo_5_0_rgb.jpg", sidecar=PLAIN | {"img_width": 900}, size=(10, 10))
    add_image(crops / "val/zoo/zoo_5/zoo_2/zoo_5_0_rgb.jpg")
    index, report = build_index(crops)
    assert column(index, "location_id") == ["val/zoo/zoo_5/zoo_1", "val/zoo/zoo_5/zoo_2"]
    assert column(index, "category") == ["zoo", "zoo"]
    assert column(index, "box_x") == [None, None]
    assert column(index, "lat") == [21.0, None]
    assert not any("claim" in note for note in report.notes)


def test_full_layout_prefers_rgb_then_ms(tmp_path):
    folder = tmp_path / "val/zoo/zoo_1"
    folder.mkdir(parents=True)
    tifffile.imwrite(
        folder / "zoo_1_0_ms.tif",
        np.zeros((8, 20, 30), np.uint16),
        photometric="minisblack",
        planarconfig="separate",
    )
    index, report = build_index(tmp_path)
    assert (column(index, "bands"), column(index, "dtype")) == ([8], ["uint16"])
    assert "ms images" in report.layout
    tifffile.imwrite(folder / "zoo_1_0_rgb.tif", np.zeros((20, 30, 3), np.uint8), photometric="rgb")
    index, _ = build_index(tmp_path)
    assert column(index, "path") == ["val/zoo/zoo_1/zoo_1_0_rgb.tif"]
    assert column(index, "dtype") == ["uint8"]


# --- sidecars


def test_a_plain_sidecar(tmp_path):
    add_view(tmp_path, 0, PLAIN)
    index, report = build_index(tmp_path)
    row = index.table.to_pylist()[0]
    assert row == {
        "path": "train/airport/airport_0/airport_0_0_rgb.jpg",
        "location_id": "train/airport/airport_0",
        "lat": 21.0,
        "lon": 11.0,
        "timestamp": datetime(2012, 4, 2, 10, 32, 22, tzinfo=UTC),
        "category": "airport",
        "box_x": 4,
        "box_y": 5,
        "box_w": 20,
        "box_h": 15,
        "width": 40,
        "height": 30,
        "bands": 3,
        "dtype": "uint8",
        "nodata": None,
        "band_names": "red,green,blue",
        "transform": None,
        "crs": None,
        "reader": None,
        "gsd": 0.5,
        "cloud_cover": 7.0,
        "sensor": "WORLDVIEW02",
        "country_code": "USA",
        "split": "train",
    }
    assert not report.rejected
    assert not report.nulled
    assert not report.notes
    assert index.table.schema.equals(SCHEMA)


def box(number, rect, **more):
    return {"ID": number, "category": "airport", "box": rect, **more}


def boxes_of(index: Index) -> list[tuple]:
    names = ("location_id", "box_x", "box_y", "box_w", "box_h", "lat")
    return list(zip(*(column(index, name) for name in names), strict=True))


AT = "train/airport/airport_0"


@pytest.mark.parametrize(
    ("boxes", "rows"),
    [
        pytest.param(box(0, [1, 2, 10, 11]), [(AT, 1, 2, 10, 11, 21.0)], id="bare dict"),
        pytest.param([], [(AT, None, None, None, None, 21.0)], id="no boxes"),
        pytest.param(
            [box(-1, [1, 2, 10, 11], raw_location=OTHER), box(7, [1, 2, 10, 11])],
            [(AT, 1, 2, 10, 11, -9.0)],
            id="same box twice, its own location",
        ),
        pytest.param(
            [box(-1, [1, 2, 10, 11]), box(4, [20, 2, 10, 11], raw_location=OTHER)],
            [(AT + "#-1", 1, 2, 10, 11, 21.0), (AT + "#4", 20, 2, 10, 11, -9.0)],
            id="two boxes, two places",
        ),
        pytest.param(
            [box(0, [1, 2, 2, 30]), box(1, [5, 5, 9, 2]), box(2, [1, 2, 3, 3])],
            [(AT, 1, 2, 3, 3, 21.0)],
            id="tiny",
        ),
        pytest.param([box(0, [-5, 20, 100, 100])], [(AT, 0, 20, 40, 10, 21.0)], id="clipped"),
        pytest.param([box("0", ["1", "2.0", 10.4, 11])], [(AT, 1, 2, 10, 11, 21.0)], id="numbers as text"),
        pytest.param([{"box": [1, 2, 10, 11]}], [(AT, 1, 2, 10, 11, 21.0)], id="no ID"),
    ],
)
def test_boxes(tmp_path, boxes, rows):
    add_view(tmp_path, 0, PLAIN | {"bounding_boxes": boxes})
    index, _ = build_index(tmp_path)
    assert boxes_of(index) == rows


def test_a_place_of_several_boxes_is_several_places_on_all_dates(tmp_path):
    add_view(tmp_path, 0, PLAIN | {"bounding_boxes": [box(1, [1, 2, 10, 11]), box(2, [20, 2, 10, 11])]})
    add_view(tmp_path, 1, PLAIN | {"bounding_boxes": [box(2, [21, 2, 10, 11])]})
    index, report = build_index(tmp_path)
    assert column(index, "location_id") == [AT + "#1", AT + "#2", AT + "#2"]
    assert (report.images, report.crops, report.places) == (2, 3, 2)
    assert index.places.tolist() == [0, 1, 1]


def test_boxes_that_leave_nothing_are_rejected_with_reasons(tmp_path):
    add_view(tmp_path, 0, PLAIN)
    add_view(tmp_path, 1, PLAIN | {"bounding_boxes": [box(0, [40, 0, 10, 10])]})
    add_view(tmp_path, 2, PLAIN | {"bounding_boxes": [box(0, [0, 0, 2, 2])]})
    add_view(tmp_path, 3, PLAIN | {"bounding_boxes": [box(0, [0, 0, 2])]})
    index, report = build_index(tmp_path)
    assert len(index) == 1
    assert [reason for _, reason in report.rejected] == [
        "a box lies outside the image: [40, 0, 10, 10] in 40 x 30",
        "every box has 2 pixels a side or less",
        "a box is not [x, y, width, height]: box 0",
    ]


def test_the_header_wins_over_the_sidecar(tmp_path):
    add_view(tmp_path, 0, PLAIN | {"img_width": 400, "img_height": 300}, size=(20, 10))
    index, report = build_index(tmp_path)
    assert (column(index, "width"), column(index, "height")) == ([20], [10])
    assert boxes_of(index) == [(AT, 4, 5, 16, 5, 21.0)]
    assert any(note.startswith("sidecars that claim another size") and note.endswith(": 1") for note in report.notes)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2012-04-02T10:32:22Z", datetime(2012, 4, 2, 10, 32, 22, tzinfo=UTC)),
        ("2012-04-02T10:32:22", datetime(2012, 4, 2, 10, 32, 22, tzinfo=UTC)),
        ("2016-02-29T23:59:59.123456Z", datetime(2016, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)),
        ("2012-04-02T10:32:22+02:00", datetime(2012, 4, 2, 8, 32, 22, tzinfo=UTC)),
        ("", None),
        (None, None),
    ],
)
def test_timestamps(tmp_path, text, want):
    add_view(tmp_path, 0, PLAIN | {"timestamp": text})
    index, report = build_index(tmp_path)
    assert column(index, "timestamp") == [want]
    assert not report.nulled


def test_what_a_sidecar_may_lack_or_have_wrong(tmp_path):
    add_view(tmp_path, 0, "\ufeff" + json.dumps(PLAIN | {"country_code": "KO-", "gsd": "0.5"}))
    add_view(tmp_path, 1, {k: v for k, v in PLAIN.items() if k not in {"raw_location", "gsd", "country_code"}})
    add_view(
        tmp_path,
        2,
        json.dumps(
            PLAIN | {"cloud_cover": float("nan"), "sensor_platform_name": None, "off_nadir_angle_dbl": float("inf")}
        ),
    )
    wrong = {
        "timestamp": "2012-13-02",
        "raw_location": "POLYGON ((200 95, 1 2))",
        "gsd": -1,
        "cloud_cover": 200,
    }
    add_view(tmp_path, 3, PLAIN | wrong)
    add_view(tmp_path, 4, json.dumps(PLAIN)[:-20])
    add_view(tmp_path, 5, "[]")
    index, report = build_index(tmp_path)
    assert column(index, "country_code") == ["KO-", None, "USA", "USA"]
    assert column(index, "gsd") == [0.5, None, 0.5, None]
    assert column(index, "cloud_cover") == [7.0, 7.0, None, None]
    assert column(index, "sensor") == ["WORLDVIEW02", "WORLDVIEW02", None, "WORLDVIEW02"]
    assert column(index, "lat") == [21.0, None, 21.0, None]
    assert column(index, "timestamp")[3] is None
    path = AT + "/airport_0_{}_rgb.jpg"
    assert [p for p, _ in report.rejected] == [path.format(4), path.format(5)]
    assert all(reason.startswith("the sidecar is not fMoW's JSON: ") for _, reason in report.rejected)
    assert report.nulled == [
        (path.format(3), "bad raw_location: latitude 95 is out of range"),
        (path.format(3), 'bad timestamp: "2012-13-02"'),
        (path.format(3), "bad gsd: -1"),
        (path.format(3), "bad cloud_cover: 200"),
    ]
    assert (report.missing_coordinates, report.missing_timestamps) == (2, 1)


# --- headers


def test_headers_against_other_readers(tmp_path):
    rng = np.random.default_rng(0)
    gray = Image.fromarray(rng.integers(0, 256, (37, 53), np.uint8))
    gray.save(tmp_path / "gray.jpg")
    gray.convert("RGB").save(tmp_path / "progressive.jpg", progressive=True)
    gray.convert("RGB").save(tmp_path / "exif.jpg", exif=b"Exif\0\0" + bytes(60_000), icc_profile=bytes(150_000))
    gray.convert("CMYK").save(tmp_path / "cmyk.jpg")
    gray.convert("P").save(tmp_path / "palette.png")
    gray.convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(rng.integers(0, 2**16, (37, 53), np.uint16)).save(tmp_path / "gray16.png")
    eight = rng.integers(0, 256, (37, 53, 3), np.uint8)
    four = rng.integers(0, 2**16, (4, 37, 53), np.uint16)
    tifffile.imwrite(
        tmp_path / "big_tiled.tif", eight, photometric="rgb", bigtiff=True, tile=(16, 16), compression="zlib"
    )
    tifffile.imwrite(tmp_path / "big_endian.tif", eight, photometric="rgb", byteorder=">")
    tifffile.imwrite(tmp_path / "planar.tif", four, photometric="minisblack", planarconfig="separate")
    # GDAL writes its tags behind the pixels.
    profile = {"driver": "GTiff", "width": 53, "height": 37, "count": 4, "dtype": "uint16", "compress": "lzw"}
    with rasterio.open(
        tmp_path / "gdal.tif",
        "w",
        crs="EPSG:4326",
        transform=rasterio.Affine(0.1, 0, 0, 0, -0.1, 0),
        **profile,
    ) as out:
        out.write(four)
    names = sorted(path.name for path in tmp_path.iterdir())
    got = _core.image_headers([str(tmp_path / name) for name in names], threads=2)
    wide = {"planar.tif", "gdal.tif", "gray16.png"}
    for name, header in zip(names, got, strict=True):
        assert header["error"] is None, name
        assert (header["width"], header["height"]) == (53, 37), name
        assert header["bands"] == (4 if name in {"planar.tif", "gdal.tif"} else 3), name
        assert header["dtype"] == ("uint16" if name in wide else "uint8"), name


def test_unusable_images_are_named(tmp_path):
    folder = tmp_path / "train/airport/airport_0"
    whole = add_view(tmp_path, 0).read_bytes()
    (folder / "airport_0_1_rgb.jpg").write_bytes(b"")
    (folder / "airport_0_2_rgb.jpg").write_bytes(whole[:50])
    (folder / "airport_0_3_rgb.jpg").write_bytes(b"<html>not found</html>")
    tifffile.imwrite(folder / "airport_0_4_rgb.tif", np.zeros((9, 9, 3), np.complex64), photometric="rgb")
    tifffile.imwrite(folder / "airport_0_5_rgb.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    bad = folder / "airport_0_5_rgb.tif"
    with tifffile.TiffFile(bad) as file:
        at = file.pages[0].tags["StripOffsets"].offset
    data = bytearray(bad.read_bytes())
    data[at : at + 2] = (65_000).to_bytes(2, "little")  # a private tag in its place
    bad.write_bytes(data)
    os.mkfifo(folder / "airport_0_6_rgb.jpg")
    (folder / "airport_0_7_rgb.jpg").symlink_to(folder / "airport_0_0_rgb.jpg")
    (tmp_path / "val").symlink_to(tmp_path / "train")
    index, report = build_index(tmp_path)
    assert [path[-9:] for path in column(index, "path")] == ["0_rgb.jpg", "7_rgb.jpg"]
    reasons = [(path.rsplit("/", 1)[-1], reason) for path, reason in report.rejected]
    assert reasons == [
        ("airport_0_1_rgb.jpg", "the file is empty"),
        ("airport_0_2_rgb.jpg", "the header is cut short"),
        ("airport_0_3_rgb.jpg", "not a JPEG, PNG or TIFF"),
        ("airport_0_4_rgb.tif", "not read here: complex64 samples"),
        ("airport_0_5_rgb.tif", "a TIFF without strips or tiles (StripOffsets or TileOffsets is missing)"),
        ("airport_0_6_rgb.jpg", "not a regular file"),
        ("val", "a link to a folder, which is not followed"),
    ]


def test_the_result_does_not_depend_on_threads(tmp_path):
    for place in range(20):
        for view in range(3):
            sidecar = PLAIN if view else json.dumps(PLAIN)[: -place - 1]
            add_view(tmp_path, view, sidecar, place=f"val/zoo/zoo_{place}")
    (first, report), *others = [build_index(tmp_path, threads=n) for n in (1, 2, 7)]
    assert len(report.rejected) == 20
    for index, other in others:
        assert index.content_hash == first.content_hash
        assert index.table.equals(first.table)
        assert other == report


# --- lists


def write_csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_generic_csv(tmp_path):
    for name in ("a.jpg", "b.png", "sub/c.jpg"):
        add_image(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    src = write_csv(
        tmp_path / "list.csv",
        "\ufeffpath,lat,lon,timestamp,location_id,category,split,gsd,cloud_cover,country_code,mood,sensor",
        "sub/c.jpg,1.5,190,2012-04-02T10:32:22Z,7,zoo,train,0.5,10,KO-,good, GEOEYE01",
        f"{tmp_path}/a.jpg,91,10,2012-04-02,7,,val,-1,101,,bad,",
        "./b.png,nan,10,yesterday,,zoo,valid,x,,,,",
        "missing.jpg,1,2,,,,,,,,,",
        ",1,2,,,,,,,,,",
        "../a.jpg,1,2,,,,,,,,,",
        "broken.jpg,1,2,,,,,,,,,",
        "b.png,,,,,,,,,,,",
    )
    index, report = build_index(src)
    assert index.root == tmp_path
    assert column(index, "path") == ["sub/c.jpg", "a.jpg", "b.png", "b.png"]
    assert column(index, "lat") == [1.5, None, None, None]
    assert column(index, "lon") == [-170.0, None, None, None]
    assert column(index, "location_id") == ["7", "7", None, None]
    assert column(index, "category") == ["zoo", None, "zoo", None]
    assert column(index, "split") == ["train", "val", None, None]
    assert column(index, "gsd") == [0.5, None, None, None]
    assert column(index, "country_code") == ["KO-", None, None, None]
    assert column(index, "sensor") == ["GEOEYE01", None, None, None]
    assert [t and t.day for t in column(index, "timestamp")] == [2, 2, None, None]
    a, b = f"{tmp_path}/a.jpg", "./b.png"
    assert report.nulled == [
        (a, "bad cloud_cover: 101"),
        (a, "bad gsd: -1"),
        (a, "swapped latitude and longitude: 91, 10"),
        (b, "bad gsd: x"),
        (b, "bad lat: nan"),
        (b, "bad split, not train, val or test: valid"),
        (b, "bad timestamp: yesterday"),
    ]
    assert report.rejected == [
        ("missing.jpg", "no such file"),
        ("", "no path is given"),
        ("../a.jpg", "a path outside the root"),
        ("broken.jpg", "the header is cut short"),
    ]
    assert report.notes[0].startswith("columns left out: mood (known are: path, ")
    # The row of only a path has no place of its own name, but is a place.
    assert index.places.tolist() == [0, 0, 1, 2]


def test_boxes_of_a_csv(tmp_path):
    add_image(tmp_path / "a.jpg")
    rects = [
        (-5, 2, 20, 10),
        ("", "", "", ""),
        (40, 0, 9, 9),
        (0, 0, 2, 9),
        (0, 0, "", 9),
        (0, "x", 5, 9),
        (38, 0, 9, 9),
    ]
    rows = [f"a.jpg,{','.join(map(str, rect))}" for rect in rects]
    index, report = build_index(write_csv(tmp_path / "l.csv", "path,box_x,box_y,box_w,box_h", *rows))
    assert [row[1:5] for row in boxes_of(index)] == [(0, 2, 15, 10), (None,) * 4]
    assert [reason for _, reason in report.rejected] == [
        "a box lies outside the image: [40, 0, 9, 9] in 40 x 30",
        "a box of 2 pixels a side or less",
        "a box with missing numbers",
        "a box with bad numbers",
        "a box of 2 pixels a side or less",
    ]
    assert not report.nulled
    with pytest.raises(UsageError, match="has only box_x"):
        build_index(write_csv(tmp_path / "l.csv", "path,box_x", "a.jpg,1"))


def test_a_generic_parquet(tmp_path):
    add_image(tmp_path / "images/a.jpg")
    add_image(tmp_path / "images/b.jpg")
    frame = pd.DataFrame(
        {
            "path": ["a.jpg", "b.jpg"],
            "lat": [1.5, np.nan],
            "lon": np.array([2, 3], np.int64),
            "timestamp": pd.to_datetime(["2012-04-02T10:32:22.5", None]),
            "location_id": [3, 4],
            "category": pd.Categorical(["x", "y"]),
        }
    )
    frame.to_parquet(tmp_path / "list.parquet")
    index, report = build_index(tmp_path / "list.parquet", root=tmp_path / "images")
    assert column(index, "lat") == [1.5, None]
    assert column(index, "lon") == [2.0, None]
    assert column(index, "location_id") == ["3", "4"]
    assert column(index, "category") == ["x", "y"]
    assert column(index, "timestamp") == [datetime(2012, 4, 2, 10, 32, 22, 500_000, tzinfo=UTC), None]
    assert report.nulled == [("b.jpg", "a coordinate without the other: nan, 3")]
    written = frame.assign(timestamp=pd.Categorical(["2012-04-02T10:32:22.5Z", None]))
    written.to_parquet(tmp_path / "list.parquet")
    again, _ = build_index(tmp_path / "list.parquet", root=tmp_path / "images")
    assert again.content_hash == index.content_hash
    frame.assign(timestamp=[1, 2]).to_parquet(tmp_path / "list.parquet")
    with pytest.raises(UsageError, match="timestamp has the type int64"):
        build_index(tmp_path / "list.parquet", root=tmp_path / "images")


def test_the_authors_csv_takes_places_from_fmow_names(tmp_path):
    for view in (0, 1):
        add_view(tmp_path, view)
    add_image(tmp_path / "test/0000007/0000007_4_rgb.jpg")
    rows = [f"17,train/airport/airport_0/airport_0_{view}_rgb.jpg" for view in (1, 0)]
    src = write_csv(tmp_path / "l.csv", "cluster,image", *rows, "zoo,test/0000007/0000007_4_rgb.jpg")
    index, report = build_index(src)
    assert column(index, "path")[0] == AT + "/airport_0_1_rgb.jpg"
    assert column(index, "location_id") == [AT, AT, "test/0000007"]
    assert column(index, "category") == ["airport", "airport", "zoo"]
    assert column(index, "split") == ["train", "train", "test"]
    assert "read from the images' fMoW names" in report.notes[0]


def test_the_authors_csv_of_other_images_takes_its_label(tmp_path):
    add_image(tmp_path / "a.jpg")
    add_image(tmp_path / "b.jpg")
    for header in ("label,path", "x,y", "category,path"):
        index, report = build_index(write_csv(tmp_path / "l.csv", header, "3,a.jpg", "zoo,b.jpg"))
        assert column(index, "category") == ["3", "zoo"]
        assert column(index, "location_id") == [None, None]
        assert report.notes == [f"the category is column 0 ({header.split(',')[0]})"]
        pd.read_csv(tmp_path / "l.csv").to_parquet(tmp_path / "l.parquet")
        assert build_index(tmp_path / "l.parquet")[0].content_hash == index.content_hash


def test_satmaes_csv(tmp_path):
    add_view(tmp_path, 0)
    src = write_csv(tmp_path / "l.csv", "label,path,when", f"3,{AT}/airport_0_0_rgb.jpg,2012-04-02T10:32:22Z")
    index, report = build_index(src)
    assert report.layout == "label, path, timestamp"
    assert column(index, "timestamp") == [datetime(2012, 4, 2, 10, 32, 22, tzinfo=UTC)]
    assert column(index, "location_id") == [AT]


# --- the file


def make_index(root: Path) -> Index:
    for view, place in enumerate(["val/zoo/zoo_1", "train/airport/airport_0", "train/airport/airport_0"]):
        add_view(root, view, PLAIN, place=place)
    return build_index(root)[0]


def test_round_trip(tmp_path):
    index = make_index(tmp_path / "planet")
    path = tmp_path / "planet.parquet"
    index.write(path)
    again = Index.read(path)
    assert again.table.equals(index.table)
    assert (again.content_hash, again.root, again.source) == (index.content_hash, index.root, path)
    assert list(tmp_path.glob(".*")) == []
    first = path.read_bytes()
    again.write(path)
    assert path.read_bytes() == first
    # Others read it too.
    frame = pd.read_parquet(path)
    assert frame["timestamp"].dt.tz is not None
    assert frame["category"].tolist() == ["airport", "airport", "zoo"]


def test_the_index_moves_with_its_images(tmp_path):
    (tmp_path / "old").mkdir()
    index = make_index(tmp_path / "old/planet")
    index.write(tmp_path / "old/planet.parquet")
    index.write(tmp_path / "elsewhere.parquet")
    index.write(tmp_path / "old/planet/inside.parquet")
    (tmp_path / "old").rename(tmp_path / "new")
    assert Index.read(tmp_path / "new/planet.parquet").root == tmp_path / "new/planet"
    assert Index.read(tmp_path / "new/planet/inside.parquet").root == tmp_path / "new/planet"
    with pytest.raises(UsageError, match=re.escape(f"not under {tmp_path}/old/planet (no such folder). If they moved")):
        Index.read(tmp_path / "elsewhere.parquet")
    moved = Index.read(tmp_path / "elsewhere.parquet", root=tmp_path / "new/planet")
    assert moved.content_hash == index.content_hash
    (tmp_path / "new/planet/val/zoo/zoo_1/zoo_1_0_rgb.jpg").unlink()
    with pytest.raises(UsageError, match=r"missing, e.g. val/zoo/zoo_1/zoo_1_0_rgb\.jpg.*--loader\.root"):
        Index.read(tmp_path / "new/planet.parquet")


def test_the_hash_follows_the_content(tmp_path):
    index = make_index(tmp_path)
    # JPEGs have no geotransform and the like: as if they had.
    filled = {"nodata": 0.0, "transform": [5.0, 0.0, 1.0, 0.0, -5.0, 2.0], "crs": "EPSG:26914", "reader": "rasterio"}
    table = pa.Table.from_pylist([row | filled for row in index.table.to_pylist()], schema=SCHEMA)
    index = Index(table, index.root, content_hash(table))
    assert content_hash(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == index.content_hash
    assert content_hash(pa.concat_tables([table.slice(1), table]).slice(2)) == index.content_hash
    hashes = {index.content_hash, content_hash(table.slice(1)), content_hash(table.take([1, 0, 2]))}
    for position, field in enumerate(SCHEMA):
        rows = table.to_pylist()
        rows[1][field.name] = None
        hashes.add(content_hash(pa.Table.from_pylist(rows, schema=SCHEMA)))
        changed = table[field.name].to_pylist()
        changed[1] = [77.0] if field.name == "transform" else {"string": "other"}.get(str(field.type), 77)
        hashes.add(content_hash(table.set_column(position, field, pa.array(changed, field.type))))
    assert len(hashes) == 3 + 2 * len(SCHEMA)


def test_an_edited_file_has_another_hash(tmp_path):
    index = make_index(tmp_path / "planet")
    path = tmp_path / "i.parquet"
    index.write(path)
    pq.write_table(pq.read_table(path).slice(1), path)
    assert Index.read(path).content_hash == content_hash(index.table.slice(1))


def test_reading_what_is_no_index(tmp_path):
    path = tmp_path / "i.parquet"
    with pytest.raises(UsageError, match="no such index; make it with: geossl data index"):
        Index.read(path)
    path.write_text("hello")
    with pytest.raises(UsageError, match="not an index"):
        Index.read(path)
    pd.DataFrame({"path": ["a"]}).to_parquet(path)
    with pytest.raises(UsageError, match="a Parquet file, but not an index"):
        Index.read(path)
    index = make_index(tmp_path / "planet")
    index.write(path)
    table = pq.read_table(path)
    other = json.loads(table.schema.metadata[b"geossl"]) | {"schema_version": 99}
    pq.write_table(table.replace_schema_metadata({"geossl": json.dumps(other)}), path)
    with pytest.raises(UsageError, match="schema version 99, where this geossl reads 3"):
        Index.read(path)
    pq.write_table(table.drop_columns(["lat"]), path)
    with pytest.raises(UsageError, match="its columns were changed"):
        Index.read(path)
    with pytest.raises(UsageError, match="its folder does not exist"):
        index.write(tmp_path / "nowhere/i.parquet")


def test_places_labels_and_rows_against_pandas():
    rng = np.random.default_rng(0)
    n = 5000
    place = [None if v == 0 else f"p{v}" for v in rng.integers(0, 400, n)]
    category = [None if v == 0 else f"c{v}" for v in rng.integers(0, 30, n)]
    split = [[None, "train", "val"][v] for v in rng.integers(0, 3, n)]
    columns = {"location_id": place, "category": category, "split": split}
    table = pa.table([pa.array(columns.get(f.name, [None] * n), f.type) for f in SCHEMA], schema=SCHEMA)
    # Chunks whose dictionaries differ.
    table = pa.concat_tables([table.slice(i, 999) for i in range(0, n, 999)])
    index = Index(table, Path("/"), "")
    own = [p if p is not None else ("alone", i) for i, p in enumerate(place)]
    assert index.places.dtype == np.int32
    np.testing.assert_array_equal(index.places, pd.factorize(pd.Series(own, dtype=object))[0])
    assert index.categories == sorted({c for c in category if c})
    assert index.labels.dtype == np.int64
    assert [index.categories[v] if v >= 0 else None for v in index.labels] == category
    assert index.rows(split="val").tolist() == [i for i, s in enumerate(split) if s == "val"]
    np.testing.assert_array_equal(index.rows(), np.arange(n))
    empty = Index(table.slice(0, 0), Path("/"), "")
    assert (len(empty.places), empty.categories, len(empty.labels), len(empty.rows(split="val"))) == (
        0,
        [],
        0,
        0,
    )


# --- what a user may do wrong


def test_wrong_sources(tmp_path):
    def fails(src, match, **options):
        with pytest.raises(UsageError, match=match) as error:
            build_index(src, **options)
        assert "\n" not in str(error.value)

    fails(tmp_path / "nowhere", "nowhere: no such file or folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    fails(empty, "no images found; looked for fMoW names such as airport/airport_0/airport_0_1_rgb.jpg")
    fails(empty, "a list of images is a .csv or .parquet file", layout="csv")
    fails(empty, "--root: is for", root=tmp_path)
    photos = tmp_path / "photos"
    add_image(photos / "me.jpg")
    fails(photos, "none of its 1 images has one of the fMoW names.*e.g. me.jpg; list them in a CSV")
    fails(
        photos,
        "--bands, --dates, --date-pattern, --tile and --category-folders: are for --layout geotiff",
        geo=GeoOptions(tile=8),
    )
    fails(photos, "no images found; looked for tif, tiff, jp2", layout="geotiff")
    fails(photos, "--images: is for folders in fMoW's layout", layout="geotiff", images="ms")
    fails(photos / "me.jpg", "a list of images is a .csv or .parquet file")
    fails(photos / "me.jpg", "a file, but the layout fmow is a folder", layout="fmow")
    add_view(tmp_path / "planet", 0, PLAIN)
    fails(tmp_path / "planet", "--images ms: .* has no such images, but 1 rgb", images="ms")
    bad = tmp_path / "bad"
    add_view(bad, 0, "{")
    add_view(bad, 1).write_bytes(b"")
    fails(
        bad,
        r"none of its 2 rgb images can be used: .*1 x the file is empty \(e.g. train/airport/airport_0/air",
    )
    (bad / "test_gt_mapping.json").write_text("{}")
    fails(bad, "test_gt_mapping.json: not fMoW's list")

    list_csv = tmp_path / "l.csv"
    fails(
        write_csv(list_csv, "image,x,y,z", "a.jpg,1,2,3"),
        "no column named path; its columns are: image, x, y, z",
    )
    fails(
        write_csv(list_csv, "path,lat", "no.jpg,1"),
        r"none of its 1 rows .* no such file \(e.g. no.jpg\).*--root",
    )
    fails(write_csv(list_csv, "path,lat"), "it lists no images")
    fails(write_csv(list_csv, "path,path", "a,b"), "two columns have the same name")
    fails(write_csv(list_csv, "3,a.jpg", "4,b.jpg"), "its first line names an image; put column names above it")
    fails(write_csv(list_csv, "path,lat", "a.jpg,1,2,3"), "cannot be read as a list of images")
    fails(write_csv(list_csv, "path", "a.jpg"), "--images: is for folders", images="rgb")
    fails(write_csv(list_csv, "path", "a.jpg"), "no such folder", root=tmp_path / "nowhere")
    list_csv.write_text("")
    fails(list_csv, "the file is empty")
    list_csv.write_bytes(b"path\n\xff\xfe.jpg\n")
    fails(list_csv, "cannot be read as a list of images")


def test_the_report_groups_reasons(tmp_path):
    add_view(tmp_path, 0, PLAIN)
    for view in range(1, 5):
        add_view(tmp_path, view, PLAIN | {"bounding_boxes": [box(0, [40 + view, 0, 10, 10])]})
    lines = build_index(tmp_path)[1].lines()
    assert lines[1].split(None, 1) == ["images", "1: 3 bands uint8 1"]
    assert lines[2].endswith("1; views of a place: mean 1.00, median 1, most 1, 1 with one")
    assert "dates       2012-04-02 to 2012-04-02" in lines
    [group] = [line for line in lines if " x " in line and line.startswith("  ")]
    path = AT + "/airport_0_{0}_rgb.jpg ([4{0}, 0, 10, 10] in 40 x 30)"
    assert group == f"  4 x a box lies outside the image, e.g. {path.format(1)}, {path.format(2)}"


def test_the_index_needs_no_torch():
    code = "import sys, geossl.data.index; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
