"""`geossl finetune`: a classifier trained end to end from an encoder's weights, and its scores."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console

from geossl.device import resolve_device
from geossl.errors import UsageError
from geossl.evaluate.evaluation import evaluate
from geossl.evaluate.report import Report
from geossl.finetuning.choose_lr import LR_GRID, choose_lr
from geossl.finetuning.classifier import NOTES, begin, go_on, train, write_settings
from geossl.finetuning.data import read_labelled
from geossl.finetuning.predict import predict
from geossl.training import resume as origins
from geossl.training.folder import held, read_failures
from geossl.training.ranks import joined

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Literal

    from geossl.evaluate.predictions import Predictions
    from geossl.finetuning.config import FinetuneConfig
    from geossl.finetuning.data import LabelledData
    from geossl.training.checkpoint import TrainState
    from geossl.training.learner import Learner
    from geossl.training.ranks import Ranks

REPORT, DETAILS = "finetune.json", "test"
"""Names, in the folder, of the report, and of the folder with predictions, tables and plots."""


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What a call of `finetune` did."""

    out: Path
    """The folder."""
    report: Report | None
    """The scores of the test images; None after SIGTERM."""
    predictions: Predictions | None
    """What they were computed from; None after SIGTERM."""
    secs: float
    """Duration of this call."""


def finetune(
    config: FinetuneConfig, *, resume: Literal["auto"] | None = None, console: Console | None = None
) -> FinetuneResult:
    """Train a classifier of the categories end to end, score it on the test images, and leave a run's folder.

    The protocol is in `geossl.finetuning.classifier`, the scores are those of the probe, per image and per place. The
    last epoch is reported, and nothing is chosen on test images. The folder `config.folder` gets config.yaml (the
    settings), checkpoints/last.pt (in the form of a run of the arm supervised, which `load_backbone` and `geossl probe`
    read), metrics.jsonl and tensorboard/ (see `geossl.training.log`), failures.jsonl if training images could not be
    read, finetune.json (the report, in the form of the probe's), and the folder test (`geossl.evaluate.evaluation`).

    Args:
        config: the settings.
        resume: `auto` goes on where the folder's checkpoint ends, on the CPU with weights that are bit for bit those of
            an uninterrupted run, or starts if there is none. None starts, and the folder must be free.
        console: where progress is shown; by default standard output.

    Raises:
        UsageError: a run, file, index or folder is not what it should be, the images have no categories, too few, or
            other bands than the encoder reads, or settings do not go together.
        GeosslError: the training has diverged, images cannot be read, or the disk is full; the last checkpoint is kept.
        KeyboardInterrupt: after SIGINT, once the step is finished and the checkpoint saved. After SIGTERM and SIGUSR1
            the same is done, and the call returns. A second signal acts at once.

    Processes that torchrun has started train together, as `geossl.training.train`; the first one scores.

    """
    started = time.perf_counter()
    config = config.settled()
    report = predictions = None
    with ExitStack() as held_folder:
        with joined(config.device) as ranks:
            console = (console or Console()) if ranks.first else Console(quiet=True)
            if ranks.first:
                held_folder.enter_context(held(config.folder, console=console))
            data = read_labelled(config)
            state = _trained(config, data, resume=resume, console=console, ranks=ranks)
        # The others have left: what follows must not wait for them.
        if ranks.first and state is not None:
            predictions, failures = predict(state, data)
            report = _report(config, state, data, predictions, failures=failures)
            report.write(config.folder / REPORT)
    secs = time.perf_counter() - started
    return FinetuneResult(out=config.folder, report=report, predictions=predictions, secs=secs)


def _trained(
    config: FinetuneConfig, data: LabelledData, *, resume: Literal["auto"] | None, console: Console, ranks: Ranks
) -> TrainState[Learner] | None:
    """The run after its last epoch; None after SIGTERM."""
    resolve_device(config.device)
    out, lr = config.folder, config.lr
    origin = origins.find(out, resume, ranks=ranks, console=console)
    if origin is not None:
        state = go_on(config, data, origin, console=console, ranks=ranks)
    else:
        if lr == "auto":
            if ranks.world > 1:
                raise UsageError("--lr auto: is tried in one process; start it without torchrun, or give --lr a number")
            write_settings(config)
            chosen = choose_lr(config, data, console=console)
            if chosen is None:
                return None
            lr = chosen
        state = begin(config, data, lr=lr, ranks=ranks)
    if ranks.first:
        write_settings(config)
    if state.epoch == state.config.epochs:
        console.print(f"{out}: already trained", highlight=False, soft_wrap=True)
    elif not train(config, state, console=console):
        return None
    return state


def _report(
    config: FinetuneConfig,
    state: TrainState[Learner],
    data: LabelledData,
    predictions: Predictions,
    *,
    failures: list[tuple[str, str]],
) -> Report:
    chosen, places = state.config, data.index.places
    made = evaluate(
        [predictions],
        folder=config.folder / DETAILS,
        index=data.index,
        classes=data.categories,
        train_rows=data.train,
        main=predictions.fit.encoder,
        seed=config.seed,
    )
    elsewhere = {"run", "data", "out", "device", "threads", "root", "pack"}
    return Report(
        run=str(config.run or chosen.model.backbone),
        data=str(config.data),
        index_hash=data.index.content_hash,
        settings={
            **config.model_dump(mode="json", exclude=elsewhere),
            "backbone": chosen.model.backbone,
            "size": chosen.crop.size,
            "batch": chosen.batch,
            "lr": chosen.optim.lr,
            "lr_grid": list(LR_GRID) if config.lr == "auto" else None,
        },
        train_images=len(data.labelled),
        train_places=len(np.unique(places[data.labelled])),
        test_images=len(predictions.rows),
        test_places=len(torch.unique(predictions.places)),
        classes=len(data.used),
        rows=made.rows,
        notes=[*data.notes, *_notes(config, state, failures)],
        details=made.details,
    )


def _notes(config: FinetuneConfig, state: TrainState[Learner], failures: list[tuple[str, str]]) -> Iterator[str]:
    """What a reader of the scores has to know beside how the data were chosen."""
    chosen, steps = state.config, len(state.loader)
    yield from state.notes[NOTES].get("said", [])
    left = len(state.data.rows) - steps * chosen.batch
    if chosen.batch != config.batch:
        yield f"batches of {chosen.batch} in place of {config.batch}, of which an epoch has {steps:,} whole ones"
    if left:
        yield f"each epoch leaves out {left:,} images, which make no whole batch, other ones every time"
    if replaced := read_failures(chosen.out):
        path, reason = replaced[0]
        yield f"unreadable training images, which others stood for: {len(replaced):,}, the first: {path}: {reason}"
    if failures:
        path, reason = failures[0]
        yield f"unreadable test images left out: {len(failures):,}, the first: {path}: {reason}"
