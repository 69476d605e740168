"""The paper's table on GeoImageNet, small: from made photos to the report."""

import csv
import json
from importlib import resources

import pytest
import yaml

from geossl.cli import main
from geossl.data.index import Index
from geossl.data.synth.photos import make_photos
from geossl.reproduce.grid import read_grid
from geossl.reproduce.paper import TABLES


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def photos(tmp_path):
    """Index of made photos, with clusters beside it."""
    index = tmp_path / "photos.parquet"
    make_photos(tmp_path / "photos", places=40, views=4, size=32)
    assert run("data", "geoimagenet", tmp_path / "photos", "-o", index, "--test", 40) == 0
    assert run("data", "cluster", index, "-k", 4) == 0
    return index


@pytest.fixture
def grid(tmp_path):
    """The shipped grid with a small network and few steps."""
    shipped = resources.files("geossl.reproduce") / "grids/geoimagenet-paper.yaml"
    content = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    tiny = {"backbone": "timm/test_resnet", "queue": 32}
    content["config"] |= {"epochs": 1, "batch": 16, "model": tiny, "optim": {"lr": 0.0075}}
    content["config"]["crop"] |= {"size": 32}
    content["backbone"] = "timm/test_resnet"
    content["evaluation"] |= {
        "methods": ["linear"],
        "crops": "center",
        "baselines": ["statistics"],
        "finetune_epochs": 1,
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_every_arm_and_its_top5(photos, grid, tmp_path):
    out = tmp_path / "out"
    index = Index.read(photos)
    train, test = (set(index.labels[index.rows(split=name)].tolist()) for name in ("train", "test"))
    only_tested = sorted(index.categories[label] for label in test - train)
    assert only_tested, "the split has a class that only the test has"
    command = ["reproduce", grid, "--data", photos, "--out", out, "--device", "cpu", "--threads", 1]
    for arm in ("supervised", "geoloc", "moco", "geo"):
        assert run(*command, "--only", f"{arm}-0") == 0
    assert run(*command, "--report") == 0
    with (out / "scores.csv").open(encoding="utf-8") as file:
        scores = {(row["arm"], row["method"]): row for row in csv.DictReader(file)}
    wanted = {(arm, "linear") for arm in ("geoloc", "moco", "geo", "statistics")}
    assert set(scores) == wanted | {("supervised", "finetune")}
    for row in scores.values():
        assert 0 <= float(row["top1"]) <= float(row["top5"]) <= 1
        assert 0 <= float(row["f1"]) <= 1
        assert 0 <= float(row["f1_weighted"]) <= 1
    report = (out / "report.md").read_text()
    for method, figures in TABLES["geoimagenet"].figures.items():
        line = next(line for line in report.splitlines() if line.startswith(f"| {method} "))
        assert all(f"{figure:.2f}" in line for figure in figures)
    about = json.loads((out / "cells/moco-0/probe.json").read_text())
    assert about["settings"]["split_test"] == "test"
    assert about["test_images"] == 40
    assert any(f"no training images of: {', '.join(only_tested)}; " in note for note in about["notes"])


def test_photos_are_cropped_as_they_are():
    """The released script for photos has no Resize, which those for satellite images have."""
    grid = read_grid("geoimagenet-paper")
    for arm in ("moco", "geo", "geoloc"):
        config = grid.settings(arm, data="a.parquet", out="out", seed=0)
        assert (config.crop.resize, config.crop.scale, config.crop.size) == (None, (0.2, 1.0), 224)
