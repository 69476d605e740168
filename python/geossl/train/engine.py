"""The training loop: one for all arms, on the CPU, a GPU, or many."""

from __future__ import annotations

import math
import signal
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from geossl.config import TrainConfig, dump_yaml
from geossl.data.loader import Loader
from geossl.errors import GeosslError, UsageError
from geossl.files import naming_full_disk, replacing
from geossl.models.precision import gradient_scaler
from geossl.train import checkpoint
from geossl.train import resume as origins
from geossl.train.checkpoint import TrainState
from geossl.train.data import TrainData, read_data, resolve
from geossl.train.folder import CONFIG, RESUME, FailureList, Room, held
from geossl.train.learner import Learner
from geossl.train.log import RunLog, Stopwatch, read_metrics
from geossl.train.profile import Profile
from geossl.train.ranks import joined
from geossl.train.signals import StopRequest
from geossl.train.step import Stepper
from geossl.train.upload import uploaded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geossl.train.ranks import Ranks
    from geossl.train.resume import Resume


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


def train(
    config: TrainConfig,
    *,
    resume: Resume | None = None,
    profile: int = 0,
    console: Console | None = None,
) -> TrainResult:
    """Train an encoder, and leave its checkpoint, settings and metrics in the folder `config.out`.

    The folder gets config.yaml (the settings, with everything automatic decided), checkpoints/ (see
    `geossl.train.checkpoint`), metrics.jsonl and tensorboard/ (see `geossl.train.log`), and failures.jsonl if
    images could not be read. The checkpoint is written after every epoch and every `save_steps` steps.

    Args:
        config: the settings.
        resume: `auto` goes on where the folder's last whole checkpoint ends, with weights that on the CPU are bit
            for bit those of an uninterrupted run, or starts if there is no checkpoint. A checkpoint file, or a run's
            folder, is where to go on instead: in the folder's own run, what came after it is dropped; at another
            run's, a new run begins, and the folder must be free. None starts a new run.
        profile: measure this many steps after the first few; see `geossl.train.profile`.
        console: where progress is shown; by default standard output.

    Raises:
        UsageError: the settings, the data and the run folder do not go together; nothing has been written.
        GeosslError: the loss is no longer finite, or the disk is full; the last checkpoint is kept as it was.
        KeyboardInterrupt: after SIGINT, once the step is finished and the checkpoint saved. After SIGTERM and
            SIGUSR1 the same is done, and the call returns. A second signal acts at once.

    Processes that torchrun has started train together (see `geossl.train.ranks`): each makes this call, and the first
    one writes and prints. A signal to any of them stops all after the same step.

    """
    with joined(config.device) as ranks:
        console = (console or Console()) if ranks.first else Console(quiet=True)
        with held(config.out, console=console) if ranks.first else nullcontext():
            return _train(config, resume=resume, profile=profile, console=console, ranks=ranks)


def _train(config: TrainConfig, *, resume: Resume | None, profile: int, console: Console, ranks: Ranks) -> TrainResult:
    started = time.perf_counter()
    run = config.out
    origin = origins.find(run, resume, ranks=ranks, console=console)
    if origin is not None:
        config = origins.with_resolved(config, origin, console=console)
    data = read_data(config)
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
        state.learner.start_from(config.init_from, band_names=data.samples.names)
    _announce(state, console=console)
    room = Room(run, size=checkpoint.size(state), files=config.keep, console=console)
    if origin is not None:
        origins.enter(origin, state, console=console)
    if ranks.first:
        with naming_full_disk(run / CONFIG, hint=RESUME), replacing(run / CONFIG) as file:
            file.write(dump_yaml(config).encode())
    metrics = _fit(state, room=room, profile=profile, console=console)
    return TrainResult(
        run=run,
        steps=state.step,
        epochs=state.epoch,
        finished=state.epoch == config.epochs,
        metrics=metrics,
        secs=time.perf_counter() - started,
    )


def cosine_lr(lr: float, *, epoch: int, epochs: int) -> float:
    """Learning rate of an epoch, from 0: half a cosine from `lr` towards 0, a step an epoch, no warm-up."""
    return lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def _fit(state: TrainState, *, room: Room, profile: int, console: Console) -> dict[str, Any]:
    """Train until the last epoch's end or a signal; gives the last row of metrics."""
    config, loader, optimizer = state.config, state.loader, state.optimizer
    run, device, ranks = config.out, torch.device(config.device), state.ranks
    stepper = Stepper(
        config,
        learner=state.learner,
        optimizer=optimizer,
        scaler=state.scaler,
        loader=loader,
        targets=state.data.targets(),
        ranks=ranks,
    )
    log = None
    if ranks.first:
        log = RunLog(
            run,
            console=console,
            epochs=config.epochs,
            steps_an_epoch=len(loader),
            done=state.step,
            stats=loader.stats,
        )
    profiler = Profile(config, steps=profile if ranks.first else 0, console=console)
    failures = FailureList(run, loader.failures, rank=ranks.rank)
    stopped_by = None

    def save(*, best: bool = False) -> None:
        # What a checkpoint stands for is on the disk before it is.
        failures.write()
        if log is not None:
            log.flush()
            checkpoint.save(state, best=best)
            room.look()
        ranks.wait()

    with failures, log or nullcontext(), StopRequest() as stop, _backends(device), profiler:
        while state.epoch < config.epochs:
            if loader.epoch != state.epoch:
                loader.set_epoch(state.epoch)
            lr = cosine_lr(config.optim.lr, epoch=state.epoch, epochs=config.epochs)
            for group in optimizer.param_groups:
                group["lr"] = lr
            watch = Stopwatch()
            for batch in profiler.watch(watch.watch(uploaded(loader, device))):
                made, images = stepper.step(batch, number=state.step)
                state.step += 1
                figures, stopped_by = ranks.agree(made, stop.signal)
                if not math.isfinite(figures["loss"]):
                    where = f"at step {state.step} of epoch {state.epoch + 1}"
                    raise GeosslError(f"{run}: the loss is {figures['loss']} {where}; try a smaller optim.lr")
                watch.count(images)
                if log is not None:
                    log.step(state.step, epoch=state.epoch, lr=lr, figures=figures, watch=watch)
                if stopped_by is not None:
                    break
                if config.save_steps and state.step % config.save_steps == 0 and not state.epoch_done:
                    save()
            if state.epoch_done:
                state.epoch += 1
            save()
            if stopped_by is not None:
                hint = f"stopped by {signal.Signals(stopped_by).name} and saved; go on with --resume auto"
                console.print(f"{run}: step {state.step}: {hint}", highlight=False)
                if stopped_by == signal.SIGINT:
                    raise KeyboardInterrupt
                break
    return {} if log is None else log.last


def _announce(state: TrainState, *, console: Console) -> None:
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


def _start(config: TrainConfig, data: TrainData, ranks: Ranks) -> TrainState:
    if ranks.world > 1 and config.loader.on_error == "skip":
        raise UsageError("loader.on_error: skip would leave the processes with unequal batches; use substitute")
    device = torch.device(config.device)
    mean, std = config.color.mean, config.color.std
    if mean is None or std is None:
        raise ValueError("color.mean and color.std must be resolved")
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
        normalize=(mean, std) if device.type == "cpu" else None,
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
    learner.distribute(ranks)
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


@contextmanager
def _backends(device: torch.device) -> Iterator[None]:
    """Switch torch to reproducible kernels alone on the CPU, to the fastest convolutions on a GPU."""
    switches: Any = torch.utils.deterministic
    deterministic, fill = torch.are_deterministic_algorithms_enabled(), switches.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark
    try:
        if device.type == "cpu":
            torch.use_deterministic_algorithms(mode=True)
            switches.fill_uninitialized_memory = False  # it costs time, and nothing here reads such memory
        else:
            torch.backends.cudnn.benchmark = True
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        switches.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark
