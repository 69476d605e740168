"""A run killed in the middle of an epoch and resumed ends bit for bit as one that was left alone."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from training_data import IMAGES, make_index

from geossl.config import dump_yaml, make_config
from geossl.data.clustering import cluster_places
from geossl.data.clusters import default_path
from geossl.data.index import Index
from geossl.models.weights import CHECKPOINT
from geossl.train import train
from geossl.train.log import read_metrics


def make_images(folder):
    """Index of a folder of noise, with clusters beside it."""
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{i:03}.jpg")
    path = make_index(folder)
    cluster_places(Index.read(path), k=5, threads=1).write(default_path(path))
    return path


@pytest.fixture
def data(tmp_path):
    return make_images(tmp_path)


def make(data, name):
    return make_config(
        {
            "arm": "geo_tp",
            "data": data,
            "out": data.parent / name,
            "epochs": 2,
            "batch": 8,
            "device": "cpu",
            "save_steps": 2,
            "crop": {"size": 32},
            "model": {"backbone": "resnet18", "dim": 16, "momentum": 0.9},
            "loader": {"threads": 2},
        }
    )


def tensors(value, name=""):
    """Nested containers as {dotted name: tensor or plain value}."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {name: value}
    return {k: v for key, item in items for k, v in tensors(item, f"{name}.{key}").items()}


def assert_same(run, other):
    """Two runs have the same figures, and the same checkpoint bit for bit."""
    rows = [read_metrics(folder) for folder in (run, other)]
    timings = ("time", "images_per_sec", "loader_")
    a, b = ([{k: v for k, v in row.items() if not k.startswith(timings)} for row in r] for r in rows)
    assert a == b
    a, b = (torch.load(folder / CHECKPOINT, weights_only=True) for folder in (run, other))
    for part in ("epoch", "state_dict", "optimizer", "geo_dict"):
        one, other = tensors(a[part]), tensors(b[part])
        assert one.keys() == other.keys()
        for name, value in other.items():
            equal = torch.equal if isinstance(value, torch.Tensor) else lambda x, y: x == y
            assert equal(one[name], value), f"{part}{name}"


def test_kill_in_mid_epoch_and_resume(data):
    config = make(data, "killed")
    settings = data.parent / "killed.yaml"
    settings.write_text(dump_yaml(config))
    script = Path(__file__).with_name("killed_training.py")
    killed = subprocess.run([sys.executable, script, settings, "9"], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = config.out
    checkpoint = torch.load(run / CHECKPOINT, weights_only=True)
    assert (checkpoint["epoch"], checkpoint["geossl"]["step"]) == (1, 8)  # the epochs end at steps 6 and 12
    assert read_metrics(run)[-1]["step"] == 9

    quiet = Console(file=io.StringIO())
    resumed = train(config, resume="auto", console=quiet)
    straight = train(make(data, "straight"), console=quiet)
    assert resumed.finished
    assert resumed.steps == straight.steps == 12

    assert_same(resumed.run, straight.run)
