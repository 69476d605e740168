"""`geossl reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from geossl.errors import UsageError


def reproduce(
    grid: str,
    /,
    *,
    out: Path,
    data: Path | None = None,
    weights: Annotated[list[str] | None, Parameter(negative="")] = None,
    only: str | None = None,
    plan: Annotated[bool, Parameter(negative="")] = False,
    report: Annotated[bool, Parameter(negative="")] = False,
    jobs: Literal["torchrun", "slurm"] | None = None,
    gpus: int = 1,
    device: str = "auto",
    threads: int = 0,
) -> None:
    """Run a table of the paper: train its arms, evaluate them, and write a report with ours beside theirs.

    Grids: fmow-paper, geoimagenet-paper, naip-paper, xview-paper, spacenet-paper, bmng-small, synthetic-smoke, or a
    YAML file like theirs. What is done is kept: the same command goes on after an interruption, and ends with the same
    report. The report is report.md, report.html and scores.csv in --out, written anew after every run.

    Example: `geossl reproduce synthetic-smoke --out runs/smoke`

    Parameters
    ----------
    grid
        Name of a grid, or a YAML file.
    out
        Folder of the runs and the report.
    data
        Index with categories, and clusters beside it, or for a transfer objects; for grids that do not make their own
        planet.
    weights
        ARM=FILE: weights of an arm that is not trained here, such as moco_imagenet=moco_v2_800ep_pretrain.pth.tar. Can
        be given again; arms without their file are left out.
    only
        Run one cell alone, such as geo_tp-0.
    plan
        Say how many hours everything takes, by a few steps of each arm on this machine, and do no more.
    report
        Write the report on what is there, and do no more.
    jobs
        Write a script for each cell, to run by torchrun on this machine or as jobs of SLURM, and do no more.
    gpus
        Processes that train together in those scripts, a GPU each.
    device
        auto, cpu, cuda or cuda:N.
    threads
        Decoding threads; 0 leaves a core to the trainer.
    """
    import shlex
    import sys

    from geossl.reproduce.grid import read_grid
    from geossl.reproduce.plan import describe, estimate, write_jobs
    from geossl.reproduce.runner import Reproduction

    given = {}
    for word in weights or []:
        arm, equals, file = word.partition("=")
        if not equals or not file:
            raise UsageError(f"--weights {word}: give ARM=FILE")
        given[arm] = Path(file)
    if gpus < 1:
        raise UsageError(f"--gpus {gpus}: must be at least 1")
    name = Path(grid).stem if grid.endswith((".yaml", ".yml")) else grid
    made = Reproduction(read_grid(grid), name, out=out, data=data, weights=given, device=device, threads=threads)
    made.prepare()
    if jobs:
        command = [sys.executable, "-m", "geossl", "reproduce", grid, "--out", str(out), "--device", device]
        command += ["--threads", str(threads)] + ([] if data is None else ["--data", str(data)])
        command += [word for arm, file in given.items() for word in ("--weights", f"{arm}={file}")]
        start = write_jobs(made, launcher=jobs, gpus=gpus, command=command)
        print(f"{len(made.cells())} scripts -> {start.parent}\nnext: bash {shlex.quote(str(start))}")
    # A grid of the user's data may take weeks: how long is said before it starts.
    begun = any(one.folder.exists() for one in made.cells())
    if plan or not (jobs or report or only or begun or data is None):
        measurable = any(arm.trains for arm in made.grid.arms.values())
        text = describe(estimate(made), gpus=gpus) if measurable else ["no arm is pretrained here: no step to measure"]
        print("\n".join(text), flush=True)
    if plan or jobs:
        return
    if report:
        made.report()
    elif not made.run(only=only):
        print("stopped; the same command goes on")
        return
    if only is None:
        print(f"report -> {out / 'report.md'}, report.html, scores.csv")
