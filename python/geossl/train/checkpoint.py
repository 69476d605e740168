"""A run's checkpoint: everything that its continuation needs, in the form of the paper's released code.

The file is a dict of `epoch` (epochs completed), `arch`, `state_dict` (each name with `module.` before it,
as the authors' data-parallel wrapper had it), `optimizer`, `geo_dict` (the geo head, for the arms that have
one), and `geossl`, which is ours. It holds tensors and plain containers only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from geossl.config import TrainConfig, flatten
from geossl.errors import UsageError
from geossl.files import replacing
from geossl.models.weights import CHECKPOINT, read_checkpoint
from geossl.phases import phase
from geossl.train.ranks import ALONE

if TYPE_CHECKING:
    from pathlib import Path

    from geossl.data.loader import Loader
    from geossl.train.data import TrainData
    from geossl.train.learner import Learner
    from geossl.train.ranks import Ranks

FORMAT = 1
"""Version of the `geossl` part."""
PREFIX = "module."
FREE = {
    "data",
    "out",
    "accumulate",
    "compile",
    "model.checkpointing",
    "device",
    "save_steps",
    "loader.root",
    "loader.pack",
    "loader.clusters",
    "loader.threads",
    "watch.knn_epochs",
    "watch.wandb",
}
"""Settings that a resumed run may change: they say where things are, not what is computed. That the images
and the clusters are the same is checked by their content, that a pack gives the same batches by the loader's state."""


@dataclass(kw_only=True)
class TrainState:
    """A run in progress: all that a checkpoint is made from, and restored to."""

    config: TrainConfig
    """Its settings, with everything automatic decided."""
    data: TrainData
    learner: Learner
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    """Of the loss; it does something for fp16 alone."""
    loader: Loader
    ranks: Ranks = ALONE
    epoch: int = 0
    """Epochs completed."""
    step: int = 0
    """Steps completed, over all epochs."""

    @property
    def epoch_done(self) -> bool:
        """Whether the loader has given the last batch of its epoch."""
        return self.step >= (self.epoch + 1) * len(self.loader)

    @property
    def position(self) -> dict[str, Any]:
        """The loader's state after the last batch that was learnt from; for a GPU, it has given another."""
        batches = self.step - self.epoch * len(self.loader)
        return self.loader.state_dict() | {"epoch": self.epoch, "batches": batches}


@phase("checkpoint")
def save(state: TrainState) -> None:
    """Write the checkpoint into the run folder, atomically."""
    config, data, learner = state.config, state.data, state.learner
    content: dict[str, Any] = {
        "epoch": state.epoch,
        "arch": config.model.backbone,
        "state_dict": _prefixed(learner.model),
        "optimizer": state.optimizer.state_dict(),
        "geossl": {
            "format": FORMAT,
            "config": config.model_dump(mode="json"),
            "step": state.step,
            "scaler": state.scaler.state_dict(),
            "loader": state.position,
            "rng": _rng_state(),
            "index_hash": data.index.content_hash,
            "labels_hash": data.labels_hash,
            "classes": data.classes,
            "mean": list(config.color.mean or ()),
            "std": list(config.color.std or ()),
            "bands": data.samples.bands,
        },
    }
    if learner.head is not None and data.geo is not None:
        content["geo_dict"] = _prefixed(learner.head)
        # Where the predicted clusters lie, degrees: with it, the head tells places without the clusters file.
        content["geossl"]["geo_levels"] = [torch.from_numpy(level) for level in data.geo.levels]
    with replacing(config.out / CHECKPOINT) as file:
        torch.save(content, file)


def read(run: Path) -> dict[str, Any] | None:
    """The checkpoint of a run folder; None if it has none. Raises UsageError if it is not one of geossl's."""
    if not (run / CHECKPOINT).exists():
        return None
    file, checkpoint = read_checkpoint(run)
    if checkpoint.get("geossl", {}).get("format") != FORMAT:
        raise UsageError(f"{file}: not a checkpoint that this version of geossl can resume")
    return checkpoint


def with_resolved(config: TrainConfig, checkpoint: dict[str, Any]) -> TrainConfig:
    """The settings, with those left to be chosen automatically as the run has them."""
    saved = TrainConfig.model_validate(checkpoint["geossl"]["config"])
    color = {k: getattr(saved.color, k) for k in ("mean", "std") if getattr(config.color, k) is None}
    model = {"queue": saved.model.queue} if config.model.queue is None else {}
    return config.model_copy(
        update={
            "color": config.color.model_copy(update=color),
            "model": config.model.model_copy(update=model),
        }
    )


def check_same(config: TrainConfig, data: TrainData, checkpoint: dict[str, Any], *, run: Path) -> None:
    """Raise UsageError, with every difference, unless the run can go on with these settings and this data."""
    own = checkpoint["geossl"]
    # Through the model: settings that an earlier version had not yet are at their defaults, which do as it did.
    was, now = (flatten(c.model_dump(mode="json")) for c in (TrainConfig.model_validate(own["config"]), config))
    names = [name for name in (was | now) if name not in FREE and was.get(name) != now.get(name)]
    if names:
        changes = "; ".join(f"{name}: was {was.get(name)}, now {now.get(name)}" for name in names)
        raise UsageError(f"{run}: cannot resume with changed settings ({changes}); put them back, or use another --out")
    if own["index_hash"] != data.index.content_hash:
        raise UsageError(
            f"{config.data}: not the index that {run} was started with; give that one, or use another --out"
        )
    if own["labels_hash"] != data.labels_hash:
        raise UsageError(f"{run}: was started with other clusters; give those, or use another --out")


def restore(checkpoint: dict[str, Any], state: TrainState) -> None:
    """Bring a fresh run to where the checkpoint was written: weights, optimizer, generators, position."""
    own = checkpoint["geossl"]
    state.epoch, state.step = checkpoint["epoch"], own["step"]
    state.learner.model.load_state_dict(_unprefixed(checkpoint["state_dict"]))
    if state.learner.head is not None:
        state.learner.head.load_state_dict(_unprefixed(checkpoint["geo_dict"]))
    state.optimizer.load_state_dict(checkpoint["optimizer"])
    if own["scaler"]:
        state.scaler.load_state_dict(own["scaler"])
    state.loader.load_state_dict(own["loader"])
    torch.set_rng_state(own["rng"]["cpu"])
    if "cuda" in own["rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(own["rng"]["cuda"])


def _prefixed(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {PREFIX + name: value for name, value in module.state_dict().items()}


def _unprefixed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(PREFIX): value for name, value in state.items()}


def _rng_state() -> dict[str, torch.Tensor]:
    # Training draws nothing from the global generators; they are kept for code that a user adds.
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state
