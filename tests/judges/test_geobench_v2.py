"""GEO-Bench 2: tortillas by their published format, and what tacoreader and geobenchv2 read of them."""

from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_sets import HAS_TACO, make_geobench_v2, read_tiff, write_tiff, write_tortilla

from geossl.cli import main
from geossl.data.index import Index
from geossl.errors import GeosslError, UsageError
from geossl.judges.geobench import convert_geobench
from geossl.judges.geobench_v2 import GeobenchV2, find_tortillas
from geossl.judges.tortilla import inner_path, read_rows

SO2SAT = {"s1": (2, "float32"), "s2": (10, "float32")}
FORESTNET = {"image": (6, "uint8")}


@pytest.fixture(scope="module")
def so2sat(tmp_path_factory):
    return make_geobench_v2(tmp_path_factory.mktemp("v2"), "geobench_so2sat", sensors=SO2SAT)


@pytest.fixture(scope="module")
def forestnet(tmp_path_factory):
    return make_geobench_v2(tmp_path_factory.mktemp("v2"), "geobench_forestnet", sensors=FORESTNET, placed=True)


def test_sensors_are_put_together_and_named(so2sat, tmp_path):
    (file,), images = so2sat
    made = convert_geobench(file, out=tmp_path / "s.parquet")
    assert made.title == "geobench_so2sat of GEO-Bench 2"
    assert made.bands[:3] == ("vh", "vv", "blue")
    assert made.report.splits == {"test": 3, "train": 9, "val": 3}
    index = Index.read(tmp_path / "s.parquet")
    assert index.categories == ["Logging road", "Mining", "Other"]
    for row in index.table.to_pylist():
        sample = images[row["path"].removesuffix(".tif")]
        np.testing.assert_array_equal(read_tiff(index.full_path(row["path"])), np.concatenate(list(sample.values())))


def test_places_and_dates_come_along(forestnet, tmp_path, capsys):
    (file,), _ = forestnet
    out = tmp_path / "f.parquet"
    assert main(["data", "geobench", str(file.parent), "-o", str(out), "--bands", "red,green,blue"]) == 0
    assert "red, green, blue" in capsys.readouterr().out
    for number, row in enumerate(sorted(Index.read(out).table.to_pylist(), key=lambda row: row["path"])):
        assert (row["lat"], row["lon"]) == (-3.5 + number, 102.25), "as the benchmark says, not the images' centre"
        assert row["crs"] == "EPSG:4326"
        assert row["band_names"] == "red,green,blue"
        assert row["timestamp"].isoformat() == "2014-07-01T00:00:00+00:00"


def test_parts_are_one_set(tmp_path):
    files, images = make_geobench_v2(tmp_path / "set", "geobench_so2sat", sensors=SO2SAT, parts=3)
    assert len(files) == 3
    assert find_tortillas(tmp_path / "set") == files
    made = convert_geobench(tmp_path / "set", out=tmp_path / "s.parquet")
    assert made.report.images == len(images) == 15


@pytest.mark.skipif(not HAS_TACO, reason="tacoreader is not installed")
@pytest.mark.filterwarnings("ignore")  # of their code
def test_the_same_as_tacoreader(so2sat, forestnet):
    import tacoreader

    for (file,), _ in (so2sat, forestnet):
        theirs = tacoreader.load([str(file)])
        ours = {row["tortilla:id"]: row for row in read_rows(file)}
        found = GeobenchV2([file])
        assert len(theirs) == len(ours) == len(found.splits)
        for i in range(len(theirs)):
            row = theirs.iloc[i]
            assert inner_path(file, ours[row["tortilla:id"]]) == row["internal:subfile"]
            inner = theirs.read(i)
            arrays = [read_tiff(inner.read(k)) for k in range(len(inner))]
            np.testing.assert_array_equal(found.pixels(i), np.concatenate(arrays))


@pytest.mark.skipif(not (HAS_TACO and find_spec("geobench_v2")), reason="geobenchv2 is not installed")
@pytest.mark.filterwarnings("ignore")  # of their code
def test_the_same_as_geobenchv2s_own_data_set(so2sat, forestnet):
    from geobench_v2.datasets import GeoBenchForestnet, GeoBenchSo2Sat
    from torch import nn

    for (file,), kind, bands in (
        (so2sat[0], GeoBenchSo2Sat, {"s2": ("B04", "B03", "B02"), "s1": ("VV", "VH")}),
        (forestnet[0], GeoBenchForestnet, ("B04", "B03", "B02")),
    ):
        found, at = GeobenchV2([file]), 0
        for split in ("train", "validation", "test"):
            for sample in kind(root=file.parent, split=split, band_order=bands, data_normalizer=nn.Identity):
                image = sample["image_s2"] if "image_s2" in sample else sample["image"]
                chosen = [found.bands.index(name) for name in ("red", "green", "blue")]
                np.testing.assert_array_equal(found.pixels(at)[chosen], image.numpy())
                at += 1
        assert at == len(found.splits)


def test_what_is_no_set_of_one_class_an_image(tmp_path):
    tif = write_tiff(tmp_path / "a.tif", np.zeros((3, 4, 4), "uint8"))
    cases = [
        ({"split": "train"}, "has no columns labels"),
        ({"labels": "a"}, "a split None"),
        ({"split": "train", "labels": ["a", "b"]}, "only sets of one class an image are read"),
    ]
    for about, message in cases:
        file = write_tortilla(tmp_path / "x.tortilla", [("s", tif, "GTiff", about)])
        with pytest.raises(UsageError, match=message):
            convert_geobench(file, out=tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="--partition: is for GEO-Bench 1"):
        convert_geobench(file, out=tmp_path / "x.parquet", partition="0.1x_train")


def test_images_of_one_sensor_need_no_tortilla_each(tmp_path):
    files = []
    for k, split in enumerate(("train", "validation", "test")):
        tif = write_tiff(tmp_path / f"{k}.tif", np.full((3, 4, 4), k, "uint8"))
        files.append((f"s{k}", tif, "GTiff", {"split": split, "labels": "ab"[k % 2]}))
    found = GeobenchV2([write_tortilla(tmp_path / "x.tortilla", files)])
    assert found.bands == ("s0_1", "s0_2", "s0_3")
    assert found.pixels(0).max() == 0
    with pytest.raises(GeosslError, match=r"s1: has the bands \[\('s1', 3\)\], where the first has \[\('s0', 3\)\]"):
        found.pixels(1)


def test_a_name_that_leaves_the_folder_is_refused(tmp_path):
    tif = write_tiff(tmp_path / "a.tif", np.zeros((3, 4, 4), "uint8"))
    for k, name in enumerate(("../a", ".a", "a\\b")):
        file = write_tortilla(tmp_path / "x.tortilla", [(name, tif, "GTiff", {"split": "train", "labels": "a"})])
        with pytest.raises(GeosslError, match="cannot be that of a file"):
            convert_geobench(file, out=tmp_path / f"{k}.parquet")


def test_sensors_of_different_sizes_are_refused(tmp_path):
    small, large = (write_tiff(tmp_path / f"{n}.tif", np.zeros((2, n, n), "uint8")) for n in (4, 8))
    about = {"split": "train", "labels": "a"}
    inner = write_tortilla(tmp_path / "i.tortilla", [("s1", small, "GTiff", about), ("s2", large, "GTiff", about)])
    file = write_tortilla(tmp_path / "x.tortilla", [("sample", inner, "TORTILLA", about)])
    with pytest.raises(
        GeosslError, match=r"sample: its sensors have images of different sizes: s1 \(4, 4\), s2 \(8, 8\)"
    ):
        convert_geobench(file, out=tmp_path / "x.parquet")


def test_damaged_files_are_named(tmp_path, so2sat):
    (file,), _ = so2sat
    whole = file.read_bytes()
    broken = tmp_path / "geobench_so2sat.tortilla"
    huge = whole[:10] + b"\xff" * 8 + whole[18:]
    for content in (b"", b"PK" + whole[2:], whole[:100], whole[:-10], whole[:2] + b"\xff" * 8 + whole[10:], huge[:-1]):
        broken.write_bytes(content)
        with pytest.raises(
            GeosslError, match=r"geobench_so2sat\.tortilla: (not a tortilla|a damaged tortilla)"
        ) as caught:
            convert_geobench(broken, out=tmp_path / "x.parquet")
        assert "\n" not in str(caught.value)
    no_offsets = pa.BufferOutputStream()
    pq.write_table(pa.table({"tortilla:id": ["a"]}), no_offsets)
    footer = no_offsets.getvalue().to_pybytes()
    broken.write_bytes(b"#y" + (18).to_bytes(8, "little") + len(footer).to_bytes(8, "little") + footer)
    with pytest.raises(GeosslError, match="a damaged tortilla"):
        read_rows(broken)


def test_an_image_that_is_none_is_named(tmp_path):
    text = tmp_path / "a.tif"
    text.write_text("no image")
    about = {"split": "train", "labels": "a"}
    file = write_tortilla(tmp_path / "x.tortilla", [("one", text, "GTiff", about)])
    with pytest.raises(GeosslError, match=r"x\.tortilla: one: cannot be read"):
        GeobenchV2([file])
