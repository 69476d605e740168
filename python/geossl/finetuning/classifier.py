"""Training a classifier end to end: the protocol, and a run of it from its start or a checkpoint.

Source: "Geography-Aware Self-Supervised Learning" (ICCV 2021), section 5.1, and its released code, whose script
`main_lincls_fmow_chenlin.py` trains all weights: a linear layer ~ N(0, 0.01) with bias 0 on the backbone, SGD with
learning rate 0.001 for all of it, momentum 0.9 and no weight decay, batches of 256, 100 epochs, the learning rate x0.1
at 60 and 80; the model in eval mode, so that batch normalisation keeps the statistics of the weights; Resize(224) and
RandomCrop(224), and for the test Resize(224) and CenterCrop(224).

Where ours differs: theirs reports the best epoch *on the test set*, ours the last one; theirs has no flip, ours has
(`flip`); the last, short batch of an epoch is theirs alone (`geossl.finetuning.data.even_batch`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from geossl.config import CropConfig, OptimConfig, TrainConfig
from geossl.data.loader import Loader
from geossl.errors import UsageError
from geossl.files import naming_full_disk, replacing
from geossl.finetuning.data import even_batch
from geossl.finetuning.weights import read_start
from geossl.models.precision import gradient_scaler
from geossl.models.seeds import generator
from geossl.training import checkpoint
from geossl.training import resume as origins
from geossl.training.checkpoint import TrainState
from geossl.training.data import resolve
from geossl.training.folder import CONFIG, RESUME, Room
from geossl.training.learner import Learner
from geossl.training.loop import fit
from geossl.training.ranks import ALONE
from geossl.training.step import Stepper
from geossl.training.watch import Warnings

if TYPE_CHECKING:
    from rich.console import Console

    from geossl.finetuning.config import FinetuneConfig
    from geossl.finetuning.data import LabelledData
    from geossl.finetuning.weights import Start
    from geossl.training.data import TrainData
    from geossl.training.ranks import Ranks
    from geossl.training.resume import Origin

MOMENTUM = 0.9
SAME_BITS = {"data", "out", "root", "pack", "threads"}
"""Settings that a resumed run may change, as no weight depends on them."""
ROUNDING = {"device", "precision"}
"""Settings that it may change, as they say how the same is computed."""
NOTES = "finetune"
"""What a checkpoint's `geossl` part calls what finetuning adds to it: `settings`, as they were given; `categories`, the
names of the classifier's outputs; `encoder`, what it began with: the run's arm, `trained` or `scratch`; `said`, what a
reader has to know of these weights."""


def step_lr(lr: float, *, epoch: int, epochs: int) -> float:
    """Learning rate of an epoch, from 0: `lr`, a tenth of it after 60 % of the epochs, a hundredth after 80 %."""
    # In whole numbers, as 0.6 * epochs is not exact.
    return lr * 0.1 ** sum(10 * epoch >= part * epochs for part in (6, 8))


def begin(config: FinetuneConfig, data: LabelledData, *, lr: float, ranks: Ranks = ALONE) -> TrainState[Learner]:
    """A run that has taken no step.

    Args:
        config: the settings, settled.
        data: what is trained on.
        lr: the learning rate.
        ranks: the processes that train together.

    Raises:
        UsageError: there is no such run, file, model or device, or the images have other bands than it reads.

    """
    start = read_start(config, data)
    notes = {
        "settings": config.model_dump(mode="json"),
        "categories": data.categories,
        "encoder": start.name,
        "said": start.said,
    }
    batch = even_batch(len(data.train), config.batch, world=ranks.world)
    chosen = start.resolve(_train_config(config, start, lr=lr, batch=batch))
    state = _state(config, start.data, chosen, notes=notes, ranks=ranks)
    start.give(state.learner.encoder)
    return state


def go_on(
    config: FinetuneConfig, data: LabelledData, origin: Origin, *, console: Console, ranks: Ranks = ALONE
) -> TrainState[Learner]:
    """A run at its checkpoint; the weights that it began with are not read again.

    Raises UsageError if settings or data have changed that may not, or it is not a finetuning run's.
    """
    own = origin.content["geossl"]
    if NOTES not in own:
        raise UsageError(f"{config.folder}: has another run, not a finetuning's; use another --out")
    was, now = own[NOTES]["settings"], config.model_dump(mode="json")
    origins.compare(was, now, same_bits=SAME_BITS, rounding=ROUNDING, file=origin.file, console=console)
    saved = origins.saved_settings(origin)
    loader = saved.loader.model_copy(update={"root": config.root, "pack": config.pack, "threads": config.threads})
    update = {"data": config.data, "out": config.folder, "loader": loader}
    saved = saved.model_copy(update=update | {"device": config.device, "precision": config.precision})
    train_data = data.train_data(saved.loader.bands)
    origins.check_data(config.data, train_data, origin)
    notes = own[NOTES] | {"settings": now}
    state = _state(config, train_data, resolve(saved, train_data), notes=notes, ranks=ranks)
    origins.enter(origin, state, console=console)
    return state


def write_settings(config: FinetuneConfig) -> None:
    """Leave config.yaml in the run folder, which tells that it is one."""
    path = config.folder / CONFIG
    with naming_full_disk(path, hint=RESUME), replacing(path) as file:
        file.write(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())


def train(config: FinetuneConfig, state: TrainState[Learner], *, console: Console) -> bool:
    """Train until the last epoch's end or a signal, and leave everything in the run folder.

    Returns whether all epochs are done. Raises as `geossl.training.loop.fit`.
    """
    chosen = state.config
    _announce(config, state, console=console)
    first = state.ranks.first
    room = Room(chosen.out, size=checkpoint.size(state), files=1, console=console) if first else None
    rates = [chosen.optim.lr, chosen.optim.lr if config.head_lr is None else config.head_lr]
    faster = ["more --threads"] if chosen.loader.pack else ["more --threads", "`geossl data pack` and --pack"]
    fit(
        state,
        stepper=_stepper(config, state),
        rates=lambda epoch: [step_lr(lr, epoch=epoch, epochs=chosen.epochs) for lr in rates],
        warnings=Warnings(chosen, faster=faster),
        room=room,
        console=console,
    )
    return state.epoch == chosen.epochs


def _train_config(config: FinetuneConfig, start: Start, *, lr: float, batch: int) -> TrainConfig:
    """The settings of the training run that this is, in which a checkpoint says how images are prepared."""
    loaded = start.loaded
    size = config.size or CropConfig().size if loaded is None else loaded.size
    context = True if loaded is None else loaded.settings.get("crop", {}).get("context", True)
    return TrainConfig(
        **start.settings(config),
        epochs=config.epochs,
        batch=batch,
        crop=CropConfig(size=size, context=context, flip=config.flip),
        optim=OptimConfig(lr=lr, momentum=MOMENTUM, weight_decay=config.weight_decay),
    )


def _state(
    config: FinetuneConfig, data: TrainData, chosen: TrainConfig, *, notes: dict[str, Any], ranks: Ranks
) -> TrainState[Learner]:
    """The run with fresh weights."""
    device = torch.device(chosen.device)
    loader = Loader(
        data.index,
        rows=data.rows,
        batch=chosen.batch,
        views=1,
        temporal=False,
        crop=chosen.crop,
        color=None,
        normalize=chosen.color.normalization if device.type == "cpu" else None,
        seed=chosen.seed,
        train=True,
        cut="random",
        loader=chosen.loader,
        pin=device.type == "cuda",
        rank=ranks.rank,
        world=ranks.world,
    )
    learner = Learner(chosen, bands=data.samples.bands, classes=data.classes, geo=None, ranks=ranks)
    encoder = learner.encoder
    with torch.no_grad():
        encoder.get_parameter("fc.weight").normal_(0, 0.01, generator=generator(chosen.seed, "classifier"))
        encoder.get_parameter("fc.bias").zero_()
    encoder.train(config.bn == "train")
    learner.to(device)
    learner.distribute()
    optimizer = torch.optim.SGD(
        [{"params": list(part.parameters())} for part in (encoder.body, encoder.fc)],
        lr=chosen.optim.lr,
        momentum=chosen.optim.momentum,
        weight_decay=chosen.optim.weight_decay,
        fused=device.type == "cuda",
    )
    return TrainState(
        config=chosen,
        data=data,
        learner=learner,
        optimizer=optimizer,
        scaler=gradient_scaler(chosen.precision, device),
        loader=loader,
        ranks=ranks,
        notes={NOTES: notes},
    )


def _stepper(config: FinetuneConfig, state: TrainState[Learner]) -> Stepper:
    return Stepper(
        state.config,
        learner=state.learner,
        optimizer=state.optimizer,
        scaler=state.scaler,
        loader=state.loader,
        targets=state.data.targets(),
        ranks=state.ranks,
        mirror=config.flip,
    )


def _announce(config: FinetuneConfig, state: TrainState[Learner], *, console: Console) -> None:
    """What is about to run."""
    chosen, data = state.config, state.data
    places = len(np.unique(data.index.places[data.rows]))
    weights = "random weights" if chosen.init_from is None else f"weights of {chosen.init_from}"
    model = f"{chosen.model.backbone} at {chosen.crop.size} pixels on {chosen.device}, {weights}"
    images = f"{len(data.rows):,} images of {places:,} places, {data.classes} classes"
    work = f"{len(state.loader):,} steps of {chosen.batch} an epoch, {chosen.epochs} epochs"
    how = f"learning rate {chosen.optim.lr:g}, batch normalisation {config.bn}"
    for line in (f"finetune: {model}", f"{images}; {work}; {how}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
