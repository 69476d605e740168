"""A transfer's run, from its start or a checkpoint: the training loop is that of `geossl train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import yaml

from geossl.config import CropConfig, OptimConfig, TrainConfig
from geossl.data.loader import Loader
from geossl.errors import UsageError
from geossl.files import naming_full_disk, replacing
from geossl.finetuning.weights import read_start
from geossl.models.backbone import build_backbone
from geossl.models.precision import gradient_scaler
from geossl.training import checkpoint
from geossl.training import resume as origins
from geossl.training.checkpoint import TrainState
from geossl.training.data import resolve
from geossl.training.folder import CONFIG, RESUME, Room
from geossl.training.loop import fit
from geossl.training.watch import Warnings
from geossl.transfer.boxes import BoxTargets
from geossl.transfer.detector import Detector
from geossl.transfer.learner import TransferLearner, TransferStepper
from geossl.transfer.segmentation_net import SegmentationNet
from geossl.transfer.segmentations import MaskTargets

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from torch import Tensor, nn

    from geossl.finetuning.weights import Start
    from geossl.models.backbone import Encoder
    from geossl.training.data import TrainData
    from geossl.training.ranks import Ranks
    from geossl.training.resume import Origin
    from geossl.transfer.config import TransferConfig
    from geossl.transfer.data import TransferData

SAME_BITS = {"data", "out", "root", "pack", "threads", "save_steps", "overlap"}
"""Settings that a resumed run may change, as no weight depends on them."""
ROUNDING = {"device", "precision"}
"""Settings that it may change, as they say how the same is computed."""
NOTES = "transfer"
"""What a checkpoint's `geossl` part calls what a transfer adds to it: `settings`, as they were given; `categories`, of
the network's outputs; `encoder`, what it began with: the run's arm, `trained` or `scratch`; `said`, what a reader has
to know of these weights; `digest`, of the data."""
POWER = 0.9
"""Of the polynomial that the learning rate falls by."""
NEW_LR = 10.0
"""To segment, what is new on the encoder learns at so many times its rate, as in the code of PSPNet and PSANet."""


def begin(config: TransferConfig, data: TransferData, *, ranks: Ranks) -> TrainState[TransferLearner]:
    """A run that has taken no step.

    Raises UsageError if there is no such run, file, model or device, or the images have other bands than it reads.
    """
    start = read_start(config, data)
    notes = {
        "settings": config.model_dump(mode="json"),
        "categories": data.objects.categories,
        "encoder": start.name,
        "said": start.said,
        "digest": data.digest,
    }
    chosen = start.resolve(_train_config(config, start))
    state = _state(config, start.data, chosen, notes=notes, ranks=ranks)
    start.give(state.learner.encoder)
    return state


def go_on(
    config: TransferConfig, data: TransferData, origin: Origin, *, ranks: Ranks, console: Console
) -> TrainState[TransferLearner]:
    """A run at its checkpoint; the weights that it began with are not read again.

    Raises UsageError if settings or data have changed that may not, or it is not a transfer's run.
    """
    own = origin.content["geossl"]
    if NOTES not in own:
        raise UsageError(f"{config.folder}: has another run, not a transfer's; use another --out")
    was, now = own[NOTES]["settings"], config.model_dump(mode="json")
    origins.compare(was, now, same_bits=SAME_BITS, rounding=ROUNDING, file=origin.file, console=console)
    if own[NOTES]["digest"] != data.digest:
        raise UsageError(f"{config.data}: has not the images and objects that {origin.file} was made with")
    saved = origins.saved_settings(origin)
    loader = saved.loader.model_copy(update={"root": config.root, "pack": config.pack, "threads": config.threads})
    update: dict[str, Any] = {"data": config.data, "out": config.folder, "loader": loader}
    update |= {"device": config.device, "precision": config.precision, "save_steps": config.save_steps}
    train_data = data.train_data(saved.loader.bands)
    origins.check_data(config.data, train_data, origin)
    chosen = resolve(saved.model_copy(update=update), train_data)
    state = _state(config, train_data, chosen, notes=own[NOTES] | {"settings": now}, ranks=ranks)
    origins.enter(origin, state, console=console)
    return state


def write_settings(config: TransferConfig) -> None:
    """Leave config.yaml in the run folder, which tells that it is one."""
    path = config.folder / CONFIG
    with naming_full_disk(path, hint=RESUME), replacing(path) as file:
        file.write(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())


def train(config: TransferConfig, data: TransferData, state: TrainState[TransferLearner], *, console: Console) -> bool:
    """Train until the last epoch's end or a signal, and leave everything in the run folder.

    Returns whether all epochs are done. Raises as `geossl.training.loop.fit`.
    """
    chosen, ranks = state.config, state.ranks
    _announce(config, data, state, console=console)
    room = Room(chosen.out, size=checkpoint.size(state), files=1, console=console) if ranks.first else None
    stepper = TransferStepper(
        chosen,
        learner=state.learner,
        optimizer=state.optimizer,
        scaler=state.scaler,
        loader=state.loader,
        targets=_targets(config, data),
        ranks=ranks,
        mirror=config.flip,
    )
    faster = ["more --threads"] if config.pack else ["more --threads", "`geossl data pack` and --pack"]
    fit(
        state,
        stepper=stepper,
        rates=lambda epoch: _rates(config, chosen.optim.lr, epoch=epoch, epochs=chosen.epochs),
        warnings=Warnings(chosen, faster=faster),
        room=room,
        console=console,
    )
    return state.epoch == chosen.epochs


def _rates(config: TransferConfig, lr: float, *, epoch: int, epochs: int) -> list[float]:
    """Learning rates of an epoch: of the encoder and of what is on it."""
    if config.task == "detect":
        return [lr, lr]
    now = lr * (1 - epoch / epochs) ** POWER
    return [now, NEW_LR * now]


def _train_config(config: TransferConfig, start: Start) -> TrainConfig:
    """The settings of the training run that this is, in which a checkpoint says how images are prepared."""
    return TrainConfig(
        **start.settings(config),
        epochs=config.epochs or 0,
        batch=config.batch or 0,
        save_steps=config.save_steps,
        crop=CropConfig(size=config.size or 0, context=False, flip=config.flip),
        optim=OptimConfig(lr=config.lr or 0, momentum=0.9, weight_decay=0 if config.task == "detect" else 1e-4),
    )


def _state(
    config: TransferConfig,
    train_data: TrainData,
    chosen: TrainConfig,
    *,
    notes: dict[str, Any],
    ranks: Ranks,
) -> TrainState[TransferLearner]:
    """The run with fresh weights."""
    device = torch.device(chosen.device)
    bands, model = train_data.samples.bands, chosen.model
    loader = Loader(
        train_data.index,
        rows=train_data.rows,
        batch=chosen.batch,
        views=1,
        temporal=False,
        crop=chosen.crop,
        color=None,
        normalize=chosen.color.normalization if device.type == "cpu" else None,
        seed=chosen.seed,
        train=True,
        cut="center",
        loader=chosen.loader,
        pin=device.type == "cuda",
        rank=ranks.rank,
        world=ranks.world,
    )
    encoder = build_backbone(model.backbone, bands=bands, seed=chosen.seed, size=chosen.crop.size, stem=model.stem)
    encoder.requires_grad_(requires_grad=not config.frozen)
    net = build_model(chosen, encoder, notes=notes, bands=bands)
    learner = TransferLearner(net, encoder=encoder, bn=config.bn or "eval", device=device, ranks=ranks)
    return TrainState(
        config=chosen,
        data=train_data,
        learner=learner,
        optimizer=_optimizer(config, chosen, learner),
        scaler=gradient_scaler(chosen.precision, device),
        loader=loader,
        ranks=ranks,
        notes={NOTES: notes},
    )


def build_model(chosen: TrainConfig, encoder: Encoder, *, notes: dict[str, Any], bands: int) -> nn.Module:
    """The network of a task on an encoder; `notes` are those of a checkpoint."""
    size, seed, classes = chosen.crop.size, chosen.seed, len(notes["categories"])
    if notes["settings"]["task"] == "detect":
        return Detector(encoder, classes=classes, bands=bands, size=size, seed=seed)
    return SegmentationNet(encoder, head=notes["settings"]["head"], classes=classes + 1, size=size, seed=seed)


def _targets(config: TransferConfig, data: TransferData) -> Callable[[Tensor, Tensor, torch.device], object]:
    """What the network is to see in chips."""
    if config.task == "detect":
        return BoxTargets(objects=data.objects, boxes=data.objects.boxes, chips=data.chips).batch
    return MaskTargets(objects=data.objects, chips=data.chips).batch


def _optimizer(config: TransferConfig, chosen: TrainConfig, learner: TransferLearner) -> torch.optim.Optimizer:
    old = {id(p) for p in learner.encoder.body.parameters()}
    groups = [
        {"params": [p for p in learner.parameters() if (id(p) in old) == of_encoder]} for of_encoder in (True, False)
    ]
    fused = chosen.device.startswith("cuda")
    if config.task == "detect":
        return torch.optim.Adam(groups, lr=chosen.optim.lr, fused=fused)
    optim = chosen.optim
    return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay, fused=fused)


def _announce(
    config: TransferConfig, data: TransferData, state: TrainState[TransferLearner], *, console: Console
) -> None:
    """What is about to run."""
    chosen = state.config
    weights = "random weights" if chosen.init_from is None else f"weights of {chosen.init_from}"
    if config.frozen:
        weights += ", frozen"
    model = f"{chosen.model.backbone} at {chosen.crop.size} pixels on {chosen.device}, {weights}"
    images = f"{len(data.chips):,} windows of {len(data.train):,} images, {len(data.objects.categories)} classes"
    work = f"{len(state.loader):,} steps of {chosen.batch} an epoch, {chosen.epochs} epochs"
    how = f"learning rate {chosen.optim.lr:g}, batch normalisation {config.bn}"
    for line in (f"{config.task}: {model}", f"{images}; {work}; {how}", *data.notes):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
