"""A grid whose evaluation is a transfer, from the made images to the report."""

import json
import os
import signal

import pytest
import torch
import yaml
from reproduce_data import TINY, write_grid
from torchvision.models import get_model

from geossl.cli import main
from geossl.data.synth.detection import make_detection
from geossl.data.xview import read_xview
from geossl.transfer.learner import TransferStepper

ARMS = {
    "random": {"method": "Random init", "scratch": True},
    "moco": {"method": "MoCo-V2", "weights": "file"},
    "geo": {"method": "MoCo-V2+Geo", "weights": "file"},
}


@pytest.fixture(scope="module")
def xview(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xview")
    make_detection(folder / "xview", images=4, size=200)
    read_xview(folder / "xview", test=1).write(folder / "xview.parquet")
    return folder / "xview.parquet"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), file)
    return file


def words(tmp_path, data, transfer, *, arms=ARMS, **changes):
    """A command of a small grid."""
    name = "xview" if transfer["task"] == "detect" else "spacenet"
    evaluation = {"transfer": {"chips": 2, "epochs": 1, "batch": 2} | transfer}
    settings = {"data": None, "table": name, "backbone": "resnet18", "arms": arms, "evaluation": evaluation}
    grid = write_grid(tmp_path / "grid.yaml", **(settings | {"compare": [["random", "moco"]]} | changes))
    where = ["--data", str(data), "--out", str(tmp_path / "out")]
    return ["reproduce", grid, *where, "--device", "cpu", "--threads", "1"]


def rows(report):
    lines = report.read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def check(out, task, name, *, figure, titles):
    """The report has the figures of the transfer's files, and those of the paper."""
    scores = {}
    for arm in ("random", "moco"):
        made = [json.loads((out / f"cells/{arm}-{seed}/transfer/{task}.json").read_text()) for seed in (0, 1)]
        assert [one["settings"]["seed"] for one in made] == [0, 1]
        scores[arm] = 50 * sum(one["scores"][name] for one in made)
    table = rows(out / "report.md")
    row = next(row for row in table if row[0] == "MoCo-V2")
    assert row[1].split()[0] == f"{scores['moco']:.1f}"
    assert row[2] == figure
    assert ["", "method", "labels", *titles] in table
    assert next(row for row in table if row[:3] == ["random", task, "100 %"])[3].split()[0] == f"{scores['random']:.1f}"
    assert next(row for row in table if row[:2] == ["moco less random", task])[2][0] in "+-"
    assert f"{titles[0]}, ours" in (out / "report.html").read_text()


def test_a_detector_on_encoders_that_are_given(xview, weights, tmp_path, capsys):
    command = [*words(tmp_path, xview, {"task": "detect", "size": 96}, seeds=[0, 1]), "--weights", f"moco={weights}"]
    assert main([*command, "--plan"]) == 0
    assert "no arm is pretrained here: no step to measure" in capsys.readouterr().out
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "left out: geo: no file of its weights was given" in said
    assert "[4/4] random-1" in said
    out = tmp_path / "out"
    for number, file in enumerate(sorted(out.glob("cells/*/transfer/detect.json")), 1):
        made = json.loads(file.read_text())  # one step sees nothing: figures that can be told apart
        made["scores"] |= {"ap50": 0.1 * number, "ap": 0.07 * number}
        file.write_text(json.dumps(made))
    assert main([*command, "--report"]) == 0
    check(out, "detect", "ap50", figure="15.45", titles=["AP50", "AP"])
    text = (out / "report.md").read_text()
    assert "Trained on 2 images, tested on 1." in text
    assert "linear classifier" not in text
    state = yaml.safe_load((out / "grid.yaml").read_text())
    del state["grid"]["evaluation"]["transfer"]["lr"]
    (out / "grid.yaml").write_text(yaml.safe_dump(state))  # as begun before there was that setting
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*")}
    assert main(command) == 0
    assert "[1/4]" not in capsys.readouterr().out, "all is done"
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*")} == before


def test_a_segmenter_stopped_by_a_signal_goes_on(spacenet, weights, tmp_path, capsys, monkeypatch):
    transfer = {"task": "segment", "head": "psanet", "size": 65, "batch": 8}
    command = [*words(tmp_path, spacenet, transfer, seeds=[0, 1]), "--weights", f"moco={weights}"]
    step = TransferStepper.step

    def stop(self, batch, **rest):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(TransferStepper, "step", stop)
        assert main(command) == 0
    assert "stopped; the same command goes on" in capsys.readouterr().out
    assert not (tmp_path / "out" / "report.md").exists()
    assert main(command) == 0
    assert "[4/4] random-1" in capsys.readouterr().out
    check(tmp_path / "out", "segment", "mean_iou", figure="78.05", titles=["mIoU", "pixel accuracy"])


def test_an_arm_that_is_pretrained_on_the_images(spacenet, tmp_path, capsys):
    arms = {"moco": TINY["arms"]["moco"] | {"config": {"model": {"backbone": "resnet18"}}}}
    transfer = {"task": "segment", "size": 65}
    command = words(tmp_path, spacenet, transfer, arms=arms, compare=[])
    assert main([*command, "--plan"]) == 0
    assert "measured by a few steps" in capsys.readouterr().out
    assert main(command) == 0
    out = tmp_path / "out"
    assert {path.name for path in (out / "cells" / "moco-0").iterdir()} == {"run", "transfer", "timing.csv"}
    text = (out / "report.md").read_text()
    assert "without an interval" in text
    assert next(row for row in rows(out / "report.md") if row[0] == "MoCo-V2")[1].replace(".", "").isdigit()


def test_objects_that_are_missing_are_told_at_once(planet, tmp_path, capsys):
    assert main(words(tmp_path, planet, {"task": "detect"})) == 2
    assert "objects.parquet: no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
