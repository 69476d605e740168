"""The training loop: one for all arms and for finetuning, on the CPU, a GPU, or many."""

from __future__ import annotations

import signal
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from geossl.training import checkpoint
from geossl.training.folder import FailureList, Room
from geossl.training.log import RunLog, Stopwatch, is_row
from geossl.training.profile import Profile
from geossl.training.ranks import SIGNAL
from geossl.training.signals import StopRequest
from geossl.training.upload import uploaded
from geossl.training.watch import Watcher
from geossl.training.weights_biases import WandbRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from geossl.training.checkpoint import TrainState
    from geossl.training.learns import L, Steps
    from geossl.training.online_knn import OnlineKnn
    from geossl.training.watch import Warnings


def fit(
    state: TrainState[L],
    *,
    stepper: Steps,
    rates: Callable[[int], Sequence[float]],
    warnings: Warnings,
    room: Room | None,
    knn: OnlineKnn | None = None,
    profile: int = 0,
    console: Console,
) -> dict[str, Any]:
    """Train until the last epoch's end or a signal, with a checkpoint after every epoch and every `save_steps` steps.

    Args:
        state: the run, which it changes; its optimizer has a group for each learning rate.
        stepper: takes the steps.
        rates: learning rates of an epoch (from 0), one for each group of the optimizer; the metrics have the first.
        warnings: say what looks wrong.
        room: watches the disk; None where another process writes.
        knn: classifies by nearest neighbours every `watch.knn_epochs` epochs.
        profile: measure this many steps; see `geossl.training.profile`.
        console: where progress is shown.

    Returns:
        The last row of metrics.

    Raises:
        UsageError, GeosslError, KeyboardInterrupt: as `geossl.training.train`.

    """
    config, loader, optimizer = state.config, state.loader, state.optimizer
    run, device, ranks = config.out, torch.device(config.device), state.ranks
    log = None
    if ranks.first:
        log = RunLog(
            run,
            console=console,
            epochs=config.epochs,
            steps_an_epoch=len(loader),
            done=state.step,
            stats=loader.stats,
            warnings=warnings,
            wandb=WandbRun(config) if config.watch.wandb is not None else None,
        )
    watcher = Watcher(config, learner=state.learner, stepper=stepper, index=state.data.index, ranks=ranks)
    profiler = Profile(config, steps=profile if ranks.first else 0, console=console)
    failures = FailureList(run, loader.failures, rank=ranks.rank)
    stopped_by: int | None = None
    accuracy = None

    def save() -> None:
        # What a checkpoint stands for is on the disk before it is.
        failures.write()
        if log is not None and room is not None:
            log.flush()
            checkpoint.save(state, best=state.improves(accuracy))
            room.look()
        ranks.wait()

    with failures, log or nullcontext(), StopRequest() as stop, backends(device), profiler:
        while state.epoch < config.epochs:
            if loader.epoch != state.epoch:
                loader.set_epoch(state.epoch)
            lrs = rates(state.epoch)
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr
            watch = Stopwatch()
            for batch in profiler.watch(watch.watch(uploaded(loader, device))):
                logged = is_row(state.step + 1, steps_an_epoch=len(loader))
                made, images = stepper.step(batch, number=state.step, logged=logged)
                state.step += 1
                made = ranks.agree(made, stop.signal)
                figures = watcher.read(
                    made, batch=batch, step=state.step, epoch=state.epoch, logged=logged and ranks.first
                )
                agreed = figures.pop(SIGNAL, None)
                watch.count(images)
                if log is not None:
                    if knn is not None and state.epoch_done and (state.epoch + 1) % config.watch.knn_epochs == 0:
                        with watch.stopped():
                            figures |= knn.measure(state.learner.encoder)
                        accuracy = figures.get("knn_acc")
                    log.step(state.step, epoch=state.epoch, lr=lrs[0], figures=figures, watch=watch)
                stopped_by = stop.signal if agreed is None else int(agreed)
                if stopped_by:
                    break
                if config.save_steps and state.step % config.save_steps == 0 and not state.epoch_done:
                    save()
            if state.epoch_done:
                state.epoch += 1
            save()
            if stopped_by:
                hint = f"stopped by {signal.Signals(stopped_by).name} and saved; go on with --resume auto"
                console.print(f"{run}: step {state.step}: {hint}", highlight=False, soft_wrap=True)
                if stopped_by == signal.SIGINT:
                    raise KeyboardInterrupt
                break
    return {} if log is None else log.last


@contextmanager
def backends(device: torch.device) -> Iterator[None]:
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
