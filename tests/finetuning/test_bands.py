"""Weights for RGB, finetuned on images of other bands or another type."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import rasterio
import torch
from finetune_data import MEAN, STD, load, make_run, run

from geossl.cli import main
from geossl.data.conversion import write_geotiff
from geossl.data.fallback import quiet
from geossl.data.index import GeoOptions, build_index
from geossl.errors import UsageError
from geossl.evaluate.probe import probe
from geossl.models.weights import CHECKPOINT, IMAGENET_MEAN, IMAGENET_STD, load_backbone

CLASSES = {"forest": (30, 60, 25, 160), "sand": (190, 160, 120, 200), "water": (20, 40, 60, 10)}
BANDS = ("red", "green", "blue", "nir")


def make_geotiffs(folder, *, dtype="uint8", bands=BANDS, scale=1.0, count=12):
    """Images by class, `<split>/<class>/<k>.tif`, whose class is seen in every band."""
    rng = np.random.default_rng(0)
    at = [BANDS.index(name) for name in bands]
    for name, level in CLASSES.items():
        for k in range(count):
            pixels = rng.normal(np.reshape(level, (4, 1, 1)), 6, (4, 32, 32))[at].clip(0, 255) * scale
            file = folder / ("train" if k < count * 3 // 4 else "val") / name / f"{k}.tif"
            write_geotiff(file, pixels.astype(dtype), names=bands)
    return folder


def index_of(folder, out):
    assert main(["data", "index", str(folder), "--layout", "geotiff", "--category-folders", "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    return index_of(make_geotiffs(folder / "images"), folder / "four.parquet")


@pytest.fixture
def begin(tmp_path):
    return make_run(tmp_path / "run")


def first_weight(state):
    return next(value for name, value in state.items() if value.ndim == 4 and name.endswith("weight"))


def test_a_run_on_rgb_is_finetuned_on_four_bands(begin, four, tmp_path):
    result, _ = run(begin, four, bands="red,green,blue,nir", epochs=1, lr=1e-12, out=tmp_path / "out")
    rgb = first_weight(load_backbone(begin).module.body.state_dict())
    spread = first_weight({n: v for n, v in load(tmp_path / "out")["state_dict"].items() if "encoder_q." in n})
    want = torch.cat([rgb, rgb.mean(1, keepdim=True)], 1) * 3 / 4
    torch.testing.assert_close(spread, want, rtol=0, atol=1e-6)
    saved = load_backbone(tmp_path / "out")
    assert saved.bands == 4
    assert saved.chosen_bands == list(BANDS)
    assert (list(saved.mean[:3]), list(saved.std[:3])) == (MEAN, STD), "as the weights expect"
    images = []
    for path in (four.parent / "images" / "train").rglob("*.tif"):
        with quiet(), rasterio.open(path) as file:
            images.append(file.read(4) / 255)
    assert saved.mean[3] == pytest.approx(np.mean(images), abs=1e-5)
    assert saved.std[3] == pytest.approx(np.std(images), abs=1e-5)
    assert result.report.notes[0] == (
        "weights for RGB, spread over red, green, blue, nir: other bands begin with the mean of red, green and blue"
    )
    assert result.report.settings["bands"] == list(BANDS)


def test_it_learns_and_goes_on(begin, four, tmp_path):
    settings = {"bands": "red,green,blue,nir", "epochs": 12, "lr": 0.01, "out": tmp_path / "out"}
    result, _ = run(begin, four, **settings)
    assert result.report.rows[0].scores.top1 == 1
    again, said = run(begin, four, **settings, resume="auto")
    assert "already trained" in said
    assert again.report.notes == result.report.notes
    with pytest.raises(UsageError, match=r"cannot resume with changed settings \(bands\)"):
        run(begin, four, **settings | {"bands": "red,green,blue"}, resume="auto")
    # The finetuned encoder is for four bands, and for no others.
    with pytest.raises(UsageError, match="only weights for three bands"):
        run(tmp_path / "out", four, bands="nir,red", out=tmp_path / "more")


def test_three_of_four_bands(begin, four, tmp_path):
    with pytest.raises(UsageError, match=r"choose three with --bands, or spread .*: --bands red,green,blue,nir$"):
        run(begin, four, out=tmp_path / "none")
    result, _ = run(begin, four, bands="red,green,blue", epochs=1, out=tmp_path / "out")
    assert (load_backbone(tmp_path / "out").bands, result.report.notes[:1]) != (4, ["weights for RGB"])
    assert load_backbone(tmp_path / "out").mean == tuple(MEAN)
    words = ["probe", str(begin), "--data", str(four), "--baselines", "none", "--methods", "knn", "--threads", "1"]
    assert main(words) == 2
    assert main([*words, "--bands", "red,green,blue"]) == 0
    scores = json.loads((begin / "probe.json").read_text())
    assert scores["settings"]["bands"] == ["red", "green", "blue"]
    assert scores["rows"][0]["scores"]["top1"] > 0.9


@pytest.mark.parametrize("bands", [BANDS, BANDS[:3]])
def test_16_bits_under_weights_of_8_bit_photos(tmp_path, bands):
    data = index_of(make_geotiffs(tmp_path / "i", dtype="uint16", bands=bands, scale=20), tmp_path / "i.parquet")
    begin = make_run(tmp_path / "run")
    content = torch.load(begin / CHECKPOINT, weights_only=True)
    content["geossl"] |= {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    torch.save(content, begin / CHECKPOINT)
    result, _ = run(begin, data, bands=bands, epochs=12, lr=0.01)
    assert result.report.rows[0].scores.top1 == 1
    levels = np.array(list(CLASSES.values()))[:, : len(bands)].mean(0) * 20 / 65535
    assert load_backbone(begin / "finetune").mean == pytest.approx(levels, rel=0.05)
    note = "the weights' normalisation is of 8-bit images; these are normalised by their own mean and deviation"
    assert (note in result.report.notes) == (len(bands) == 3)
    report = probe(begin, data=data, bands=bands[:3], methods=["knn"], baselines=[], device="cpu", threads=1)
    assert "normalisation is of 8-bit images, and these have 16 bits" in report.notes[-1]


def test_categories_and_splits_by_folders(four, tmp_path):
    index, report = build_index(four.parent / "images", layout="geotiff")
    assert (index.table["category"].null_count, index.table["split"].null_count) == (36, 36), "only where it is said"
    options = GeoOptions(category_folders=True)
    index, report = build_index(four.parent / "images", layout="geotiff", geo=options)
    assert report.splits == {"train": 27, "val": 9}
    for row in index.table.to_pylist():
        assert row["path"].split("/")[:2] == [row["split"], row["category"]]
    inside, _ = build_index(four.parent / "images" / "val", layout="geotiff", geo=options)
    assert set(inside.table["split"].to_pylist()) == {"val"}, "the folder's own name"
    assert set(inside.table["category"].to_pylist()) == set(CLASSES)
    flat = tmp_path / "flat"
    write_geotiff(flat / "train" / "a.tif", np.zeros((1, 8, 8), "uint8"), names=["x"])
    with pytest.raises(UsageError, match="--category-folders: no image lies in a folder of a category"):
        build_index(flat, layout="geotiff", geo=options)
    with pytest.raises(UsageError, match="--category-folders: are for --layout geotiff"):
        build_index(flat, layout="photos", geo=options)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_list_of_labelled_geotiffs(begin, four, tmp_path, suffix):
    rows = build_index(four.parent / "images", layout="geotiff")[0].table["path"].to_pylist()
    table = pa.table(
        {"path": rows, "category": [r.split("/")[1] for r in rows], "split": [r.split("/")[0] for r in rows]}
    )
    listing = four.parent / "images" / f"list{suffix}"
    (pacsv.write_csv if suffix == ".csv" else pq.write_table)(table, listing)
    for layout in ("csv", "geotiff"):
        data = tmp_path / f"{layout}.parquet"
        assert main(["data", "index", str(listing), "--layout", layout, "-o", str(data)]) == 0
        result, _ = run(begin, data, bands="red,green,blue,nir", epochs=12, lr=0.01, out=tmp_path / layout)
        assert result.report.rows[0].scores.top1 == 1
    options = GeoOptions(category_folders=True)
    with pytest.raises(UsageError, match="--category-folders: is for a folder of GeoTIFFs"):
        build_index(listing, layout="geotiff", geo=options)
