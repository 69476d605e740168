"""The encoders: torchvision's ResNets, new or from a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torchvision.models import resnet

from geossl.errors import UsageError
from geossl.models.seeds import seeded

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

BACKBONES = ("resnet18", "resnet34", "resnet50")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CHECKPOINT = "checkpoints/last.pt"
"""Where a run folder keeps its checkpoint."""
_ENCODER = "module.encoder_q."


@dataclass(frozen=True, kw_only=True)
class LoadedBackbone:
    """A frozen encoder, and how its images are to be prepared."""

    module: nn.Module
    """Backbone in eval mode, its parameters frozen, on the CPU: [B, bands, H, W] -> [B, num_features]."""
    name: str
    """Architecture, one of `BACKBONES`."""
    bands: int
    """Bands of its images."""
    mean: tuple[float, ...]
    """Per-band mean, of values scaled to 0..1."""
    std: tuple[float, ...]
    """Per-band standard deviation, of values scaled to 0..1."""
    size: int
    """Side of the views it was trained on, pixels."""
    settings: dict[str, Any]
    """The run's settings as `TrainConfig` dumps them; empty for a checkpoint that is not geossl's."""

    @property
    def num_features(self) -> int:
        """Width of the feature."""
        return num_features(self.module)


def build_backbone(name: str, *, bands: int, seed: int) -> nn.Module:
    """A torchvision ResNet with fresh weights drawn from the seed, for images of `bands` bands.

    Its `fc` is the identity, so that it gives the pooled feature, float32 [B, num_features]. torch's global
    generator is left alone.
    """
    if name not in BACKBONES:
        raise UsageError(f"model.backbone: unknown architecture {name}; known: {', '.join(BACKBONES)}")
    with seeded(seed, "backbone"):
        model: nn.Module = getattr(resnet, name)(weights=None)
        if bands != 3:
            model.conv1 = nn.Conv2d(bands, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.num_features = model.fc.in_features  # type: ignore[union-attr]
    model.fc = nn.Identity()
    return model


def num_features(backbone: nn.Module) -> int:
    """Width of the backbone's feature."""
    width = backbone.num_features
    assert isinstance(width, int)  # noqa: S101 - nn.Module types its attributes as tensors or modules
    return width


def features(encoder: nn.Module, images: Tensor) -> Tensor:
    """The pooled feature, float32 [B, num_features], of a ResNet whatever its `fc` is."""
    x = images
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool"):
        x = encoder.get_submodule(name)(x)
    return x.flatten(1)


def load_backbone(path: Path) -> LoadedBackbone:
    """The query encoder of a run folder or of a checkpoint file in MoCo's form.

    A file without geossl's own part (the authors' checkpoints, for one) is taken to be normalised with
    ImageNet's mean and std and trained at 224 pixels.

    Raises:
        UsageError: there is no such run or file, the run has no checkpoint yet, or it is not a checkpoint.

    """
    file, checkpoint = read_checkpoint(path)
    prefixed = checkpoint["state_dict"]
    state = {k.removeprefix(_ENCODER): v for k, v in prefixed.items() if k.startswith(_ENCODER)}
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    name = checkpoint.get("arch")
    if "conv1.weight" not in state or name not in BACKBONES:
        raise UsageError(f"{file}: not a MoCo checkpoint of {', '.join(BACKBONES)}: no {_ENCODER}* in it")
    bands = state["conv1.weight"].shape[1]
    module = build_backbone(name, bands=bands, seed=0)
    try:
        module.load_state_dict(state)
    except RuntimeError as e:
        raise UsageError(f"{file}: the weights do not fit a {name}: {' '.join(str(e).split())}") from e
    own = checkpoint.get("geossl", {})
    if not own and bands != len(IMAGENET_MEAN):
        raise UsageError(f"{file}: {bands} bands, and no normalisation is stored with them")
    settings = own.get("config", {})
    return LoadedBackbone(
        module=_freeze(module),
        name=name,
        bands=bands,
        mean=tuple(own.get("mean", IMAGENET_MEAN)),
        std=tuple(own.get("std", IMAGENET_STD)),
        size=settings.get("crop", {}).get("size", 224),
        settings=settings,
    )


def random_backbone(like: LoadedBackbone, *, seed: int) -> LoadedBackbone:
    """The same architecture and preparation of images with random weights: the baseline of every probe."""
    module = build_backbone(like.name, bands=like.bands, seed=seed)
    return replace(like, module=_freeze(module))


def read_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a run folder, or of a file: where it is, and its contents, on the CPU.

    Only tensors and plain containers are read, never code. Raises UsageError as `load_backbone` does.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    if not path.exists():
        raise UsageError(f"{path}: no such run or checkpoint")
    if not file.is_file():
        raise UsageError(f"{path}: no checkpoint yet ({CHECKPOINT}); train it first, or give a run's folder")
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as e:
        raise UsageError(f"{file}: cannot be read: {e}") from e
    except Exception as e:  # torch.load and unpickling raise whatever foreign bytes lead them to
        raise UsageError(f"{file}: not a checkpoint, or a damaged one ({type(e).__name__})") from e
    if not isinstance(checkpoint, Mapping) or not isinstance(checkpoint.get("state_dict"), Mapping):
        raise UsageError(f"{file}: not a checkpoint of a run: it has no state_dict")
    return file, dict(checkpoint)


def _freeze(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(requires_grad=False)
