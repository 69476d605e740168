"""`geossl finetune` as a user types it."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from geossl.cli import app, main
from geossl.training.step import Stepper

TINY = ["--crop.size", "32", "--model.backbone", "timm/test_resnet", "--batch", "16", "--model.bn-groups", "2"]
FINETUNE = ["--batch", "32", "--threads", "2", "--device", "cpu", "--lr", "0.01"]


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def trained(planet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "demo"
    words = ["--device", "cpu", "--epochs", "1", "--loader.threads", "2", *TINY]
    assert run("train", "--recipe", "geo_tp", "--data", planet, "--out", out, *words) == 0
    return out


def test_a_run_is_finetuned_and_probed(planet: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune", trained, "--data", planet, *FINETUNE, "--epochs", "2"]
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "finetune: timm/test_resnet at 32 pixels on cpu, weights of " in out
    assert any(line.startswith("encoder  method ") for line in out.splitlines())
    assert any(line.startswith("geo_tp   finetune ") for line in out.splitlines())
    report = json.loads((trained / "finetune" / "finetune.json").read_text())
    (row,) = report["rows"]
    assert (row["encoder"], row["method"], row["lr"]) == ("geo_tp", "finetune", 0.01)
    assert {"top1", "f1", "f1_weighted", "place_top1", "place_f1"} <= set(row["scores"])
    low, high = row["intervals"]["place_top1"]
    assert low <= row["scores"]["place_top1"] <= high
    assert all(0 <= row["scores"][name] <= 1 for name in ("top1", "top5", "f1", "place_top1", "place_f1"))
    assert run(*words, "--resume", "auto") == 0
    assert "already trained" in capsys.readouterr().out
    assert json.loads((trained / "finetune" / "finetune.json").read_text()) == report
    # The folder is a run's: it is probed, and finetuned in turn.
    assert run("probe", trained / "finetune", "--data", planet, "--lr", "0.1") == 0
    assert "supervised" in capsys.readouterr().out
    assert run("finetune", trained / "finetune", "--data", planet, *FINETUNE, "--epochs", "1", "--labels", "50") == 0
    assert "50 % of the labels" in capsys.readouterr().out


def test_from_scratch_without_a_run(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune", "--from-scratch", "--backbone", "timm/test_resnet", "--size", "32", "--data", planet]
    assert run(*words, "--out", tmp_path / "scratch", *FINETUNE, "--epochs", "1") == 0
    assert "batch normalisation train" in capsys.readouterr().out
    saved = torch.load(tmp_path / "scratch" / "checkpoints" / "last.pt", weights_only=True)
    assert saved["arch"] == "timm/test_resnet"


def test_mistakes_are_one_line(planet: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune", trained, "--data", planet, "--out", tmp_path / "out"]
    cases = {
        "--data requires an argument": ["finetune", trained],
        "no run to begin with": ["finetune", "--data", planet],
        "Did you mean --lr?": [*words, "--lrr", "1"],
        "lr: must be a number above 0, or auto": [*words, "--lr", "-1"],
        "labels: Input should be less than or equal to 100": [*words, "--labels", "101"],
        "no split 'test'": [*words, "--split-test", "test"],
        "nowhere: no such run or checkpoint": ["finetune", tmp_path / "nowhere", "--data", planet],
    }
    for message, wrong in cases.items():
        code = run(*wrong)
        out, err = capsys.readouterr()
        assert code == 2, (wrong, out, err)
        assert message in err
        assert err.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_sigterm_saves_and_resume_ends_with_the_same_bits(
    planet: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["finetune", trained, "--data", planet, *FINETUNE, "--epochs", "2", "--resume", "auto", "--out"]
    take_step = Stepper.step

    def step(self, batch, **rest):
        if rest["number"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(self, batch, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", step)
        assert run(*words, tmp_path / "stopped") == 0
    out = capsys.readouterr().out
    assert "step 6: stopped by SIGTERM and saved; go on with --resume auto" in out
    assert "top-1" not in out
    assert run(*words, tmp_path / "stopped") == 0
    assert run(*words, tmp_path / "straight") == 0
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True)["state_dict"]
        for name in ("stopped", "straight")
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    scores = [json.loads((tmp_path / name / "finetune.json").read_text())["rows"] for name in ("stopped", "straight")]
    assert scores[0] == scores[1]


def test_the_documented_commands_are_known() -> None:
    page = (Path(__file__).parents[2] / "docs" / "finetuning.md").read_text(encoding="utf-8")
    lines = re.findall(r"^geossl (.*)$", page, flags=re.MULTILINE)
    assert len([line for line in lines if line.startswith("finetune ")]) >= 5
    for line in lines:
        app.parse_args(line.split(), exit_on_error=False, print_error=False)
