"""A trained network of a transfer, from its run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geossl.device import resolve_device
from geossl.errors import UsageError
from geossl.models.backbone import build_backbone
from geossl.models.weights import CHECKPOINT
from geossl.training import checkpoint
from geossl.training.resume import Origin, saved_settings
from geossl.transfer.run import NOTES, build_model

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from geossl.config import TrainConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Transferred:
    """A trained network, and how its images are to be prepared."""

    model: nn.Module
    """In eval mode, on its device."""
    config: TrainConfig
    """Settings of its run, with the device that it is on."""
    task: str
    """detect or segment."""
    categories: list[str]
    """Of its outputs."""
    overlap: float
    """Share of a window that neighbours share."""


def load_transferred(run: Path, *, device: str = "auto") -> Transferred:
    """The network of a run's folder.

    Args:
        run: folder that `geossl transfer` has left.
        device: auto, cpu, cuda or cuda:N.

    Raises UsageError if there is no such folder, or it is another program's or of another kind of run.

    """
    file = run / CHECKPOINT
    if not file.is_file():
        raise UsageError(f"{run}: no run of `geossl transfer` ({CHECKPOINT} is missing)")
    content = checkpoint.read(file)
    own = content["geossl"]
    if NOTES not in own:
        raise UsageError(f"{run}: its run is no transfer: `geossl transfer detect {run} --data INDEX` makes one of it")
    target = resolve_device(device)
    config = saved_settings(Origin(file=file, content=content, own=True)).model_copy(update={"device": str(target)})
    model = config.model
    encoder = build_backbone(model.backbone, bands=own["bands"], seed=0, size=config.crop.size, stem=model.stem)
    net = build_model(config, encoder, notes=own[NOTES], bands=own["bands"])
    net.load_state_dict({name.removeprefix(checkpoint.PREFIX): value for name, value in content["state_dict"].items()})
    return Transferred(
        model=net.to(target).eval(),
        config=config,
        task=own[NOTES]["settings"]["task"],
        categories=own[NOTES]["categories"],
        overlap=own[NOTES]["settings"]["overlap"],
    )
