"""`geossl reproduce` as a user types it."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from reproduce_data import TINY, write_grid
from torchvision.models import get_model, get_model_weights

from geossl.cli import main


def run(*words):
    return main([str(word) for word in words])


def fails(capsys, *words):
    """The error line of a command that is wrong."""
    capsys.readouterr()
    assert run("reproduce", *words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def of_data(tmp_path, **changes):
    """A grid that takes the user's data, with one arm that is pretrained."""
    arms = {"moco": TINY["arms"]["moco"]}
    return write_grid(tmp_path / "mine.yaml", **{"data": None, "arms": arms, "compare": []} | changes)


def test_the_smoke_grid(tmp_path, capsys):
    out = tmp_path / "smoke"
    assert run("reproduce", "synthetic-smoke", "--out", out, "--device", "cpu", "--threads", "1") == 0
    said = capsys.readouterr().out
    assert "[8/8] geo_tp-1" in said
    assert said.endswith(f"report -> {out}/report.md, report.html, scores.csv\n")
    with (out / "scores.csv").open(encoding="utf-8") as file:
        found = {(row["arm"], row["seed"], row["method"]) for row in csv.DictReader(file)}
    trained = {"geoloc", "moco", "geo_tp"}
    wanted = {(arm, seed, "finetune") for arm in {"supervised"} | trained for seed in "01"}
    frozen = trained | {"random", "statistics"}
    wanted |= {(arm, seed, method) for arm in frozen for seed in "01" for method in ("linear", "knn")}
    assert found == wanted
    with (out / "timing.csv").open(encoding="utf-8") as file:
        parts = {(row["cell"], row["part"]) for row in csv.DictReader(file)}
    assert ("geo_tp-1", "pretraining") in parts
    assert ("supervised-0", "finetuning") in parts
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert run("reproduce", "synthetic-smoke", "--out", out, "--device", "cpu", "--threads", "1") == 0
    assert "[1/8]" not in capsys.readouterr().out, "all is done"
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_what_a_grid_will_take_is_said_before_it_starts(planet, tmp_path, capsys):
    out, words = tmp_path / "out", ["--data", planet, "--device", "cpu", "--threads", "1"]
    grid = of_data(tmp_path)
    assert run("reproduce", grid, "--out", out, *words, "--plan") == 0
    said = capsys.readouterr().out
    assert "training  evaluation" in said
    assert "moco-0" in said
    assert not (out / "cells").exists(), "nothing was run"
    assert run("reproduce", grid, "--out", out, *words) == 0
    said = capsys.readouterr().out
    assert said.index("measured by a few steps") < said.index("[1/1] moco-0")
    assert run("reproduce", grid, "--out", out, *words, "--report") == 0
    assert "measured by" not in capsys.readouterr().out


def test_weights_that_are_not_trained_here(planet, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    weights = tmp_path / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(get_model("resnet18", weights=None).state_dict(), weights)
    arms = {
        "imagenet": {"method": "Supervised, ImageNet init", "weights": "imagenet"},
        "moco_imagenet": {"method": "MoCo-V2 (pretrained on ImageNet)", "weights": "file"},
    }
    evaluation = {"methods": ["knn"], "baselines": []}
    grid = of_data(tmp_path, arms=arms, backbone="resnet18", evaluation=evaluation)
    words = ["--data", planet, "--device", "cpu", "--threads", "1"]
    out = tmp_path / "out"
    assert run("reproduce", grid, "--out", out, *words, "--weights", f"moco_imagenet={weights}") == 0
    said = capsys.readouterr().out
    assert "left out: imagenet: " in said
    assert "or give --weights imagenet=FILE" in said
    rows = list(csv.DictReader((out / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["arm"] for row in rows] == ["moco_imagenet"]
    assert not (weights.parent / "probe.json").exists(), "the report is in the cell"
    # In torchvision's cache it is found.
    name = Path(get_model_weights("resnet18").IMAGENET1K_V1.url).name
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    shutil.copy(weights, tmp_path / "hub" / "checkpoints" / name)
    assert run("reproduce", grid, "--out", out, *words, "--weights", f"moco_imagenet={weights}") == 0
    rows = list(csv.DictReader((out / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["arm"] for row in rows] == ["imagenet", "moco_imagenet"]
    assert rows[0]["top1"] == rows[1]["top1"], "the same weights"


FAKE_SBATCH = """#!/bin/bash
# Runs the job at once, as SLURM would later.
for word in "$@"; do script=$word; done
echo "$@" >> "$FAKE_LOG"
SLURM_JOB_ID=7 bash "$script" > "$script.out" 2>&1 || { cat "$script.out" >&2; exit 1; }
[ "$1" = --parsable ] && echo 7 || true
"""


def test_jobs_for_slurm_and_torchrun(planet, tmp_path, capsys):
    """The scripts are run, by a `sbatch` that runs them in place."""
    out, words = tmp_path / "out", ["--data", planet, "--device", "cpu", "--threads", "1"]
    assert run("reproduce", of_data(tmp_path), "--out", out, *words, "--jobs", "slurm", "--gpus", "1") == 0
    start = out / "jobs" / "all.sh"
    assert f"1 scripts -> {start.parent}\nnext: bash {start}" in capsys.readouterr().out
    script = (out / "jobs" / "moco-0.sbatch").read_text(encoding="utf-8")
    assert "#SBATCH --gpus-per-node=1" in script
    assert "torchrun --standalone --nproc-per-node 1 --max-restarts 3 -m geossl train --config" in script
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sbatch").write_text(FAKE_SBATCH)
    (tools / "sbatch").chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "FAKE_LOG": str(tmp_path / "log")}
    subprocess.run(["bash", start], env=environment, check=True, timeout=300)
    assert (out / "cells" / "moco-0" / "probe.json").exists()
    assert "MoCo-V2" in (out / "report.md").read_text(encoding="utf-8")
    log = (tmp_path / "log").read_text().splitlines()
    assert log[-1].startswith("--dependency=afterany:7 ")

    assert run("reproduce", of_data(tmp_path), "--out", tmp_path / "other", *words, "--jobs", "torchrun") == 0
    for file in (tmp_path / "other" / "jobs").glob("*.sh"):
        subprocess.run(["bash", "-n", file], check=True)
    text = (tmp_path / "other" / "jobs" / "all.sh").read_text(encoding="utf-8")
    assert text.splitlines()[-1].endswith("--report")


def test_a_warned_job_saves_and_queues_again(tmp_path):
    """SLURM's warning reaches what runs; the job ends well, and is queued again."""
    from geossl.reproduce.plan import _stoppable

    log = tmp_path / "log"
    job = f"bash -c 'trap \"echo saved >> {log}; exit 0\" TERM; echo begun >> {log}; while :; do sleep 0.05; done'"
    script = tmp_path / "job.sh"
    script.write_text("\n".join(["set -euo pipefail", *_stoppable([job, f"echo next >> {log}"])]))
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {log}\n')
    (tools / "scontrol").chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    with subprocess.Popen(["bash", script], env=environment) as process:
        while not log.exists() or "begun" not in log.read_text():
            assert process.poll() is None
        process.send_signal(10)  # SIGUSR1
        assert process.wait(timeout=60) == 0
    assert log.read_text().split() == ["begun", "saved", "requeue", "7"]


def test_what_is_wrong_is_said(planet, tmp_path, capsys):
    out, grid = tmp_path / "out", of_data(tmp_path)
    assert "give an index with --data" in fails(capsys, grid, "--out", out)
    assert "makes its own planet" in fails(capsys, "synthetic-smoke", "--out", out, "--data", planet)
    assert "give ARM=FILE" in fails(capsys, grid, "--out", out, "--data", planet, "--weights", "moco")
    error = fails(capsys, grid, "--out", out, "--data", planet, "--weights", f"moco={planet}")
    assert "--weights moco: the grid has no such arm that takes a file of weights" in error
    assert "--only tp-0: no such cell; there are moco-0" in fails(
        capsys, grid, "--out", out, "--data", planet, "--only", "tp-0"
    )
    assert "no such grid" in fails(capsys, "fmow", "--out", out)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    assert "is not a reproduction's folder" in fails(capsys, grid, "--out", full, "--data", planet)


def test_a_folder_of_another_grid_or_other_data(planet, tmp_path, capsys):
    from geossl.data.index import Index

    out, grid = tmp_path / "out", of_data(tmp_path)
    words = ["--out", out, "--device", "cpu"]
    assert run("reproduce", grid, *words, "--data", planet, "--jobs", "torchrun") == 0
    content = yaml.safe_load(Path(grid).read_text())
    Path(grid).write_text(yaml.safe_dump(content | {"seeds": [5]}))
    assert "is of another grid" in fails(capsys, grid, *words, "--data", planet)
    Path(grid).write_text(yaml.safe_dump(content))
    other = Index.read(planet)
    half = Index(table=other.table.slice(0, 50), root=other.root, content_hash="1", source=None)
    half.write(tmp_path / "half.parquet")
    assert "was begun with another index" in fails(capsys, grid, *words, "--data", tmp_path / "half.parquet")


def test_a_damaged_state_is_named(planet, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "grid.yaml").write_text("a: [")
    assert "grid.yaml: damaged" in fails(capsys, of_data(tmp_path), "--out", out, "--data", planet)
