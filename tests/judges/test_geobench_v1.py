"""GEO-Bench 1 by its published format: what its own code reads, ours does."""

import ast
import json
import os
import pickle

import numpy as np
import pytest
import rasterio
from made_sets import AERIAL, HAS_GEOBENCH, LANDSAT8, SENTINEL2, make_geobench_v1, needs_h5py, read_tiff

from geossl.cli import main
from geossl.data.index import Index
from geossl.errors import GeosslError, UsageError
from geossl.judges.bands import band_name
from geossl.judges.geobench import convert_geobench
from geossl.judges.geobench_v1 import GeobenchV1
from geossl.judges.pickles import read_pickle

pytestmark = needs_h5py


@pytest.fixture(scope="module")
def eurosat(tmp_path_factory):
    return make_geobench_v1(tmp_path_factory.mktemp("v1") / "m-eurosat")


@pytest.fixture(scope="module")
def forestnet(tmp_path_factory):
    return make_geobench_v1(
        tmp_path_factory.mktemp("v1") / "m-forestnet", bands=LANDSAT8, kind="l8", dtype="uint8", placed=True
    )


def test_samples_are_those_that_were_written(eurosat):
    found = GeobenchV1(eurosat.folder)
    assert found.bands[:4] == ("coastal_aerosol", "blue", "green", "red")
    assert found.bands[7:] == ("nir", "red_edge_4", "water_vapour", "swir_cirrus", "swir_1", "swir_2")
    names = [name for split in ("train", "valid", "test") for name in eurosat.partition[split]]
    assert found.splits == ["train"] * 12 + ["val"] * 6 + ["test"] * 6
    for i, name in enumerate(names):
        sample = found.describe(i)
        assert (sample.name, sample.category) == (name, eurosat.classes[eurosat.labels[name]])
        assert (sample.transform, sample.crs, sample.timestamp) == (None, None, None)
        np.testing.assert_array_equal(found.pixels(i), eurosat.pixels[name])
        assert found.pixels(i).dtype == np.int16


@pytest.mark.skipif(not HAS_GEOBENCH, reason="the package geobench is not installed")
@pytest.mark.filterwarnings("ignore")  # of their code
@pytest.mark.parametrize("made", ["eurosat", "forestnet"])
def test_the_same_as_geobenchs_own_reader(made, request):
    import geobench

    made = request.getfixturevalue(made)
    found = GeobenchV1(made.folder)
    at = 0
    for split in ("train", "valid", "test"):
        theirs = geobench.GeobenchDataset(made.folder, split=split, band_names=None)
        mean, std = theirs.normalization_stats()
        assert found.published_moments() == (mean, std)
        for sample in theirs:
            packed, names = sample.pack_to_3d(None)
            assert list(found.bands) == [band_name(name) for name in names]
            np.testing.assert_array_equal(found.pixels(at), packed.transpose(2, 0, 1))
            ours = found.describe(at)
            assert (ours.name, ours.category) == (
                sample.sample_name,
                theirs.task_specs.label_type.class_names[sample.label],
            )
            band = sample.bands[0]
            assert ours.transform == (None if band.transform is None else tuple(band.transform)[:6])
            assert band.crs is None or rasterio.CRS.from_user_input(ours.crs) == rasterio.CRS.from_user_input(band.crs)
            assert (ours.timestamp and ours.timestamp.date()) == band.date
            at += 1
    assert at == len(found.splits)


def test_an_index_with_splits_categories_and_all_bands(eurosat, tmp_path, capsys):
    out = tmp_path / "m-eurosat.parquet"
    assert main(["data", "geobench", str(eurosat.folder), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "m-eurosat of GEO-Bench 1" in said
    assert f"geossl probe RUN --data {out} --split-test test" in said
    index = Index.read(out)
    assert index.categories == sorted(eurosat.classes)
    assert [len(index.rows(split=split)) for split in ("train", "val", "test")] == [12, 6, 6]
    assert set(index.table["band_names"].to_pylist()) == {",".join(GeobenchV1(eurosat.folder).bands)}
    assert set(index.table["dtype"].to_pylist()) == {"int16"}
    assert len(set(index.places)) == 24, "every image is a place of its own"
    for row in index.table.to_pylist():
        name = row["path"].removesuffix(".tif")
        assert row["category"] == eurosat.classes[eurosat.labels[name]]
        np.testing.assert_array_equal(read_tiff(index.full_path(row["path"])), eurosat.pixels[name])


def test_places_and_dates_come_along(forestnet, tmp_path):
    made = convert_geobench(forestnet.folder, out=tmp_path / "f.parquet")
    assert made.report.places == 12, "two dates of each"
    for row in Index.read(tmp_path / "f.parquet").table.to_pylist():
        lat, lon, year, month, day = row["path"].removesuffix(".tif").split("_")
        assert (row["lat"], row["lon"]) == (pytest.approx(float(lat)), pytest.approx(float(lon)))
        assert row["timestamp"].isoformat() == f"{year}-{month}-{day}T00:00:00+00:00"
        assert row["crs"] == "EPSG:4326"


def test_bands_by_name_in_the_order_asked_for(forestnet, tmp_path):
    convert_geobench(forestnet.folder, out=tmp_path / "f.parquet", bands=["nir", "Red"])
    index = Index.read(tmp_path / "f.parquet")
    assert set(index.table["band_names"].to_pylist()) == {"nir,red"}
    row = index.table.to_pylist()[0]
    want = forestnet.pixels[row["path"].removesuffix(".tif")][[3, 0]]
    np.testing.assert_array_equal(read_tiff(index.full_path(row["path"])), want)


def test_names_that_look_shifted_are_noted(eurosat, tmp_path):
    assert convert_geobench(eurosat.folder, out=tmp_path / "a.parquet").notes == []
    stats = json.loads((eurosat.folder / "band_stats.json").read_text())
    # The means of the real m-eurosat, as torchgeo-bench has them.
    stats["09 - Water vapour"]["mean"], stats["10 - SWIR - Cirrus"]["mean"] = 12.2881, 1848.9
    shifted = make_geobench_v1(tmp_path / "m-eurosat")
    (shifted.folder / "band_stats.json").write_text(json.dumps(stats))
    (note,) = convert_geobench(shifted.folder, out=tmp_path / "b.parquet").notes
    assert "the bands beyond nir seem to have one another's names" in note


def test_a_smaller_training_set(eurosat, tmp_path):
    made = convert_geobench(eurosat.folder, out=tmp_path / "few.parquet", partition="0.01x_train")
    assert made.report.splits == {"test": 6, "train": 3, "val": 6}


def test_aerial_photos_are_red_green_blue(tmp_path):
    made = make_geobench_v1(
        tmp_path / "m-pv4ger", bands=AERIAL, kind="rgb", dtype="uint8", classes=("no solar pv", "solar pv")
    )
    convert_geobench(made.folder, out=tmp_path / "p.parquet")
    table = Index.read(tmp_path / "p.parquet").table
    assert set(table["band_names"].to_pylist()) == {"red,green,blue"}
    assert set(table["dtype"].to_pylist()) == {"uint8"}


def test_an_interrupted_conversion_goes_on(eurosat, tmp_path, monkeypatch):
    whole = tmp_path / "whole.parquet"
    convert_geobench(eurosat.folder, out=whole)
    out, read = tmp_path / "cut.parquet", []
    plain = GeobenchV1.pixels

    def some(self, i):
        read.append(i)
        if len(read) == 10:
            raise KeyboardInterrupt
        return plain(self, i)

    monkeypatch.setattr(GeobenchV1, "pixels", some)
    with pytest.raises(KeyboardInterrupt):
        convert_geobench(eurosat.folder, out=out)
    assert not out.exists()
    (out.with_suffix(".images") / ".id_0009.tif.tmp").write_bytes(b"half")
    convert_geobench(eurosat.folder, out=out)
    assert read == [*range(10), *range(9, 24)], "what was written is not read again"
    assert Index.read(out).content_hash == Index.read(whole).content_hash
    for file in whole.with_suffix(".images").glob("*.tif"):
        assert (out.with_suffix(".images") / file.name).read_bytes() == file.read_bytes()
    assert not list(out.with_suffix(".images").glob(".*"))
    with pytest.raises(UsageError, match="images of another conversion"):
        convert_geobench(eurosat.folder, out=out, bands=["red"])
    (tmp_path / "mine.images").mkdir()
    (tmp_path / "mine.images" / "photo.tif").write_bytes(b"mine")
    with pytest.raises(UsageError, match="holds other files"):
        convert_geobench(eurosat.folder, out=tmp_path / "mine.parquet")


def test_what_a_sample_asks_to_run_is_not_run(tmp_path):
    import h5py

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    made = make_geobench_v1(tmp_path / "m-x", bands=SENTINEL2[:3])
    with h5py.File(made.folder / "id_0000.hdf5", "r+") as file:
        about = read_pickle(ast.literal_eval(file.attrs["pickle"]))
        file.attrs["pickle"] = str(pickle.dumps({"label": Bomb(), "bands_order": about["bands_order"]}))
    with pytest.raises(GeosslError, match=r"its label, a posix\.mkdir, is none of the 3 classes"):
        GeobenchV1(made.folder).describe(0)
    assert not (tmp_path / "made").exists()


def test_bands_may_have_a_third_side_of_one(tmp_path):
    import h5py

    made = make_geobench_v1(tmp_path / "m-x", bands=SENTINEL2[:2])
    for shape, ok in (((16, 16, 1), True), ((16, 8, 2), False)):
        with h5py.File(made.folder / "id_0000.hdf5", "r+") as file:
            band = file["02 - Blue"][()]
            del file["02 - Blue"]
            file["02 - Blue"] = band.reshape(shape)
        if ok:
            np.testing.assert_array_equal(GeobenchV1(made.folder).pixels(0), made.pixels["id_0000"])
        else:
            with pytest.raises(GeosslError, match=r"id_0000\.hdf5: its bands cannot be read"):
                GeobenchV1(made.folder).pixels(0)


def test_numbers_stand_for_classes_without_names(tmp_path):
    made = make_geobench_v1(tmp_path / "m-x", classes=("same",) * 11, counts={"train": 11, "valid": 1, "test": 1})
    assert GeobenchV1(made.folder).describe(9).category == "09"


def test_mistakes(eurosat, tmp_path, capsys):
    multi = make_geobench_v1(tmp_path / "m-bigearthnet", label="MultiLabelClassification")
    (tmp_path / "plain").mkdir()
    cases = [
        (tmp_path / "nowhere", [], "no such file or folder"),
        (tmp_path / "plain", [], "not a set of GEO-Bench"),
        (tmp_path, [], "holds several sets; give one: "),
        (multi.folder, [], "MultiLabelClassification; only sets of one class an image"),
        (eurosat.folder, ["--partition", "0.5x"], "has 0.01x_train, default"),
        (eurosat.folder, ["--bands", "red,nir,pan"], "has no pan; its bands are coastal_aerosol, blue"),
        (eurosat.folder, ["--bands", "red,red"], "name each band once"),
        (eurosat.folder, ["--backbone", "resnet18"], "--backbone: is for --run"),
        (eurosat.folder, ["--run", str(tmp_path / "none")], "no such run or checkpoint"),
    ]
    for src, more, message in cases:
        assert main(["data", "geobench", str(src), "-o", str(tmp_path / "out.parquet"), *more]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    assert main(["data", "geobench", str(eurosat.folder), "-o", str(tmp_path / "out")]) == 2
    assert "the index is a .parquet file" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_broken_sets_are_named(tmp_path):
    made = make_geobench_v1(tmp_path / "m-x", bands=SENTINEL2[:3])
    partition = made.folder / "default_partition.json"
    whole = partition.read_text()
    for content, message in (
        ("{", "is not a list of samples"),
        (json.dumps({"dev": ["id_0000"]}), "is not a list of samples"),
        (json.dumps({"train": []}), "has no samples"),
        (json.dumps({"train": ["id_0000"], "test": ["id_0000"]}), "has id_0000 twice"),
        (json.dumps({"train": ["id_0000", "id_9999"]}), "1 of its 2 samples are missing, e.g. id_9999.hdf5"),
        (json.dumps({"train": ["../m-x/id_0000"]}), "1 of its 1 samples are missing"),
    ):
        partition.write_text(content)
        with pytest.raises(UsageError, match=message):
            GeobenchV1(made.folder)
    partition.write_text(whole)
    broken = made.folder / "id_0003.hdf5"
    sample = broken.read_bytes()
    broken.write_bytes(sample[: len(sample) // 2])
    with pytest.raises(GeosslError, match=r"id_0003\.hdf5: cannot be read as a sample"):
        convert_geobench(made.folder, out=tmp_path / "x.parquet")
    broken.write_bytes((made.folder / "id_0004.hdf5").read_bytes())
    (made.folder / "task_specs.pkl").write_bytes(pickle.dumps({"no": "specs"}))
    with pytest.raises(UsageError, match="does not describe a data set"):
        GeobenchV1(made.folder)
    (made.folder / "task_specs.pkl").write_bytes(b"?")
    with pytest.raises(UsageError, match="not a pickle"):
        GeobenchV1(made.folder)
