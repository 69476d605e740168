"""A trained network of a transfer, from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geossl.device import resolve_device
from geossl.models.backbone import build_backbone
from geossl.training import checkpoint
from geossl.training.resume import saved_settings
from geossl.transfer.run import NOTES, build_model

if TYPE_CHECKING:
    from torch import nn

    from geossl.config import TrainConfig
    from geossl.training.resume import Origin


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


def load_transferred(origin: Origin, *, device: str = "auto") -> Transferred:
    """The network of a checkpoint.

    Args:
        origin: the checkpoint of a run of `geossl transfer`.
        device: auto, cpu, cuda or cuda:N.

    Raises UsageError for settings of another version of geossl.

    """
    own, weights = origin.content["geossl"], origin.content["state_dict"]
    target = resolve_device(device)
    saved = saved_settings(origin)
    # Its own images may have been packed; others are not in the pack.
    loader = saved.loader.model_copy(update={"pack": None})
    config = saved.model_copy(update={"device": str(target), "loader": loader})
    model = config.model
    encoder = build_backbone(model.backbone, bands=own["bands"], seed=0, size=config.crop.size, stem=model.stem)
    net = build_model(config, encoder, notes=own[NOTES], bands=own["bands"])
    net.load_state_dict({name.removeprefix(checkpoint.PREFIX): value for name, value in weights.items()})
    return Transferred(
        model=net.to(target).eval(),
        config=config,
        task=own[NOTES]["settings"]["task"],
        categories=own[NOTES]["categories"],
        overlap=own[NOTES]["settings"]["overlap"],
    )
