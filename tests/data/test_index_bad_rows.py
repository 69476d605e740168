"""A million listed rows, of which one in a hundred has each kind of fault: every one is named and counted."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geossl.data.index import build_index
from geossl.errors import UsageError

N = 1_000_000
SHARE = N // 100
DATES = 5  # of a place


def made_list(root: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The columns, and the rows of each fault by its name in the report."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.new("RGB", (40, 30)).save(root / f"{name}.jpg")
    (root / "broken.jpg").write_bytes(b"GIF89a..")
    place = np.arange(N) // DATES
    # North and east enough that no place is near its own reflection in the line lat = lon.
    lat = (5 + 20 * rng.random(N // DATES))[place]
    lon = (40 + 40 * rng.random(N // DATES))[place]
    columns = {
        "path": np.array(["a.jpg", "b.jpg"], object)[np.arange(N) % 2],
        "location_id": np.char.add("place", place.astype(str)).astype(object),
        "lat": lat,
        "lon": lon,
        "timestamp": np.full(N, "2012-04-02T10:32:22Z", object),
        "cloud_cover": np.full(N, 10.0),
        "box_w": np.full(N, 20.0),
    }
    # One fault a place, so that the other dates can tell which row is the odd one.
    chosen = rng.permutation(N // DATES) * DATES + rng.integers(0, DATES, N // DATES)
    faults: dict[str, np.ndarray] = {}

    def fault(what: str, **values: object) -> None:
        rows = chosen[len(faults) * SHARE : (len(faults) + 1) * SHARE]
        faults[what] = np.sort(rows)
        for name, value in values.items():
            columns[name][rows] = value(rows) if callable(value) else value

    fault("no such file", path="none.jpg")
    fault("not a JPEG, PNG or TIFF", path="broken.jpg")
    fault("a path outside the root", path="../a.jpg")
    fault("no path is given", path=None)
    fault("a box of 2 pixels a side or less", box_w=1.0)
    fault("latitude out of range", lat=95.0, lon=-170.0)
    fault("longitude out of range", lon=361.0)
    fault("swapped latitude and longitude", lat=120.0, lon=45.0)
    away = {"lat": lon.copy(), "lon": lat.copy()}
    fault(
        "swapped latitude and longitude, by the other dates of its place",
        lat=lambda rows: away["lat"][rows],
        lon=lambda rows: away["lon"][rows],
    )
    fault("null island, which stands for no place", lat=0.0, lon=0.0)
    fault("bad lat", lat=np.nan)
    fault("a coordinate without the other", lon=np.nan)
    fault("bad timestamp", timestamp="yesterday")
    fault("bad cloud_cover", cloud_cover=101.0)
    return columns, faults


def test_a_million_rows_with_each_kind_of_fault(tmp_path):
    columns, faults = made_list(tmp_path)
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    # A longitude that is null, where the latitude's NaN is a bad number.
    lon = pa.array(columns["lon"], mask=np.isnan(columns["lon"]))
    table = table.set_column(table.schema.get_field_index("lon"), "lon", lon)
    for name, value in (("box_x", 4.0), ("box_y", 5.0), ("box_h", 15.0)):
        table = table.append_column(name, pa.array(np.full(N, value)))
    pq.write_table(table, tmp_path / "list.parquet")
    index, report = build_index(tmp_path / "list.parquet")

    rejecting = list(faults)[:5]
    rejected = Counter(reason.split(": ")[0] for _, reason in report.rejected)
    nulled = Counter(reason.split(": ")[0] for _, reason in report.nulled)
    assert rejected == dict.fromkeys(rejecting, SHARE)
    assert nulled == dict.fromkeys(list(faults)[5:], SHARE)
    text = "\n".join(report.lines())
    for what in faults:
        assert f"  {SHARE:,} x {what}, e.g. " in text

    keep = np.ones(N, bool)
    keep[np.concatenate([faults[what] for what in rejecting])] = False
    assert len(index) == keep.sum() == N - 5 * SHARE

    def null_rows(name: str) -> np.ndarray:
        return np.flatnonzero(keep)[index.table[name].is_null().to_numpy()]

    unplaced = np.sort(np.concatenate([faults[what] for what in list(faults)[5:12]]))
    assert np.array_equal(null_rows("lat"), unplaced)
    assert np.array_equal(null_rows("lon"), unplaced)
    assert np.array_equal(null_rows("timestamp"), faults["bad timestamp"])
    assert np.array_equal(null_rows("cloud_cover"), faults["bad cloud_cover"])
    # The reports name the paths in the order of the rows.
    named = [path for path, reason in report.nulled if reason.startswith("bad timestamp")]
    assert named == columns["path"][faults["bad timestamp"]].tolist()


def small(folder: Path, lat: list[float | None], lon: list[float | None], **more: list) -> Path:
    Image.new("RGB", (40, 30)).save(folder / "a.jpg")
    table = pa.table({"path": ["a.jpg"] * len(lat), "lat": lat, "lon": lon} | more)
    pq.write_table(table, folder / "list.parquet")
    return folder / "list.parquet"


def test_the_antimeridian_and_the_poles_are_places(tmp_path):
    index, report = build_index(small(tmp_path, [10.0, 10, 10, 10, 90, -90], [180.0, -180, 181, 360, 5, 0]))
    assert index.table["lon"].to_pylist() == [-180, -180, -179, 0, 5, 0]
    assert index.table["lat"].to_pylist() == [10, 10, 10, 10, 90, -90]
    assert not report.nulled


def test_columns_that_are_swapped_are_hinted_at_and_can_be_swapped_back(tmp_path):
    source = small(tmp_path, [120.0, 130, 60], [45.0, 46, 47])
    _, report = build_index(source)
    assert [reason for _, reason in report.nulled] == [
        "swapped latitude and longitude: 120, 45",
        "swapped latitude and longitude: 130, 46",
    ]
    assert any("--map lat=lon,lon=lat" in note for note in report.notes)
    index, report = build_index(source, renames={"lat": "lon", "lon": "lat"})
    assert (index.table["lat"].to_pylist(), index.table["lon"].to_pylist()) == ([45, 46, 47], [120, 130, 60])
    assert not report.nulled


def test_columns_of_other_names(tmp_path):
    (tmp_path / "list.csv").write_text("File,Latitude,Long,Class\na.jpg,1.5,2.5,zoo\n")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    names = {"path": "file", "lat": "Latitude", "lon": "long", "category": "class"}
    index, _ = build_index(tmp_path / "list.csv", renames=names)
    row = index.table.to_pylist()[0]
    assert (row["path"], row["lat"], row["lon"], row["category"]) == ("a.jpg", 1.5, 2.5, "zoo")
    for renames, message in [
        ({"where": "file"}, "--map where=file: known columns are: path, "),
        ({"path": "name"}, "--map path=name: .* has no such column; its columns are: file, latitude, long, class"),
        ({"lat": "latitude"}, "no column named path"),
    ]:
        with pytest.raises(UsageError, match=message):
            build_index(tmp_path / "list.csv", renames=renames)
    with pytest.raises(UsageError, match="--map: is for the columns of a CSV"):
        build_index(tmp_path, renames={"lat": "x"})
