"""Tile2Vec's land-cover tiles: read as they are published, with every fault in them, and learnt from."""

import csv
import json
import pickle
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from sklearn.metrics import accuracy_score

from geossl.cli import app, main
from geossl.config import LoaderConfig
from geossl.data.fallback import quiet
from geossl.data.index import Index
from geossl.data.synth.landcover import COVERS, FAULTS, make_landcover
from geossl.errors import GeosslError, UsageError
from geossl.evaluate.features import frozen_loader
from geossl.evaluate.predictions import read_predictions
from geossl.finetuning.config import make_config
from geossl.finetuning.data import read_labelled
from geossl.models.backbone import build_backbone
from geossl.models.weights import IMAGENET_MEAN, IMAGENET_STD
from geossl.transfer import naip
from geossl.transfer.cdl import CDL
from geossl.transfer.naip import convert_naip
from geossl.transfer.tile2vec import find_tiles

NAIP = Path(__file__).resolve().parents[3] / "shared/data/naip"
PUBLISHED_CODES = {
    *(1, 2, 21, 24, 28, 36, 49, 54, 61, 69, 71, 72, 75, 76, 111, 121, 122, 123, 124, 152, 176, 204, 205, 208, 212),
    *(217, 225, 236),
}
"""Of the thousand tiles of ermongroup/tile2vec, as its examples print them."""


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """A made set, without faults."""
    return make_landcover(tmp_path_factory.mktemp("made") / "naip", tiles=150, size=32, workers=2).folder


def write_tiles(folder, arrays, *, labels=None, splits=None, first=0):
    """A set of these tiles, with the labels 1, 2, 1, 2, ... unless others are given."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, tile in enumerate(arrays, first):
        np.save(folder / f"{number}tile.npy", tile)
    np.save(folder / "y.npy", np.arange(len(arrays)) % 2 + 1.0 if labels is None else np.asarray(labels))
    if splits is not None:
        np.save(folder / "splits.npy", np.asarray(splits))
    return folder


def noise(count, shape=(8, 8, 4), seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8))


def pixels_of(index, *, size):
    """Every image as the loader gives it and as rasterio reads it, [N, bands, size, size], in the index's order."""
    loader = frozen_loader(
        index,
        rows=index.rows(),
        size=size,
        context=True,
        batch=64,
        device=torch.device("cpu"),
        loader=LoaderConfig(threads=2),
    )
    loaded = torch.cat([batch.images[0] for batch in loader]).numpy()
    stored = []
    for path in index.table["path"].to_pylist():
        with quiet(), rasterio.open(index.full_path(path)) as file:
            assert file.compression is rasterio.enums.Compression.zstd
            stored.append(file.read())
    return loaded, np.stack(stored)


def by_path(index, column):
    return dict(zip(index.table["path"].to_pylist(), index.table[column].to_pylist(), strict=True))


# The made set


def test_the_made_set_has_the_published_layout(tiles):
    labels, splits = np.load(tiles / "y.npy"), np.load(tiles / "splits.npy")
    assert labels.dtype == np.float64
    assert labels.shape == splits.shape == (150,)
    assert sorted(path.name for path in (tiles / "tiles").iterdir()) == sorted(f"{i}tile.npy" for i in range(150))
    for i, label in enumerate(labels):
        tile = np.load(tiles / "tiles" / f"{i}tile.npy")
        assert (tile.dtype, tile.shape) == (np.uint8, (32, 32, 5))
        assert np.bincount(tile[..., 4].ravel()).argmax() == label
        assert tile[..., :4].std() > 1
    assert set(labels) == {cover.code for cover in COVERS} <= CDL.keys()
    for split in range(3):
        assert set(labels[splits == split]) == set(labels), "every class in every split"
    assert np.bincount(splits).tolist() == pytest.approx([90, 30, 30], abs=6)


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    digests = []
    for name, seed, workers in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
        folder = make_landcover(tmp_path / name, tiles=90, size=32, seed=seed, workers=workers, faults=True).folder
        digests.append([path.read_bytes() for path in sorted(folder.rglob("*.npy"))])
    assert digests[0] == digests[1] != digests[2]
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        make_landcover(tmp_path / "a", tiles=90)
    with pytest.raises(UsageError, match="places: must be 90 or more, not 3"):
        make_landcover(tmp_path / "d", tiles=3)


# Reading


def test_tiles_come_back_identical_with_their_labels_and_splits(tiles, tmp_path, capsys):
    out = tmp_path / "naip.parquet"
    assert main(["data", "naip", str(tiles), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Tile2Vec's tiles 32 x 32 x 5, bands last, numbered from 0; y.npy: CDL codes; splits.npy" in said
    assert "the label is the most frequent class of the tile's mask in 150 of 150 tiles" in said
    assert "rejected" not in said
    assert f"next: geossl finetune RUN --data {out} --split-test val,test" in said
    index = Index.read(out)
    labels, splits = np.load(tiles / "y.npy"), np.load(tiles / "splits.npy")
    numbers = [int(path.removesuffix("tile.tif")) for path in index.table["path"].to_pylist()]
    assert numbers == list(range(150))
    assert index.table["category"].to_pylist() == [CDL[int(code)] for code in labels]
    assert index.table["split"].to_pylist() == [("train", "val", "test")[code] for code in splits]
    assert set(index.table["band_names"].to_pylist()) == {"red,green,blue,nir"}
    want = np.stack([np.load(tiles / "tiles" / f"{i}tile.npy")[..., :4].transpose(2, 0, 1) for i in range(150)])
    for got in pixels_of(index, size=32):
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, want)


def test_bands_are_chosen_by_name(tiles, tmp_path):
    made = convert_naip(tiles, out=tmp_path / "rgb.parquet", bands=["red", "green", "blue"])
    assert made.bands == ("red", "green", "blue")
    _, stored = pixels_of(Index.read(tmp_path / "rgb.parquet"), size=32)
    np.testing.assert_array_equal(stored[7], np.load(tiles / "tiles" / "7tile.npy")[..., :3].transpose(2, 0, 1))
    with pytest.raises(UsageError, match="--bands: the tiles have no swir; their bands are red, green, blue, nir"):
        convert_naip(tiles, out=tmp_path / "x.parquet", bands=["red", "swir"])
    with pytest.raises(UsageError, match="name each band once"):
        convert_naip(tiles, out=tmp_path / "x.parquet", bands=["red", "red"])
    with pytest.raises(UsageError, match="holds images of another conversion"):
        convert_naip(tiles, out=tmp_path / "rgb.parquet")


def test_variants_are_told_apart_by_the_files(tmp_path):
    # The thousand tiles beside the published code: from 1, without splits, the labels as floats, in one folder.
    arrays = noise(4, (8, 8, 5))
    found = find_tiles(write_tiles(tmp_path / "a", arrays, labels=[1.0, 75.0, 204.0, 1.0], first=1))
    assert (found.first, found.bands_last, found.coding, found.splits) == (1, True, "CDL codes", None)
    assert found.categories == ["Corn", "Almonds", "Pistachios", "Corn"]
    np.testing.assert_array_equal(found.read(2)[0], arrays[1][..., :4].transpose(2, 0, 1))
    np.testing.assert_array_equal(found.read(2)[1], arrays[1][..., 4])
    # Bands first, three of them, class numbers, one column.
    arrays = noise(4, (3, 8, 9))
    found = find_tiles(write_tiles(tmp_path / "b", arrays, labels=[[0], [1], [2], [0]], splits=[0, 1, 2, 2]))
    assert (found.first, found.bands_last, found.coding) == (0, False, "class numbers")
    assert found.bands == ("red", "green", "blue")
    assert (found.categories, found.splits) == (["0", "1", "2", "0"], ["train", "val", "test", "test"])
    np.testing.assert_array_equal(found.read(3)[0], arrays[3])
    assert not found.has_mask
    # Text, numbers that are no codes, floats of whole numbers.
    arrays = [tile.astype(np.float64) for tile in noise(3)]
    folder = write_tiles(tmp_path / "c", arrays, labels=["corn", " rice ", ""], splits=["train", "Validation", "test"])
    found = find_tiles(folder)
    assert (found.categories, found.coding) == (["corn", "rice", None], "names")
    assert found.splits == ["train", "val", "test"]
    assert found.faults == {2: "label missing: empty"}
    assert found.read(0)[0].dtype == np.uint8
    np.testing.assert_array_equal(found.read(0)[0], arrays[0].transpose(2, 0, 1))
    found = find_tiles(write_tiles(tmp_path / "d", noise(3), labels=[7, 7, 300]))
    assert (found.categories, found.coding) == (["7", "7", "300"], "numbers")
    # As the group's program is configured: a folder of the tiles, and the two arrays beside it.
    write_tiles(tmp_path / "e" / "supervised_50_100", noise(4))
    (tmp_path / "e" / "supervised_50_100" / "y.npy").rename(tmp_path / "e" / "y_50_100.npy")
    np.save(tmp_path / "e" / "splits.npy", [0, 0, 1, 2])
    assert find_tiles(tmp_path / "e").splits == ["train", "train", "val", "test"]


def test_labels_that_belong_to_other_tiles_are_noticed(tmp_path):
    arrays = noise(4, (8, 8, 5))
    for tile, code in zip(arrays, (1, 2, 75, 61), strict=True):
        tile[..., 4] = code
    folder = write_tiles(tmp_path / "a", arrays, labels=[2, 75, 61, 1])
    made = convert_naip(folder, out=tmp_path / "a.parquet")
    assert "warning: the label is the most frequent class of the tile's mask in 0 of 4 tiles" in made.notes[0]


def test_the_names_of_the_classes_differ():
    assert len(set(CDL.values())) == len(CDL)
    assert CDL.keys() >= PUBLISHED_CODES
    assert (CDL[1], CDL[26], CDL[61], CDL[176], CDL[254]) == (
        "Corn",
        "Dbl Crop WinWht/Soybeans",
        "Fallow/Idle Cropland",
        "Grassland/Pasture",
        "Dbl Crop Barley/Soybeans",
    )


# Faults


def test_every_bad_tile_is_named(tmp_path, capsys):
    made = make_landcover(tmp_path / "naip", tiles=90, size=32, faults=True)
    number = made.faults
    assert tuple(number) == FAULTS
    out = tmp_path / "naip.parquet"
    assert main(["data", "naip", str(made.folder), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    reasons = {
        "wrong shape": "wrong shape: 32 x 31 x 5, others 32 x 32 x 5",
        "NaN": "NaN: 1 of 5,120 samples",
        "truncated": "not an array of NumPy: ",
        "pickle": "not an array of NumPy: ",
        "no file": "no such tile: it has a label, and no file",
        "no label": "label missing: nan",
        "no split": "no split: 7, which is not 0 train, 1 val, 2 test",
        "no number": "no label: those are of the tiles 0 to 98",
    }
    with (tmp_path / "naip.images" / "faults.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rejected = {row["tile"]: row["fault"] for row in rows if row["left_out"] == "yes"}
    assert rejected.keys() == {f"{number[fault]}tile.npy" for fault in reasons}
    for fault, reason in reasons.items():
        assert rejected[f"{number[fault]}tile.npy"].startswith(reason)
    pair = {split: f"{number[f'same pixels in {split}']}tile.npy" for split in ("train", "test")}
    both = f"{pair['train']} (train), {pair['test']} (test)"
    assert [(row["tile"], row["fault"]) for row in rows if row["left_out"] == "no"] == [
        (tile, f"in several splits: {both}") for tile in pair.values()
    ]
    assert f"splits overlap: 2 tiles with pixels of another split, which stay: e.g. {both}" in said
    assert f"tiles with faults -> {tmp_path / 'naip.images' / 'faults.csv'}" in said
    index = Index.read(out)
    kept = {f"{n}tile.tif" for n in range(90)} | {f"{number[f'same pixels in {s}']}tile.tif" for s in ("train", "test")}
    assert set(index.table["path"].to_pylist()) == kept
    main(["data", "leaks", str(out)])
    said = capsys.readouterr().out
    assert all(f"{number[f'same pixels in {split}']}tile.tif" in said for split in ("train", "test"))


def make_run(folder):
    """The folder of a run whose encoder has random weights."""
    built = build_backbone("timm/test_resnet", bands=3, seed=7, size=32)
    state = {f"module.encoder_q.{name}": value for name, value in built.state_dict().items()}
    own = {"config": {"arm": "tp", "crop": {"size": 32}}, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    (folder / "checkpoints").mkdir(parents=True)
    content = {"arch": "timm/test_resnet", "state_dict": state, "geossl": own}
    torch.save(content, folder / "checkpoints" / "last.pt")
    return folder


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_what_is_no_set_of_tiles(tmp_path):
    def wrong(folder, message, **options):
        with pytest.raises(UsageError, match=message):
            convert_naip(folder, out=tmp_path / "x.parquet", **options)
        assert not (tmp_path / "x.parquet").exists()

    wrong(tmp_path / "none", "no such folder")
    (tmp_path / "empty").mkdir()
    wrong(tmp_path / "empty", "no tiles named 0tile.npy, 1tile.npy")
    (tmp_path / "empty" / "a.tif").write_bytes(b"")
    wrong(tmp_path / "empty", "geossl data index --layout geotiff")
    for name in ("one", "two"):
        write_tiles(tmp_path / "several" / name, noise(2))
    wrong(tmp_path / "several", "several folders of tiles; give one: .*one, .*two")
    folder = write_tiles(tmp_path / "a", noise(4))
    wrong(folder, "no such file", labels=tmp_path / "y.npy")
    np.save(folder / "y_more.npy", [1, 2, 1, 2])
    assert find_tiles(folder).codes.tolist() == [1, 2, 1, 2], "y.npy comes first"
    (folder / "y.npy").rename(folder / "y_other.npy")
    wrong(folder, "several files of labels: .*y_more.npy, .*y_other.npy; name one with --labels")
    assert len(find_tiles(folder, labels=folder / "y_more.npy").codes) == 4
    (folder / "y_more.npy").unlink()
    (folder / "y_other.npy").unlink()
    wrong(folder, "no labels: no y.npy or y_")
    np.save(folder / "y.npy", [1, 2, 1, 2])
    np.save(folder / "splits.npy", [0, 1, 2])
    wrong(folder, r"splits.npy: 3 splits and 4 labels \(.*y.npy\)")
    np.save(folder / "splits.npy", {"train": [0, 1]})
    wrong(folder, "splits.npy: cannot be read: .*only plain arrays of numbers or text are")
    (folder / "splits.npy").unlink()
    (folder / "y.npy").write_bytes(pickle.dumps(Harmful()))
    wrong(folder, "y.npy: cannot be read")
    np.save(folder / "y.npy", np.ones((4, 2)))
    wrong(folder, "y.npy: holds 4 x 2 of float64; one number or text a tile is expected")
    np.save(folder / "y.npy", [np.nan] * 4)
    wrong(folder, "none of its 4 tiles can be used: 4 x label missing: nan")
    wrong(write_tiles(tmp_path / "b", noise(2, (8, 9, 7))), "tiles of 8 x 9 x 7; 3 to 5 bands come last or first")
    wrong(
        write_tiles(tmp_path / "c", noise(2, (8, 9))), "none of the 2 tiles looked at is an array of three dimensions"
    )
    with pytest.raises(UsageError, match=r"the index is a \.parquet file"):
        convert_naip(tmp_path / "b", out=tmp_path / "x.csv")


def test_samples_that_are_not_of_8_bits(tmp_path):
    arrays = [tile.astype(np.float32) for tile in noise(5)]
    arrays[1] += np.float32(0.5)
    arrays[2] *= 300
    arrays[3][:] = np.inf
    made = convert_naip(write_tiles(tmp_path / "a", arrays), out=tmp_path / "a.parquet")
    reasons = dict(made.report.rejected)
    assert reasons["1tile.npy"].startswith("not of 8 bits: float32 of ")
    assert reasons["2tile.npy"].startswith("not of 8 bits: float32 of 0 to ")
    assert reasons["3tile.npy"] == "NaN: 256 of 256 samples"
    assert made.report.images == 2


# Interruptions


def test_an_interrupted_conversion_goes_on(tmp_path, monkeypatch):
    folder, out = write_tiles(tmp_path / "a", noise(6)), tmp_path / "a.parquet"
    whole = naip.write_geotiff

    def full(file, *rest, **more):
        if file.name == "3tile.tif":
            raise GeosslError("the disk is full")
        whole(file, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(naip, "write_geotiff", full)
        with pytest.raises(GeosslError, match="the disk is full"):
            convert_naip(folder, out=out, threads=1)
    assert not out.exists()
    images = tmp_path / "a.images"
    before = {path.name: path.stat().st_mtime_ns for path in images.glob("*.tif")}
    assert {"0tile.tif", "1tile.tif", "2tile.tif"} <= before.keys()
    assert "3tile.tif" not in before
    convert_naip(folder, out=out)
    assert all((images / name).stat().st_mtime_ns == time for name, time in before.items())
    assert len(Index.read(out)) == 6
    convert_naip(folder, out=tmp_path / "b.parquet")
    assert Index.read(out).content_hash == Index.read(tmp_path / "b.parquet").content_hash


# Real images


@pytest.mark.skipif(not NAIP.is_dir(), reason="the NAIP scenes are not beside the checkout")
def test_tiles_of_real_scenes_come_back_identical(tmp_path):
    rng = np.random.default_rng(0)
    cut = []
    for scene in sorted(NAIP.glob("*.tif"))[:3]:
        with rasterio.open(scene) as file:
            for _ in range(4):
                left, top = int(rng.integers(file.width - 50)), int(rng.integers(file.height - 50))
                at = rasterio.windows.Window(left, top, 50, 50)
                cut.append(file.read(window=at))
    assert np.stack(cut).std((1, 2, 3)).min() > 0
    folder = write_tiles(tmp_path / "naip", [tile.transpose(1, 2, 0) for tile in cut], splits=[0, 0, 0, 1] * 3)
    convert_naip(folder, out=tmp_path / "naip.parquet")
    for got in pixels_of(Index.read(tmp_path / "naip.parquet"), size=50):
        np.testing.assert_array_equal(got, np.stack(cut))


# Learning


def test_the_tutorials_commands_are_known():
    text = (Path(__file__).parents[2] / "docs" / "landcover.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("geossl ")]
    assert {line.split()[1] for line in lines} == {"data", "finetune", "predict", "probe", "reproduce"}
    for line in lines:
        app.parse_args(line.split()[1:], exit_on_error=False, print_error=False)


def test_few_labels_keep_every_class(tiles, tmp_path):
    convert_naip(tiles, out=tmp_path / "naip.parquet")
    settings = {"from_scratch": True, "backbone": "resnet18", "out": tmp_path / "out"}
    data = read_labelled(make_config(data=tmp_path / "naip.parquet", labels=10, **settings))
    train = np.load(tiles / "splits.npy") == 0
    counts = np.unique(np.load(tiles / "y.npy")[train], return_counts=True)[1]
    used = np.unique(data.labels[data.train], return_counts=True)[1]
    assert sorted(used) == sorted(max(1, round(count / 10)) for count in counts)


def test_training_beats_a_constant_by_far(tmp_path, capsys):
    made, index, run = tmp_path / "naip", tmp_path / "naip.parquet", tmp_path / "run"
    assert main(["data", "synth", str(made), "--task", "landcover", "--places", "400", "--size", "32"]) == 0
    assert "400 tiles of 18 classes" in capsys.readouterr().out
    assert main(["data", "naip", str(made), "-o", str(index)]) == 0
    words = ["finetune", "--from-scratch", "--backbone", "timm/test_resnet", "--size", "32", "--data", str(index)]
    words += ["--out", str(run), "--split-test", "val,test", "--epochs", "15", "--batch", "32", "--lr", "0.1"]
    assert main([*words, "--device", "cpu", "--threads", "1"]) == 0
    (found,), _ = read_predictions(run / "test" / "predictions.parquet")
    labels = found.labels.numpy()
    scores = json.loads((run / "finetune.json").read_text())
    assert scores["rows"][0]["scores"]["top1"] == accuracy_score(labels, found.probabilities.argmax(1))
    splits = np.load(made / "splits.npy")
    assert scores["test_images"] == np.count_nonzero(splits)
    constant = max(np.bincount(np.load(made / "y.npy")[splits == 0].astype(int))) / np.count_nonzero(splits == 0)
    assert constant < 0.25
    assert scores["rows"][0]["scores"]["top1"] > constant + 0.4


def test_the_papers_row_stands_beside_ours(tmp_path, capsys):
    """The shipped grid, with a small model, few epochs and one encoder of the user's."""
    make_landcover(tmp_path / "naip", tiles=120, size=32)
    convert_naip(tmp_path / "naip", out=tmp_path / "naip.parquet", bands=["red", "green", "blue"])
    run = make_run(tmp_path / "run")
    grid = yaml.safe_load((resources.files("geossl.reproduce") / "grids" / "naip-paper.yaml").read_text())
    grid["backbone"] = "timm/test_resnet"
    grid["evaluation"] |= {"finetune_epochs": 1, "baselines": []}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(grid))
    words = ["reproduce", str(tmp_path / "small.yaml"), "--data", str(tmp_path / "naip.parquet"), "--threads", "1"]
    words += ["--out", str(tmp_path / "out"), "--device", "cpu", "--weights", f"geo={run}"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "no arm is pretrained here: no step to measure" in said
    assert "left out: moco: no file of its weights was given; --weights moco=FILE does" in said
    table = {}
    for line in (tmp_path / "out" / "report.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5:
            table.setdefault(cells[0], cells[1:])
    assert table["MoCo-V2+Geo"][3] == "58.23"
    assert table["MoCo-V2+Geo"][0][0].isdigit(), "frozen"
    assert table["MoCo-V2+Geo"][2][0].isdigit(), "finetuned"
    assert table["MoCo-V2"] == ["-", "-", "-", "55.18"]
    assert (table["Random init"][0], table["Random init"][3]) == ("-", "51.89")
    probed = json.loads((tmp_path / "out" / "cells" / "geo-0" / "probe.json").read_text())
    assert probed["test_images"] == np.count_nonzero(np.load(tmp_path / "naip" / "splits.npy"))
