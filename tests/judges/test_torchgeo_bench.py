"""An encoder of ours as a model of torchgeo-bench, run by its own code; it is for Python 3.12 and newer."""

import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_sets import make_geobench_v1

from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.errors import UsageError
from geossl.evaluate.features import extract
from geossl.judges.geobench import convert_geobench
from geossl.models.weights import IMAGENET_MEAN, IMAGENET_STD, load_backbone

pytestmark = [
    pytest.mark.skipif(find_spec("torchgeo_bench") is None, reason="torchgeo-bench is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of its code
]


def spec(name, *, top=9000.0):
    return SimpleNamespace(sensor="s2", name=name, source_name=name, mean=700.0, std=300.0, min=0.0, max=top)


def test_its_runner_gives_scores_for_a_run(run, tmp_path):
    root = tmp_path / "data" / "classification_v1.0"
    make_geobench_v1(root / "m-eurosat", counts={"train": 24, "valid": 9, "test": 12}, size=16)
    environment = os.environ | {"GEOBENCH_V1_NO_HF_DOWNLOAD": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = ["model=imagestats", "model._target_=geossl.judges.torchgeo_bench.GeosslBench", "model.name=demo"]
    words += [f"+model.run={run}", "dataset.names=[m-eurosat]", "device=cpu", "dataset.num_workers=0", "output=out.csv"]
    words += ["eval.c_range=[-2,2,3]", "eval.bootstrap=20", "dataset.image_size=null"]
    command = [sys.executable, "-c", "from torchgeo_bench.cli import main; main()", "run", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == {"knn5", "linear"}
    for row in rows:
        assert (row["dataset"], row["name"], row["feature_dim"]) == ("m-eurosat", "demo", "512")
        assert float(row["metric_value"]) > 0.5


def test_its_features_are_those_of_the_converted_set(run, tmp_path, monkeypatch):
    """By its reader, its normalisation and its extraction, beside `geossl data geobench --run` and our own."""
    from torchgeo_bench.datasets import geobench_v1, get_bench_dataset_class, get_datasets
    from torchgeo_bench.datasets.base import BandSpec
    from torchgeo_bench.utils import extract_features

    from geossl.judges.torchgeo_bench import GeosslBench

    made = make_geobench_v1(tmp_path / "m-eurosat")
    monkeypatch.setattr(geobench_v1, "V1_ROOT", tmp_path)
    monkeypatch.setattr(geobench_v1, "V1_SHARDED_ROOT", tmp_path / "none")
    stats = json.loads((made.folder / "band_stats.json").read_text())
    theirs = get_bench_dataset_class("m-eurosat")().select_band_specs(("red", "green", "blue"))
    bands = [
        BandSpec(b.sensor, b.name, b.source_name, *(stats[b.source_name][k] for k in ("mean", "std", "min", "max")))
        for b in theirs
    ]
    *_, test = get_datasets("m-eurosat", return_val=True, num_workers=0, image_size=None, bands="rgb")
    got, labels = extract_features(GeosslBench(bands=bands, run=str(run)).eval(), test, "cpu", verbose=False)

    convert_geobench(made.folder, out=tmp_path / "own.parquet", run=run)
    index, encoder = Index.read(tmp_path / "own.parquet"), load_backbone(run)
    ours = extract(
        encoder.module,
        index=index,
        rows=index.rows(split="test"),
        **encoder.preparation,
        device=torch.device("cpu"),
        loader=LoaderConfig(threads=1),
        quiet=True,
    )
    assert [made.classes[label] for label in labels] == [index.categories[label] for label in ours.labels.tolist()]
    np.testing.assert_allclose(got, ours.x.numpy(), rtol=1e-3, atol=1e-3)


def test_bands_are_found_by_name_wherever_they_lie(run):
    from geossl.judges.torchgeo_bench import GeosslBench

    images = torch.randn(2, 5, 16, 16) * 300 + 700
    names = ["b02", "b03", "b04", "b08", "b11"]
    got = GeosslBench(bands=[spec(name) for name in names], run=str(run))(images)
    rgb = [spec(name) for name in ("red", "green", "blue")]
    want = GeosslBench(bands=rgb, run=str(run))(images[:, [2, 1, 0]])
    torch.testing.assert_close(got, want)
    other = GeosslBench(bands=[spec(name) for name in names], run=str(run), reads=["nir", "red", "green"])
    assert other.order == [3, 2, 1]
    with pytest.raises(UsageError, match="reads red, green, blue; red is not among the bands"):
        GeosslBench(bands=[spec("b02"), spec("b03")], run=str(run))


def test_images_of_another_size_are_resized(run):
    from geossl.judges.torchgeo_bench import GeosslBench

    seen = []
    model = GeosslBench(bands=[spec(name) for name in ("red", "green", "blue")], run=str(run))
    model.backbone.register_forward_hook(lambda _module, given, _output: seen.append(given[0].shape))
    assert model(torch.full((1, 3, 64, 48), 700.0)).shape == (1, 512)
    assert seen == [(1, 3, 16, 16)]


def test_native_normalisation_is_that_of_training(run, make_run):
    from geossl.judges.torchgeo_bench import GeosslBench

    images = torch.rand(2, 4, 16, 16) * 255
    bands = [spec(name, top=255.0) for name in ("nir", "red", "green", "blue")]
    got = GeosslBench(bands=bands, run=str(run), normalization="model_native")(images)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    want = load_backbone(run).module((images[:, 1:] / 255 - mean) / std)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="is for encoders of 8-bit RGB"):
        GeosslBench(bands=bands, run=str(make_run(mean=(0.02,) * 3)), normalization="model_native")
