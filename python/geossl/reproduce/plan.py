"""What a grid will take, by a few steps of each arm, and the scripts that run its cells on a cluster."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from rich.console import Console

from geossl.config import dump_yaml
from geossl.data.index import Index
from geossl.files import replacing
from geossl.reproduce.results import RUN
from geossl.training import train

if TYPE_CHECKING:
    from pathlib import Path

    from geossl.reproduce.grid import Arm, Grid
    from geossl.reproduce.runner import Cell, Reproduction

Launcher = Literal["torchrun", "slurm"]
EVALUATION_PASSES = {"frozen": 1 / 4, "finetune": 3 / 4}
"""Of a training step's passes (a query forwards and backwards, which is three, and a key forwards), those of an image
in an evaluation's epoch: forwards; forwards and backwards."""
LINEAR_EPOCHS = 100
"""Of the linear classifier, where each reads the images."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of a cell."""

    cell: str
    train_hours: float
    """Of one device."""
    evaluate_hours: float


def estimate(reproduction: Reproduction) -> list[Estimate]:
    """Hours of each cell on this machine's device, from a few steps of every arm that is pretrained.

    Evaluations are counted in passes through the encoder, at the pace of the slowest arm's steps. Nothing is written.
    """
    grid = reproduction.grid
    index = Index.read(reproduction.data, images=False)
    transfer = grid.evaluation.transfer
    if transfer is None:
        images = float(np.count_nonzero(index.labels >= 0))
    else:
        images = float(len(index.rows(split="train")) * transfer.settings["chips"])
    whole: dict[str, float] = {}
    pace, side = 0.0, 1
    for name in [name for name, arm in grid.arms.items() if arm.trains]:
        config = reproduction.settings(name, folder=reproduction.out / "plan", seed=grid.seeds[0])
        planned = train(config, dry_run=True, console=Console(quiet=True)).planned_secs
        whole[name] = planned or 0.0
        side = config.crop.size
        pace = max(pace, whole[name] / (config.epochs * max(len(index.rows(split="train")), 1)))
    if transfer is not None:
        images *= (transfer.settings["size"] / side) ** 2  # windows as large as the crops that were measured
    return [
        Estimate(
            cell=one.name,
            train_hours=whole.get(one.arm, 0.0) / 3600,
            evaluate_hours=_passes(grid, grid.arms[one.arm]) * images * pace / 3600,
        )
        for one in reproduction.cells()
    ]


def _passes(grid: Grid, arm: Arm) -> float:
    """How often an evaluation sends an image through the encoder, in steps of training."""
    evaluation, passes = grid.evaluation, 0.0
    if evaluation.transfer is not None:
        return EVALUATION_PASSES["finetune"] * float(evaluation.transfer.settings["epochs"])
    if arm.frozen and not arm.scratch:
        epochs = LINEAR_EPOCHS if evaluation.crops == "random" and "linear" in evaluation.methods else 1
        passes += EVALUATION_PASSES["frozen"] * epochs
    if arm.finetuned:
        passes += EVALUATION_PASSES["finetune"] * evaluation.finetune_epochs
    return passes


def describe(found: list[Estimate], *, gpus: int) -> list[str]:
    """The estimates for a reader."""
    width = max(len(one.cell) for one in found)
    text = [f"{'cell':<{width}}  {'training':>10}  {'evaluation':>10}"]
    text += [f"{one.cell:<{width}}  {one.train_hours:>8.1f} h  {one.evaluate_hours:>8.1f} h" for one in found]
    training, evaluation = sum(one.train_hours for one in found), sum(one.evaluate_hours for one in found)
    text.append(f"{'all':<{width}}  {training:>8.1f} h  {evaluation:>8.1f} h")
    if gpus > 1:
        text.append(f"on {gpus} devices, where each adds its whole speed: {training / gpus:.1f} h of training")
    text.append("measured by a few steps on this machine's device; evaluations by their passes through the encoder")
    return text


def write_jobs(reproduction: Reproduction, *, launcher: Launcher, gpus: int, command: list[str]) -> Path:
    """Write a script for every cell into the folder `jobs`, and all.sh, which starts them and then writes the report.

    A cell's script trains in `gpus` processes, then evaluates in one. Started again, it goes on.

    Args:
        reproduction: what is to be run.
        launcher: torchrun runs the cells one after the other on this machine, slurm as jobs of their own.
        gpus: processes of a run, a GPU each.
        command: the words that run this grid again, without `--only`.

    Returns:
        The path of all.sh.

    """
    folder, slurm = reproduction.out / "jobs", launcher == "slurm"
    suffix = "sbatch" if slurm else "sh"
    scripts = []
    for one in reproduction.cells():
        head = _sbatch(one.name, log=one.folder, gpus=gpus) if slurm else []
        lines = _cell_lines(reproduction, one, gpus=gpus, command=command)
        body = _stoppable(lines) if slurm else lines
        scripts.append(_write(folder / f"{one.name}.{suffix}", [*head, "set -euo pipefail", *body]))
    last = shlex.join([*command, "--report"])
    quoted = [shlex.quote(str(script)) for script in scripts]
    if not slurm:
        return _write(folder / "all.sh", ["set -euo pipefail", *(f"bash {script}" for script in quoted), last])
    head = _sbatch("report", log=reproduction.out, gpus=0)
    report = shlex.quote(str(_write(folder / "report.sbatch", [*head, "set -euo pipefail", last])))
    logs = shlex.join(str(one.folder) for one in reproduction.cells())
    start = ["set -euo pipefail", "# SLURM writes no log into a folder that is not there.", f"mkdir -p {logs}", "jobs="]
    start += [f'jobs="$jobs:$(sbatch --parsable {script})"' for script in quoted]
    return _write(folder / "all.sh", [*start, f'sbatch --dependency="afterany$jobs" {report}'])


def _write(script: Path, lines: list[str]) -> Path:
    with replacing(script) as file:
        file.write("\n".join(["#!/bin/bash", *lines, ""]).encode())
    script.chmod(0o755)
    return script


def _cell_lines(reproduction: Reproduction, one: Cell, *, gpus: int, command: list[str]) -> list[str]:
    """Pretraining in as many processes as GPUs, by settings that are written here, and what is left in one process."""
    lines = []
    if reproduction.grid.arms[one.arm].trains:
        settings = reproduction.out / "jobs" / f"{one.name}.yaml"
        config = reproduction.settings(one.arm, folder=one.folder / RUN, seed=one.seed)
        with replacing(settings) as file:
            file.write(dump_yaml(config).encode())
        start = ["torchrun", "--standalone", "--nproc-per-node", str(gpus), "--max-restarts", "3", "-m", "geossl"]
        lines.append(shlex.join([*start, "train", "--config", str(settings), "--resume", "auto"]))
    return [*lines, shlex.join([*command, "--only", one.name])]


def _sbatch(name: str, *, log: Path, gpus: int) -> list[str]:
    return [
        f"#SBATCH --job-name=geossl-{name}",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        *([f"#SBATCH --gpus-per-node={gpus}"] if gpus else []),
        "#SBATCH --signal=B:USR1@300",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        f"#SBATCH --output={log}/slurm-%j.log",
    ]


def _stoppable(lines: list[str]) -> list[str]:
    """The commands in a shell that hands SLURM's warning on, and queues the job again."""
    text = [
        "# SLURM warns this shell alone five minutes before the end: what runs saves, and the job queues again.",
        'stop() { for run in $(jobs -p); do kill -TERM "$run" && wait "$run" || true; done',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "    exit 0; }",
        "trap stop USR1",
    ]
    for line in lines:
        text += [f"{line} &", 'wait "$!" && code=0 || code=$?', '[ "$code" = 0 ] || exit "$code"']
    return text
