"""A training run, of any arm: from its settings to its folder. The loop itself is in `geossl.training.loop`."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from geossl.config import TrainConfig, dump_yaml
from geossl.data.loader import Loader
from geossl.errors import Faults, UsageError
from geossl.files import naming_full_disk, replacing
from geossl.models.precision import gradient_scaler
from geossl.training import checkpoint, weights_biases
from geossl.training import resume as origins
from geossl.training.checkpoint import TrainState
from geossl.training.data import TrainData, read_data, resolve
from geossl.training.dry_run import show_dry_run
from geossl.training.folder import CONFIG, RESUME, Room, held
from geossl.training.learner import Learner
from geossl.training.log import read_metrics
from geossl.training.loop import backends, fit
from geossl.training.online_knn import OnlineKnn
from geossl.training.ranks import joined
from geossl.training.step import Stepper
from geossl.training.watch import Warnings

if TYPE_CHECKING:
    from pathlib import Path

    from geossl.models.source import Source
    from geossl.training.ranks import Ranks
    from geossl.training.resume import Resume


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a call of `train` did."""

    run: Path
    """The run folder."""
    steps: int
    """Steps completed, those before a resume included."""
    epochs: int
    """Epochs completed, those before a resume included."""
    finished: bool
    """Whether all epochs are done; false after SIGTERM."""
    metrics: dict[str, Any]
    """The last row of metrics.jsonl."""
    secs: float
    """Duration of this call."""
    planned_secs: float | None = None
    """How long the run, or what is left of it, will take, by a dry run's steps; None of a run."""


def train(
    config: TrainConfig,
    *,
    resume: Resume | None = None,
    profile: int = 0,
    dry_run: bool = False,
    console: Console | None = None,
) -> TrainResult:
    """Train an encoder, and leave its checkpoint, settings and metrics in the folder `config.out`.

    The folder gets config.yaml (the settings, with everything automatic decided), checkpoints/ (see
    `geossl.training.checkpoint`), metrics.jsonl and tensorboard/ (see `geossl.training.log`), and failures.jsonl if
    images could not be read. The checkpoint is written after every epoch and every `save_steps` steps.

    Args:
        config: the settings.
        resume: `auto` goes on where the folder's last whole checkpoint ends, with weights that on the CPU are bit
            for bit those of an uninterrupted run, or starts if there is no checkpoint. A checkpoint file, or a run's
            folder, is where to go on instead: in the folder's own run, what came after it is dropped; at another
            run's, a new run begins, and the folder must be free. None starts a new run.
        profile: measure this many steps after the first few; see `geossl.training.profile`.
        dry_run: take a few steps, show what the run is and what it takes (see `geossl.training.dry_run`), and write
            nothing.
        console: where progress is shown; by default standard output.

    Raises:
        UsageError: the settings, the data and the run folder do not go together; nothing has been written.
        GeosslError: the loss or the gradient is no longer finite (the batch is left in nan_batch.pt), or the disk is
            full; the last checkpoint is kept as it was.
        KeyboardInterrupt: after SIGINT, once the step is finished and the checkpoint saved. After SIGTERM and
            SIGUSR1 the same is done, and the call returns. A second signal acts at once.

    Processes that torchrun has started train together (see `geossl.training.ranks`): each makes this call, and the
    first one writes and prints. A signal to any of them stops all after the same step.

    """
    with joined(config.device) as ranks:
        console = (console or Console()) if ranks.first else Console(quiet=True)
        with held(config.out, console=console) if ranks.first and not dry_run else nullcontext():
            return _train(config, resume=resume, profile=profile, dry_run=dry_run, console=console, ranks=ranks)


def _train(
    config: TrainConfig, *, resume: Resume | None, profile: int, dry_run: bool, console: Console, ranks: Ranks
) -> TrainResult:
    started = time.perf_counter()
    run, origin, faults = config.out, None, Faults()
    with faults.noted():
        origin = origins.find(run, resume, ranks=ranks, console=console)
    if origin is not None:
        config = origins.with_resolved(config, origin, console=console)
    data = read_data(config, new=origin is None, faults=faults)
    config = resolve(config, data)
    if origin is not None:
        origins.check_same(config, data, origin, console=console)
        if origin.content["epoch"] == config.epochs:
            if not origin.own:
                raise UsageError(f"{origin.file}: its run is finished, and there is nothing to go on with")
            console.print(f"{run}: already finished", highlight=False)
            return TrainResult(
                run=run,
                steps=origin.step,
                epochs=config.epochs,
                finished=True,
                metrics=(read_metrics(run) or [{}])[-1],
                secs=time.perf_counter() - started,
            )
    knn = OnlineKnn(config, data, console=console) if config.watch.knn_epochs else None
    weights_biases.check(config)
    # None has written anything before all have looked.
    ranks.check_alike(
        {
            "settings": config.model_dump(mode="json", exclude={"device"}),
            "images": data.index.content_hash,
            "labels": data.labels_hash,
            "checkpoint": None if origin is None else origin.step,
        }
    )
    state = _start(config, data, ranks)
    if origin is None and config.init_from is not None:
        source = state.learner.start_from(config.init_from, band_names=data.samples.names)
        for line in _start_lines(source, config):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        if origin is not None:
            checkpoint.restore(origin.content, state)
        with backends(torch.device(config.device)):
            planned = show_dry_run(state, stepper=_stepper(state), console=console)
        secs = time.perf_counter() - started
        return TrainResult(run=run, steps=0, epochs=0, finished=False, metrics={}, secs=secs, planned_secs=planned)
    _announce(state, console=console)
    kept = config.keep + bool(config.watch.knn_epochs)  # with the best one
    room = Room(run, size=checkpoint.size(state), files=kept, console=console) if ranks.first else None
    if origin is not None:
        origins.enter(origin, state, console=console)
    if ranks.first:
        with naming_full_disk(run / CONFIG, hint=RESUME), replacing(run / CONFIG) as file:
            file.write(dump_yaml(config).encode())
    metrics = fit(
        state,
        stepper=_stepper(state),
        rates=lambda epoch: [cosine_lr(config.optim.lr, epoch=epoch, epochs=config.epochs)],
        warnings=Warnings(config),
        room=room,
        knn=knn,
        profile=profile,
        console=console,
    )
    return TrainResult(
        run=run,
        steps=state.step,
        epochs=state.epoch,
        finished=state.epoch == config.epochs,
        metrics=metrics,
        secs=time.perf_counter() - started,
    )


def _start_lines(source: Source, config: TrainConfig) -> list[str]:
    """What the weights are that a run starts from, and whether it normalises its images as they expect."""
    weights, _ = source.lines()
    own = [config.color.mean, config.color.std]
    if [source.mean, source.std] == own or len(source.mean) != len(config.color.mean or ()):
        return [weights]
    want = f"color.mean {list(source.mean)}, color.std {list(source.std)}"
    return [weights, f"the weights expect another normalisation than the run's: {want} ({source.normalisation})"]


def cosine_lr(lr: float, *, epoch: int, epochs: int) -> float:
    """Learning rate of an epoch, from 0: half a cosine from `lr` towards 0, a step an epoch, no warm-up."""
    return lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def _stepper(state: TrainState[Learner]) -> Stepper:
    return Stepper(
        state.config,
        learner=state.learner,
        optimizer=state.optimizer,
        scaler=state.scaler,
        loader=state.loader,
        targets=state.data.targets(),
        ranks=state.ranks,
    )


def _announce(state: TrainState[Learner], *, console: Console) -> None:
    """What is about to run, and the memory that its loader may take."""
    config, loader = state.config, state.loader
    model = f"{config.model.backbone} at {config.crop.size} pixels on {config.device}"
    ranks, part = state.ranks, config.batch // (state.ranks.world * config.accumulate)
    work = f"{len(state.data.rows):,} images, {len(loader):,} steps of {config.batch} an epoch, {config.epochs} epochs"
    console.print(f"{config.arm}: {model}; {work}", highlight=False, soft_wrap=True)
    if config.batch != part:
        pieces = [(ranks.world, "processes"), (config.accumulate, "micro-batches")]
        product = " x ".join([f"{count} {name}" for count, name in pieces if count > 1])
        rate = f"learning rate {config.optim.lr:g} for the whole batch"
        console.print(f"{config.batch} images a step = {product} x {part}; {rate}", highlight=False, soft_wrap=True)
    if state.data.alone:
        does = "left out" if config.pairs.alone == "leave_out" else "each is two crops of itself"
        console.print(f"pairs: {state.data.alone:,} images have no allowed other date: {does}", highlight=False)
    bound = f"loader: at most {loader.memory_bound / 2**20:,.0f} MiB, by its slots, threads and max_image_mib"
    console.print(bound, highlight=False)
    if config.device == "cpu" and config.crop.size > 128:
        hint = "this takes long on a CPU; `--recipe laptop`, after the arm's, makes it small"
        console.print(hint, highlight=False)


def _start(config: TrainConfig, data: TrainData, ranks: Ranks) -> TrainState[Learner]:
    if ranks.world > 1 and config.loader.on_error == "skip":
        raise UsageError("loader.on_error: skip would leave the processes with unequal batches; use substitute")
    device = torch.device(config.device)
    loader = Loader(
        data.index,
        rows=data.rows,
        batch=config.batch,
        views=2 if config.contrastive else 1,
        temporal=config.temporal,
        pairs=config.pairs,
        crop=config.crop,
        color=config.color,
        # Where there is no GPU to do it, the loader's threads do.
        normalize=config.color.normalization if device.type == "cpu" else None,
        seed=config.seed,
        train=True,
        loader=config.loader,
        pin=device.type == "cuda",
        rank=ranks.rank,
        world=ranks.world,
    )
    learner = Learner(config, bands=data.samples.bands, classes=data.classes, geo=data.geo, ranks=ranks).to(device)
    if config.compile:
        learner.compile()
    learner.distribute()
    optimizer = torch.optim.SGD(
        learner.parameters(),
        lr=config.optim.lr,
        momentum=config.optim.momentum,
        weight_decay=config.optim.weight_decay,
        fused=device.type == "cuda",  # on a CPU it gives the same bits, and is no faster
    )
    scaler = gradient_scaler(config.precision, device)
    return TrainState(
        config=config,
        data=data,
        learner=learner,
        optimizer=optimizer,
        scaler=scaler,
        loader=loader,
        ranks=ranks,
    )
