"""`geossl train`, as a person runs it."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from geossl.config import make_config
from geossl.training import train as run
from geossl.training.log import read_metrics
from trainer_job import Steps, TrainJob

PACKAGES = ("geossl", "torch", "torchvision")


def train(job: TrainJob) -> Steps:
    """One epoch of the arm moco, with batch normalisation over the whole batch, as the peers have it."""
    config = make_config(
        {
            "arm": "moco",
            "data": Path(job.index),
            "out": Path(job.out),
            "epochs": 1,
            "batch": job.batch,
            "seed": job.seed,
            "loader": {"threads": job.workers},
            "crop": {"size": job.size, "scale": job.scale},
            "optim": {"lr": job.lr, "weight_decay": job.weight_decay},
            "model": {
                "backbone": job.backbone,
                "dim": job.dim,
                "queue": job.queue,
                "temperature": job.temperature,
                "momentum": job.momentum,
                "bn_groups": 1,
            },
        }
    )
    run(config, console=Console(file=io.StringIO()))
    rows = read_metrics(config.out)
    return Steps(losses=[row["loss"] for row in rows], ends=[row["time"] for row in rows])
