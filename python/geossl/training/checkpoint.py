"""A run's checkpoint: everything that its continuation needs, in the form of the paper's released code.

The file is a dict of `epoch` (epochs completed), `arch`, `state_dict` (each name with `module.` before it,
as the authors' data-parallel wrapper had it), `optimizer`, `geo_dict` (the geo head, for the arms that have
one), and `geossl`, which is ours. It holds tensors and plain containers only.

A run's folder `checkpoints` has last.pt, the newest; step-XXXXXXXX.pt, those before it that are kept; and best.pt,
that of the best online kNN accuracy. Each is whole at any moment: it is written under another name, and renamed.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

import torch

from geossl import __version__
from geossl.errors import UsageError
from geossl.files import naming_full_disk, replacing, temporary_name
from geossl.models.weights import CHECKPOINT, read_checkpoint
from geossl.phases import phase
from geossl.training.folder import RESUME
from geossl.training.learns import L
from geossl.training.ranks import ALONE

if TYPE_CHECKING:
    from pathlib import Path

    from geossl.config import TrainConfig
    from geossl.data.loader import Loader
    from geossl.training.data import TrainData
    from geossl.training.ranks import Ranks

FORMAT = 1
"""Version of the `geossl` part."""
PREFIX = "module."
BEST = "best.pt"


class DamagedError(UsageError):
    """A checkpoint file whose bytes are not those that were written."""


@dataclass(kw_only=True)
class TrainState(Generic[L]):
    """A run in progress: all that a checkpoint is made from, and restored to."""

    config: TrainConfig
    """Its settings, with everything automatic decided."""
    data: TrainData
    learner: L
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    """Of the loss; it does something for fp16 alone."""
    loader: Loader
    ranks: Ranks = ALONE
    epoch: int = 0
    """Epochs completed."""
    step: int = 0
    """Steps completed, over all epochs."""
    best: float | None = None
    """The best online kNN accuracy so far, which best.pt has; None before the first."""
    saved: int | None = None
    """Step of last.pt; None while there is none."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What else the checkpoint's `geossl` part is to have: tensors and plain containers."""

    @property
    def epoch_done(self) -> bool:
        """Whether the loader has given the last batch of its epoch."""
        return self.step >= (self.epoch + 1) * len(self.loader)

    @property
    def position(self) -> dict[str, Any]:
        """The loader's state after the last batch that was learnt from; for a GPU, it has given another."""
        batches = self.step - self.epoch * len(self.loader)
        return self.loader.state_dict() | {"epoch": self.epoch, "batches": batches}

    def improves(self, accuracy: float | None) -> bool:
        """Note an online kNN accuracy, None where none was measured. Whether it is the best so far."""
        if accuracy is None or (self.best is not None and accuracy <= self.best):
            return False
        self.best = accuracy
        return True


@phase("checkpoint")
def save(state: TrainState[L], *, best: bool = False) -> None:
    """Write the checkpoint into the run folder: whole, or not at all.

    It becomes last.pt, and if `best`, best.pt too. The one before it stays as step-XXXXXXXX.pt; of all but best.pt,
    the `config.keep` newest are kept. One file is written; other names are hard links, or copies where the file
    system has none.

    Raises:
        OutOfSpaceError: the disk is full; all checkpoints are as they were.

    """
    config = state.config
    last = config.out / CHECKPOINT
    with naming_full_disk(last, needed=size(state), hint=f"{_stands(state)}; {RESUME}"), replacing(last) as file:
        torch.save(_content(state), file)
        if config.keep > 1 and state.saved not in {None, state.step}:
            _link(last, _of_step(last.parent, state.saved or 0))
        if best:
            file.flush()
            os.fsync(file.fileno())
            _link(temporary_name(last), last.with_name(BEST))
    state.saved = state.step
    for old in older(config.out)[config.keep - 1 :]:
        old.unlink()


def older(run: Path) -> list[Path]:
    """The kept checkpoints before last.pt, newest first."""
    return sorted((run / CHECKPOINT).parent.glob("step-*.pt"), reverse=True)


def size(state: TrainState[L]) -> int:
    """About how many bytes a checkpoint of this run takes, also before the first step."""
    trained = sum(p.numel() * p.element_size() for p in state.learner.parameters())
    moments = [v for values in state.optimizer.state.values() for v in values.values() if isinstance(v, torch.Tensor)]
    # The optimizer makes its moments in the first step: Adam has two a parameter, SGD one, or none without momentum.
    adam = isinstance(state.optimizer, torch.optim.Adam)
    expected = 2 * trained if adam else trained if state.config.optim.momentum else 0
    modules = [state.learner.model] if state.learner.head is None else [state.learner.model, state.learner.head]
    tensors = [value for module in modules for value in module.state_dict().values()]
    names = 600 * (len(tensors) + len(state.learner.parameters()))  # in the file's table, and rounding to 64 bytes
    weights, moved = (sum(v.numel() * v.element_size() for v in values) for values in (tensors, moments))
    return weights + max(moved, expected) + names


def read(file: Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU.

    Raises:
        DamagedError: its bytes are not those that were written.
        UsageError: it is another program's, or another version's of geossl.

    """
    try:
        with zipfile.ZipFile(file) as parts:
            # torch.load takes a file whose checksums are wrong.
            wrong = parts.testzip()
    except OSError as e:
        raise UsageError(f"{file}: cannot be read: {e.strerror}") from e
    except Exception as e:  # zipfile raises whatever foreign bytes lead it to
        raise DamagedError(f"{file}: not a checkpoint, or a damaged one ({' '.join(str(e).split())})") from e
    if wrong is not None:
        raise DamagedError(f"{file}: damaged (the checksum of {wrong} is wrong)")
    _, checkpoint = read_checkpoint(file)
    own = checkpoint.get("geossl", {})
    if "format" not in own:
        raise UsageError(f"{file}: not written by geossl: its run cannot go on; start from its weights instead")
    if own["format"] != FORMAT:
        theirs = f"geossl {own.get('version', 'of an earlier version')} (format {own['format']})"
        raise UsageError(
            f"{file}: written by {theirs}, and this is {__version__} (format {FORMAT}): go on with that version, "
            "or start from its weights"
        )
    return checkpoint


def restore(checkpoint: dict[str, Any], state: TrainState[L]) -> None:
    """Bring a fresh run to where the checkpoint was written: weights, optimizer, generators, position."""
    own = checkpoint["geossl"]
    state.epoch, state.step, state.best = checkpoint["epoch"], own["step"], own.get("best")
    state.learner.model.load_state_dict(_unprefixed(checkpoint["state_dict"]))
    if state.learner.head is not None:
        state.learner.head.load_state_dict(_unprefixed(checkpoint["geo_dict"]))
    state.optimizer.load_state_dict(checkpoint["optimizer"])
    if own.get("scaler"):
        state.scaler.load_state_dict(own["scaler"])
    state.loader.load_state_dict(own["loader"])
    torch.set_rng_state(own["rng"]["cpu"])
    if "cuda" in own["rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(own["rng"]["cuda"])


def go_back(run: Path, file: Path, *, step: int) -> list[Path]:
    """Make a checkpoint of the run its last.pt, and drop those of later steps; gives the dropped ones.

    Where it was last.pt already, nothing changes, but that what a killed process had begun is undone.
    """
    last = run / CHECKPOINT
    best = last.with_name(BEST)
    dropped = [old for old in older(run) if old > _of_step(last.parent, step)]
    if best.exists() and not _up_to(best, step):
        dropped.append(best)
    for later in dropped:
        later.unlink()
    if file.name != last.name:
        _link(file, last)
    _of_step(last.parent, step).unlink(missing_ok=True)
    return dropped


def _content(state: TrainState[L]) -> dict[str, Any]:
    config, data, learner = state.config, state.data, state.learner
    content: dict[str, Any] = {
        "epoch": state.epoch,
        "arch": config.model.backbone,
        "state_dict": _prefixed(learner.model),
        "optimizer": state.optimizer.state_dict(),
        "geossl": {
            "format": FORMAT,
            "version": __version__,
            "config": config.model_dump(mode="json"),
            "step": state.step,
            "best": state.best,
            "scaler": state.scaler.state_dict(),
            "loader": state.position,
            "rng": _rng_state(),
            "index_hash": data.index.content_hash,
            "labels_hash": data.labels_hash,
            "classes": data.classes,
            "mean": list(config.color.mean or ()),
            "std": list(config.color.std or ()),
            "bands": data.samples.bands,
            "band_names": None if data.samples.names is None else list(data.samples.names),
            **state.notes,
        },
    }
    if learner.head is not None and data.geo is not None:
        content["geo_dict"] = _prefixed(learner.head)
        # Where the predicted clusters lie, degrees: with it, the head tells places without the clusters file.
        content["geossl"]["geo_levels"] = [torch.from_numpy(level) for level in data.geo.levels]
    return content


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


def _stands(state: TrainState[L]) -> str:
    return "no checkpoint was written before" if state.saved is None else f"the checkpoint of step {state.saved} stands"


def _of_step(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08}.pt"


def _up_to(file: Path, step: int) -> bool:
    """Whether a checkpoint is whole, and of that step or an earlier one."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        of: int = content["geossl"]["step"]
    except Exception:  # noqa: BLE001 - torch.load and unpickling raise whatever damaged bytes lead them to
        return False
    return of <= step


def _link(file: Path, name: Path) -> None:
    """Give a file another name too, in place of what had it."""
    temporary = temporary_name(name)
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(file, temporary)
        except OSError:
            shutil.copyfile(file, temporary)
        temporary.replace(name)
    finally:
        # Renaming does nothing where both names are of one file already.
        temporary.unlink(missing_ok=True)
