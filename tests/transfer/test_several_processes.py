"""Transfers by torchrun: two processes learn what one does."""

import json
import os
import subprocess
import sys

import pytest
import torch

from geossl.data.index import Index
from geossl.finetuning.data import even_batch
from geossl.models.backbone import build_backbone
from geossl.models.weights import CHECKPOINT
from geossl.training.log import read_metrics


def geossl(*words, processes=1):
    """Run a command as a user does, in so many processes; what it says."""
    how = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    line = [sys.executable, *how, "-m", "geossl", *map(str, words)]
    made = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return made.returncode, made.stdout + made.stderr


CASES = {
    "detect": ("xview", "resnet18", "detect.json", ["--size", "96", "--chips", "6", "--lr", "1e-4"]),
    "classify": ("planet", "timm/test_resnet", "finetune.json", ["--lr", "0.01", "--bn", "eval"]),
}


@pytest.mark.parametrize("task", CASES)
def test_two_processes_learn_what_one_does(task, tmp_path, request):
    data, backbone, report, settings = CASES[task]
    weights = tmp_path / "weights.pth"
    torch.save(build_backbone(backbone, bands=3, seed=5, size=64).state_dict(), weights)
    index = Index.read(request.getfixturevalue(data))
    if task == "classify":  # whose batch is the same for one and two
        images = len(index.rows(split="train"))
        same = (n for n in range(32, 64, 2) if even_batch(images, n) == even_batch(images, n, world=2))
        settings = [*settings, "--batch", str(next(same))]
    words = ["--data", request.getfixturevalue(data), "--backbone", backbone, "--device", "cpu", "--epochs", "1"]
    for n in (1, 2):
        code, said = geossl("transfer", task, weights, *words, *settings, "--out", tmp_path / str(n), processes=n)
        assert code == 0, said
    one, two = (read_metrics(tmp_path / n) for n in ("1", "2"))
    assert len(one) > 1
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-3)
    states = [torch.load(tmp_path / n / CHECKPOINT, weights_only=True)["state_dict"] for n in ("1", "2")]
    for name, value in states[0].items():
        assert torch.allclose(value.float(), states[1][name].float(), rtol=1e-2, atol=1e-3), name
    reports = [json.loads((tmp_path / n / report).read_text()) for n in ("1", "2")]
    assert reports[0]["index_hash"] == reports[1]["index_hash"] == index.content_hash
