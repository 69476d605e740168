"""Trains several cases in a row as one process of a group, and keeps what tells whether they are the same.

A case is {"name", "settings"}, and may have "resume" (the run goes on) and "stop" ([rank, step]: that process gets
SIGTERM in that step). As a script: `ranked_training.py CASES.json RANK WORLD`, which joins the others over a file.
"""

import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from unittest import mock

import torch
from rich.console import Console
from torch import distributed as dist
from training_data import FakeLoader

from geossl.config import make_config
from geossl.training import checkpoint, train
from geossl.training.log import read_metrics
from geossl.training.step import Stepper

KEPT = ("conv1.weight", "layer1.0.bn1.running_mean", "layer4.1.bn2.running_var", "layer4.1.bn2.weight", "fc")


def run(cases, *, rank=0):
    """What the first process keeps of each case."""
    kept = {}
    with mock.patch("geossl.training.engine.Loader", FakeLoader), mock.patch("geossl.training.data.Loader", FakeLoader):
        for case in cases:
            config = make_config(case["settings"])
            console = Console(file=io.StringIO(), width=200)
            seen = {}
            with (
                mock.patch.object(Stepper, "step", stopping(*case.get("stop", (None, None)), rank=rank)),
                mock.patch("geossl.training.checkpoint.save", saving(seen, write="stop" in case)),
            ):
                result = train(config, resume=case.get("resume"), console=console)
            if rank == 0:
                text, rows = console.file.getvalue(), read_metrics(result.run)
                kept[case["name"]] = {"steps": result.steps, "text": text, "rows": rows, "weights": seen}
                if "stop" not in case:
                    shutil.rmtree(config.out)
    return kept


def saving(seen, *, write):
    """`checkpoint.save` that also keeps some of the weights, by step, and only writes where the run is to go on."""
    save = checkpoint.save

    def wrapped(state, **options):
        if write:
            save(state, **options)
        model = state.learner.model.state_dict()
        chosen = {name: value for name, value in model.items() if name == "queue" or any(k in name for k in KEPT)}
        head = {} if state.learner.head is None else state.learner.head.state_dict()
        # After the first step this is the gradient.
        moments = [state.optimizer.state[p]["momentum_buffer"] for p in state.learner.parameters()[:3]]
        moved = {f"momentum {i}": value for i, value in enumerate(moments)}
        seen[state.step] = {name: value.clone() for name, value in (chosen | head | moved).items()}

    return wrapped


def stopping(stop_rank, stop_step, *, rank):
    """`Stepper.step` with a signal in the given step."""
    step = Stepper.step

    def wrapped(self, batch, *, number, **rest):
        if (rank, number + 1) == (stop_rank, stop_step):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, number=number, **rest)

    return wrapped


def main(cases, rank, world):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{cases}.group", rank=rank, world_size=world)
    kept = run(json.loads(cases.read_text()), rank=rank)
    if rank == 0:
        torch.save(kept, f"{cases}.kept")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]), int(sys.argv[3]))
