"""An encoder judged on a set that it was not made for: its bands by name, in the form that it takes."""

import json

import numpy as np
import pytest
import torch
from made_sets import LANDSAT8, make_geobench_v1, make_geobench_v2, needs_h5py

from geossl.cli import main
from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.errors import UsageError
from geossl.evaluate.features import extract
from geossl.judges.bands import RGB, bands_of
from geossl.judges.geobench import convert_geobench
from geossl.judges.geobench_v2 import GeobenchV2
from geossl.models.weights import load_backbone


def seen(index, encoder):
    """What an encoder is given of each image, [N, bands, size, size], by name."""
    images = []

    def note(x):
        images.append(x.clone())
        return x.mean((2, 3))

    rows = index.rows()
    bands = encoder.chosen_bands
    extract(
        note,
        index=index,
        rows=rows,
        **encoder.preparation,
        device=torch.device("cpu"),
        loader=LoaderConfig(bands=bands, threads=1),
        quiet=True,
    )
    names = [path.removesuffix(".tif") for path in index.table["path"].to_pylist()]
    return dict(zip(names, torch.cat(images).double().numpy(), strict=True))


@needs_h5py
def test_the_encoder_sees_the_bands_that_it_reads_standardised_by_the_set(make_run, tmp_path):
    made = make_geobench_v1(tmp_path / "m-eurosat")
    stats = json.loads((made.folder / "band_stats.json").read_text())
    published = {"red": "04 - Red", "green": "03 - Green", "blue": "02 - Blue", "nir": "08 - NIR"}
    for name, run, bands in (
        ("rgb", make_run(), RGB),
        ("named", make_run(bands=2, chosen=["nir", "red"], mean=(0.1, 0.2), std=(0.3, 0.02)), ("nir", "red")),
    ):
        made_index = convert_geobench(made.folder, out=tmp_path / f"{name}.parquet", run=run)
        assert made_index.bands == bands
        order = [int(published[band][:2]) - 1 for band in bands]
        mean, std = ([stats[published[band]][what] for band in bands] for what in ("mean", "std"))
        got = seen(Index.read(tmp_path / f"{name}.parquet"), load_backbone(run))
        for sample, image in got.items():
            want = (made.pixels[sample][order] - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
            np.testing.assert_allclose(image, want, atol=2e-4)


def test_without_published_statistics_they_are_those_of_the_training_images(run, tmp_path):
    (file,), images = make_geobench_v2(tmp_path / "v2", "geobench_forestnet", sensors={"image": (6, "uint8")})
    found = GeobenchV2([file])
    train = np.stack([found.pixels(i) for i, split in enumerate(found.splits) if split == "train"])[:, [2, 1, 0]]
    mean, std = train.mean((0, 2, 3), keepdims=True)[0], train.std((0, 2, 3), keepdims=True)[0]
    convert_geobench(file, out=tmp_path / "f.parquet", run=run)
    for sample, image in seen(Index.read(tmp_path / "f.parquet"), load_backbone(run)).items():
        np.testing.assert_allclose(image, (images[sample]["image"][[2, 1, 0]] - mean) / std, atol=2e-5)


@needs_h5py
def test_a_probe_on_a_set_of_thirteen_bands_from_the_command_line(run, tmp_path, capsys):
    made = make_geobench_v1(tmp_path / "m-eurosat", counts={"train": 24, "valid": 6, "test": 12})
    plain, own = tmp_path / "all.parquet", tmp_path / "m-eurosat.parquet"
    assert main(["data", "geobench", str(made.folder), "-o", str(plain)]) == 0
    probe = ["probe", str(run), "--split-test", "test", "--threads", "1"]
    assert main([*probe, "--data", str(plain)]) == 2
    assert "images of 13 bands; the encoder of" in capsys.readouterr().err
    assert main(["data", "geobench", str(made.folder), "--run", str(run), "-o", str(own)]) == 0
    assert f"next: geossl probe {run} --data {own} --split-test test" in capsys.readouterr().out
    assert main([*probe, "--data", str(own)]) == 0
    scores = json.loads((run / "probe.json").read_text())
    assert (scores["train_images"], scores["test_images"], scores["classes"]) == (24, 12, 3)
    # The made classes differ in level by hundreds: any encoder that sees the bands tells them apart.
    assert scores["rows"][0]["scores"]["top1"] > 0.9


@needs_h5py
def test_bands_of_a_run_that_does_not_name_them(make_run, tmp_path):
    made = make_geobench_v1(tmp_path / "m-forestnet", bands=LANDSAT8, kind="l8", dtype="uint8")
    four = make_run(bands=4, mean=(0.4,) * 4, std=(0.2,) * 4)
    with pytest.raises(UsageError, match="does not name the 4 bands that it reads: name them with --bands"):
        convert_geobench(made.folder, out=tmp_path / "x.parquet", run=four)
    with pytest.raises(UsageError, match="3 names; the encoder reads 4 bands"):
        convert_geobench(made.folder, out=tmp_path / "x.parquet", run=four, bands=RGB)
    with pytest.raises(UsageError, match="has no red_edge_1; its bands are red, green"):
        convert_geobench(made.folder, out=tmp_path / "x.parquet", run=four, bands=[*RGB, "B05"])
    assert convert_geobench(made.folder, out=tmp_path / "x.parquet", run=four, bands=[*RGB, "nir"]).bands == (
        *RGB,
        "nir",
    )
    # The index has the names that the run looks for.
    own = make_run(bands=2, chosen=["N", "R"], mean=(0.4,) * 2, std=(0.2,) * 2)
    made_index = convert_geobench(made.folder, out=tmp_path / "y.parquet", run=own, bands=["nir", "red"])
    assert made_index.bands == ("N", "R")
    assert len(seen(Index.read(tmp_path / "y.parquet"), load_backbone(own))) == 24


def test_bands_chosen_by_number_say_nothing_of_a_set(make_run, tmp_path):
    numbered = make_run(chosen=["3", "2", "1"])
    with pytest.raises(UsageError, match="does not name the 3 bands"):
        bands_of(load_backbone(numbered), None, option="--bands")
    (file,), _ = make_geobench_v2(tmp_path / "v2", "geobench_forestnet", sensors={"image": (6, "uint8")})
    with pytest.raises(UsageError, match=r"--run: it chose its bands by number \(3,2,1\)"):
        convert_geobench(file, out=tmp_path / "x.parquet", run=numbered, bands=RGB)
