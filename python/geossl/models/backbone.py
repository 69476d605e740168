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
from geossl.renamed import migrate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

BACKBONES = ("resnet18", "resnet34", "resnet50")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CHECKPOINT = "checkpoints/last.pt"
"""Where a run folder keeps its checkpoint."""
_ENCODER = "module.encoder_q."
_RGB = ("red", "green", "blue")


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

    @property
    def chosen_bands(self) -> list[str] | None:
        """Bands that it was trained on, by name or number; None for all of an image."""
        bands: list[str] | None = self.settings.get("loader", {}).get("bands")
        return bands

    @property
    def preparation(self) -> dict[str, Any]:
        """How images are prepared for it: the size, mean, std and context of `geossl.evaluate.features.extract`."""
        context = self.settings.get("crop", {}).get("context", True)
        return {"size": self.size, "mean": self.mean, "std": self.std, "context": context}


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
    state = _encoder_of(checkpoint["state_dict"])
    name = checkpoint.get("arch")
    if "conv1.weight" not in state or name not in BACKBONES:
        raise UsageError(f"{file}: not a MoCo checkpoint of {', '.join(BACKBONES)}: no {_ENCODER}* in it")
    bands = state["conv1.weight"].shape[1]
    module = build_backbone(name, bands=bands, seed=0)
    try:
        module.load_state_dict(state)
    except RuntimeError as e:
        raise UsageError(f"{file}: the weights do not fit a {name}: {_one_line(e)}") from e
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


def init_backbone(module: nn.Module, path: Path, *, band_names: Sequence[str] | None) -> None:
    """Give a backbone the weights of a file, made for RGB or for as many bands as it has.

    The file is a run folder, a checkpoint in MoCo's form, or a torchvision state_dict; what lies behind the pooled
    feature (`fc`) is left alone. RGB weights are spread over other bands by `inflate_conv1`.

    Args:
        module: what `build_backbone` gives, or with another `fc`.
        path: the run or file.
        band_names: names of the module's bands, where they are known.

    Raises:
        UsageError: it is no such file, or its weights do not fit.

    """
    file, content = _read(path)
    inner = content.get("state_dict", content)
    state = _encoder_of(inner) if isinstance(inner, Mapping) else {}
    if not state:
        # torchvision's names have nothing before them.
        state = _without_fc(content)
    first = state.get("conv1.weight")
    if not isinstance(first, torch.Tensor) or first.ndim != 4:
        raise UsageError(f"init_from: {file}: no ResNet: neither conv1.weight nor {_ENCODER}* is in it")
    own = module.get_submodule("conv1").weight
    assert isinstance(own, torch.Tensor)  # noqa: S101 - nn.Module types its attributes as tensors or modules
    same = first.shape[1] == own.shape[1]
    # A run of ours may be of any three bands; others of three are RGB.
    if first.shape[1] == len(_RGB) and not (same and (band_names is None or "geossl" in content)):
        state["conv1.weight"] = inflate_conv1(first, band_names, bands=own.shape[1])
    elif not same:
        raise UsageError(
            f"init_from: {file} has weights for {first.shape[1]} bands, and the images have {own.shape[1]}: "
            "weights for 3 bands (RGB) fit any number, others their own"
        )
    kept = {name: value for name, value in module.state_dict().items() if name.startswith("fc.")}
    try:
        module.load_state_dict(state | kept)
    except (RuntimeError, TypeError, AttributeError) as e:
        raise UsageError(f"init_from: {file}: the weights do not fit model.backbone: {_one_line(e)}") from e


def inflate_conv1(weight: Tensor, names: Sequence[str] | None, *, bands: int) -> Tensor:
    """The first convolution's weights for `bands` bands, from those for RGB.

    Bands named red, green and blue take theirs, every other band the mean of the three; without names, three bands
    are RGB and any other number of bands all take the mean. All are scaled by 3 / bands, so that the sum over the
    bands, the response to an even image, keeps its size.

    Args:
        weight: float32 [out, 3, k, k].
        names: names of the bands, where they are known.
        bands: how many there are.

    Returns:
        float32 [out, bands, k, k].

    """
    if names is not None and len(names) != bands:
        raise ValueError(f"{len(names)} names for {bands} bands")
    if names is None:
        names = _RGB if bands == len(_RGB) else ("",) * bands
    own = dict(zip(_RGB, weight.unbind(1), strict=True))
    mean = weight.mean(1)
    return torch.stack([own.get(name.lower(), mean) for name in names], 1) * (len(_RGB) / bands)


def random_backbone(like: LoadedBackbone, *, seed: int) -> LoadedBackbone:
    """The same architecture and preparation of images with random weights: the baseline of every probe."""
    module = build_backbone(like.name, bands=like.bands, seed=seed)
    return replace(like, module=_freeze(module))


def read_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a run folder, or of a file: where it is, and its contents, on the CPU.

    Only tensors and plain containers are read, never code. Raises UsageError as `load_backbone` does.
    """
    file, checkpoint = _read(path)
    if not isinstance(checkpoint.get("state_dict"), Mapping):
        raise UsageError(f"{file}: not a checkpoint of a run: it has no state_dict")
    own = checkpoint.get("geossl", {})
    if "config" in own:
        own["config"] = migrate(own["config"])
    return file, checkpoint


def _read(path: Path) -> tuple[Path, dict[str, Any]]:
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
    if not isinstance(checkpoint, Mapping):
        raise UsageError(f"{file}: not a checkpoint of a run: it has no state_dict")
    return file, dict(checkpoint)


def _encoder_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """The query encoder's part of a state in MoCo's form, by torchvision's names, without `fc`."""
    return _without_fc({k.removeprefix(_ENCODER): v for k, v in state.items() if k.startswith(_ENCODER)})


def _without_fc(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not str(name).startswith("fc.")}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _freeze(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(requires_grad=False)
