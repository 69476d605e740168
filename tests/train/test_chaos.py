"""A run that is stopped, killed and starved of disk again and again ends bit for bit as one that was left alone."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_resume import assert_same, make, make_images

from geossl.config import dump_yaml
from geossl.models.weights import CHECKPOINT
from geossl.train import checkpoint
from geossl.train.log import read_metrics

KINDS = ("term", "kill", "kill_write", "kill_file", "disk_full", "disk_limit")
EXIT = {"term": 0, "kill": -9, "kill_write": -9, "kill_file": -9, "disk_full": 1, "disk_limit": 1}
TIMES = 20


class Server:
    """Starts `geossl train` at once; see chaos_server.py."""

    def __init__(self, folder):
        self.output = folder / "output.txt"
        script = Path(__file__).with_name("chaos_server.py")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, script], **pipes)

    def train(self, settings, **fate):
        """The exit code, and what was printed."""
        arguments = ["train", "--config", str(settings), "--resume", "auto"]
        request = {"arguments": arguments, "output": str(self.output), "fate": fate or None}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        return code, self.output.read_text()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    server.close()


def write_settings(data, name):
    config = make(data, name)
    config = config.model_copy(update={"epochs": 25, "save_steps": 2, "keep": 2})
    path = data.parent / f"{name}.yaml"
    path.write_text(dump_yaml(config))
    return path, config.out


def test_twenty_interruptions_change_no_bit(tmp_path, server):
    data = make_images(tmp_path)
    settings, straight = write_settings(data, "straight")
    code, text = server.train(settings)
    assert code == 0, text

    settings, run = write_settings(data, "chaos")
    draw = random.Random(0)
    fates = [KINDS[i % len(KINDS)] for i in range(TIMES)]
    draw.shuffle(fates)
    done = 0
    for kind in fates:
        code, text = server.train(settings, kind=kind, steps=draw.randint(2, 4), where=draw.random())
        assert code == EXIT[kind], f"{kind}: {text}"
        if kind.startswith("disk"):
            assert "last.pt: cannot be written: " in text
            assert " needed, " in text
        if (run / CHECKPOINT).exists():
            step = checkpoint.read(run / CHECKPOINT)["geossl"]["step"]
            assert step >= done
            done = step
    assert done > 0
    code, text = server.train(settings)
    assert code == 0, text
    assert "going on after step" in text

    assert_same(run, straight)
    steps = [row["step"] for row in read_metrics(run)]
    assert steps == list(range(1, 151))
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == steps
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and "tfevents" not in path.name}
    assert names == {"config.yaml", "metrics.jsonl", "checkpoints/last.pt", "checkpoints/step-00000148.pt"}
