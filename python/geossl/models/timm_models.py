"""timm's models, without their classifier, for images of any bands and size. Importing timm takes a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import timm

from geossl.models.library import Body

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm/"
"""What a name of timm's begins with, where it has to be told from torchvision's."""


def names() -> list[str]:
    """Names of the models, without the tags of their weights."""
    return list(timm.list_models())


def build(name: str, *, bands: int, size: int) -> Body:
    """The model with fresh weights from torch's generator; nothing is downloaded."""
    module: nn.Module = timm.create_model(name, pretrained=False, **arguments(name, bands=bands, size=size))
    return Body(module, classifier=_several(module, "classifier"), first=_several(module, "first_conv"))


def arguments(name: str, *, bands: int, size: int) -> dict[str, Any]:
    """What the model's constructor has to know."""
    about = timm.get_pretrained_cfg(name)
    # Others take images of any size, and have no such argument.
    sized = {"img_size": size} if about is not None and about.fixed_input_size else {}
    return {"num_classes": 0, "in_chans": bands} | sized


def _several(module: nn.Module, what: str) -> tuple[str, ...]:
    """The layers that timm names for a purpose: none, one or several."""
    found = getattr(module, "pretrained_cfg", {}).get(what) or ()
    return (found,) if isinstance(found, str) else tuple(found)
