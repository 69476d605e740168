"""torchvision's ImageNet weights, as it has left them in its cache. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import torch
from torchvision import models

from geossl.errors import UsageError
from geossl.models import torchvision_models

IMAGENET = Path("imagenet")
"""What is given in place of a file."""
VERSION = "IMAGENET1K_V1"
"""Which of a model's weights: torchvision's first, of the paper's time. Others are given as files."""


def imagenet_file(backbone: str | None) -> Path:
    """Where torchvision keeps the ImageNet weights of a model: `torch.hub.get_dir()`/checkpoints.

    Raises:
        UsageError: no model is named, torchvision has no such weights for it, or they are not there; the message says
            which file goes where, and its address.

    """
    if backbone is None:
        raise UsageError("imagenet: of which model? Name it, as with --backbone resnet50")
    if backbone not in torchvision_models.names():
        raise UsageError(f"imagenet: these are torchvision's weights, and {backbone} is not; give a file of its own")
    weights = models.get_model_weights(backbone)
    if VERSION not in weights.__members__:
        raise UsageError(f"imagenet: torchvision has no {VERSION} of {backbone}; give a file of weights")
    url = weights[VERSION].url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not file.is_file():
        raise UsageError(f"imagenet: {file} is not there, and nothing is downloaded; put {url} there")
    return file


def imagenet_normalisation(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that the weights of `imagenet_file` were trained with, as torchvision states them."""
    transform = models.get_model_weights(backbone)[VERSION].transforms()
    return tuple(transform.mean), tuple(transform.std)
