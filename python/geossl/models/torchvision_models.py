"""torchvision's classification models, without their classifier, for images of any bands and size."""

from __future__ import annotations

import math

from torch import nn
from torchvision import models

from geossl.models.library import Body

# MNASNet reads its version from what torchvision alone writes beside the weights: no other checkpoint resumes it.
_LEFT_OUT = "mnasnet"
_AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
"""Classifiers beside the last one, which files with weights have."""
_CLASSES = 1000


def names() -> list[str]:
    """Names of the models."""
    return [name for name in models.list_models(module=models) if not name.startswith(_LEFT_OUT)]


def build(name: str, *, bands: int, size: int) -> Body:
    """The model with fresh weights from torch's generator.

    Its last layer, which gives the classes, is the identity; its first convolution is drawn again where the images
    have other than three bands.
    """
    module: nn.Module = models.get_model(name, weights=None, **arguments(name, size=size))
    classifier = [key for key, layer in module.named_modules() if _outputs(layer) == _CLASSES][-1]
    module.set_submodule(classifier, nn.Identity())
    first = next(key for key, layer in module.named_modules() if isinstance(layer, nn.Conv2d))
    if bands != 3:
        module.set_submodule(first, _for_bands(module, module.get_submodule(first), bands))
    return Body(module, classifier=(classifier, *_AUXILIARY.get(name, ())), first=(first,))


def arguments(name: str, *, size: int) -> dict[str, object]:
    """What the model's constructor has to know."""
    if name.startswith("vit_"):
        return {"image_size": size}
    if name.startswith("maxvit_"):
        return {"input_size": (size, size)}
    if name in _AUXILIARY:
        return {"aux_logits": False, "init_weights": True}
    return {}


def _outputs(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, nn.Conv2d) else None


def _for_bands(module: nn.Module, conv: nn.Module, bands: int) -> nn.Conv2d:
    """A first convolution for so many bands, with the model's own initialisation."""
    assert isinstance(conv, nn.Conv2d)  # noqa: S101 - nn.Module types its children as modules
    new = nn.Conv2d(
        bands,
        conv.out_channels,
        kernel_size=conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
    if isinstance(module, models.ResNet):
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    else:
        # The deviation that the model's rule gave for three bands, so scaled that the response keeps its size.
        nn.init.normal_(new.weight, std=conv.weight.std().item() * math.sqrt(3 / bands))
    if new.bias is not None and conv.bias is not None:
        new.bias.data.copy_(conv.bias.data)
    return new
