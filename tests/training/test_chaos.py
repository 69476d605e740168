"""A run that is stopped, killed and starved of disk again and again ends bit for bit as one that was left alone."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_data import IMAGES, make_index

from forked import Forked
from geossl.data.clustering import cluster_places
from geossl.data.clusters import default_path
from geossl.data.index import Index
from geossl.models.weights import CHECKPOINT
from geossl.training import checkpoint
from geossl.training.log import read_metrics

EXIT = {"term": 0, "kill": -9, "kill_write": -9, "kill_file": -9, "disk_full": 1, "disk_limit": 1}
TIMES, EPOCHS, STEPS = 20, 20, 6
SETTINGS = f"""
arm: geo_tp
epochs: {EPOCHS}
batch: 8
device: cpu
save_steps: 2
keep: 2
crop: {{size: 32}}
model: {{backbone: timm/test_resnet, dim: 16, momentum: 0.9}}
loader: {{threads: 2}}
"""


@pytest.fixture
def train(tmp_path):
    """Starts `geossl train` at once: (arguments, fate) -> the exit code, and what was printed."""
    output = tmp_path / "output.txt"
    with Forked(Path(__file__).with_name("chaos_server.py")) as forked:

        def call(*arguments, **fate):
            words = ["train", "--resume", "auto", *map(str, arguments)]
            code = forked(arguments=words, output=str(output), fate=fate or None)
            return code, output.read_text()

        yield call


@pytest.fixture
def data(tmp_path):
    """Index of a folder of noise, with clusters beside it."""
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(tmp_path / f"{i:03}.jpg")
    path = make_index(tmp_path)
    cluster_places(Index.read(path), k=5, threads=1).write(default_path(path))
    return path


def test_twenty_interruptions_change_no_bit(data, train):
    settings, straight, run = data.with_name("settings.yaml"), data.with_name("straight"), data.with_name("chaos")
    settings.write_text(SETTINGS)
    words = ["--config", settings, "--data", data, "--out"]
    code, text = train(*words, straight)
    assert code == 0, text

    draw = random.Random(0)
    fates = [list(EXIT)[i % len(EXIT)] for i in range(TIMES)]
    draw.shuffle(fates)
    done = 0
    for kind in fates:
        code, text = train(*words, run, kind=kind, steps=draw.randint(2, 4), where=draw.random())
        assert code == EXIT[kind], f"{kind}: {text}"
        if kind.startswith("disk"):
            message = " ".join(text[text.index("geossl: ") :].split())
            assert "checkpoints/last.pt: cannot be written: " in message
            assert " MiB needed, " in message
            assert "and go on with --resume auto" in message
        if (run / CHECKPOINT).exists():
            step = checkpoint.read(run / CHECKPOINT)["geossl"]["step"]
            assert step >= done
            done = step
    assert 0 < done < EPOCHS * STEPS
    code, text = train(*words, run)
    assert code == 0, text
    assert f"going on after step {done}" in text

    assert_same(run, straight)
    steps = [row["step"] for row in read_metrics(run)]
    assert steps == list(range(1, EPOCHS * STEPS + 1))
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == steps
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and "tfevents" not in path.name}
    kept = f"checkpoints/step-{EPOCHS * STEPS - 2:08}.pt"
    assert names == {"config.yaml", "metrics.csv", "metrics.jsonl", "checkpoints/last.pt", kept}


def assert_same(run, straight):
    """Two runs have the same figures, and the same checkpoint bit for bit."""
    # How long something has looked wrong is counted from a start, and so is when it is warned of.
    passing = ("time", "images_per_sec", "loader_", "warnings")
    told = [
        [{k: v for k, v in row.items() if not k.startswith(passing)} for row in read_metrics(folder)]
        for folder in (run, straight)
    ]
    assert told[0] == told[1]
    ours, theirs = (torch.load(folder / CHECKPOINT, weights_only=True) for folder in (run, straight))
    for part in ("epoch", "state_dict", "optimizer", "geo_dict"):
        mine, other = tensors(ours[part]), tensors(theirs[part])
        assert mine.keys() == other.keys()
        for name, value in other.items():
            equal = torch.equal if isinstance(value, torch.Tensor) else lambda x, y: x == y
            assert equal(mine[name], value), f"{part}{name}"


def tensors(value, name=""):
    """Nested containers as {dotted name: tensor or plain value}."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {name: value}
    return {k: v for key, item in items for k, v in tensors(item, f"{name}.{key}").items()}
