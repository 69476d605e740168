"""Weights from files: a trained encoder to use, or weights to start from."""

from __future__ import annotations

import re
import sys
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torchvision.models import DenseNet, VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

from geossl.errors import UsageError
from geossl.models.backbone import Encoder, build_backbone, full_name
from geossl.renamed import migrate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CHECKPOINT = "checkpoints/last.pt"
"""Where a run folder keeps its checkpoint."""
_ENCODER = "module.encoder_q."
_RGB = ("red", "green", "blue")


@dataclass(frozen=True, kw_only=True)
class LoadedBackbone:
    """A frozen encoder, and how its images are to be prepared."""

    module: Encoder
    """Backbone in eval mode, its parameters frozen, on the CPU: [B, bands, H, W] -> [B, num_features]."""
    name: str
    """Architecture, as `build_backbone` takes it."""
    bands: int
    """Bands of its images."""
    mean: tuple[float, ...]
    """Per-band mean, of values scaled to 0..1."""
    std: tuple[float, ...]
    """Per-band standard deviation, of values scaled to 0..1."""
    size: int
    """Side of the views it was trained on, pixels."""
    settings: dict[str, Any]
    """The run's settings as `TrainConfig` dumps them; empty for a file that is not geossl's."""

    @property
    def num_features(self) -> int:
        """Width of the feature."""
        return self.module.num_features

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


def load_backbone(path: Path, *, backbone: str | None = None) -> LoadedBackbone:
    """The trained encoder of a run folder, of a checkpoint file in MoCo's form, or of a library's file of weights.

    A file without geossl's own part (the authors' checkpoints, or torchvision's and timm's state_dicts) is taken to be
    trained at 224 pixels and normalised with the model's own mean and std (timm) or ImageNet's.

    Args:
        path: a run's folder, a checkpoint, or a state_dict (.pth, .safetensors).
        backbone: the model, for a file that does not name it; as `build_backbone` takes it.

    Raises:
        UsageError: there is no such run or file, the run has no checkpoint yet, the model is not known or another, or
            the weights do not fit it.

    """
    file, content = _read(path)
    weights = _weights(file, content)
    own, named = content.get("geossl", {}), content.get("arch", backbone)
    if named is None:
        raise UsageError(f"{file}: does not say which model it is of; name it, as with --backbone resnet50")
    try:
        name = full_name(str(named))
    except UsageError as e:
        raise UsageError(f"{file}: {e}") from e
    if backbone is not None and full_name(backbone) != name:
        raise UsageError(f"{file}: is of a {name}, not of a {backbone}")
    settings = own.get("config", {})
    size = settings.get("crop", {}).get("size", 224)
    stem = settings.get("model", {}).get("stem", "imagenet")
    bands = own.get("bands", len(_RGB))
    module = build_backbone(name, bands=bands, seed=0, size=size, stem=stem)
    state = _in_own_form(weights, module, file=file)
    if not own and (found := _bands_of(state, module)) not in {None, bands}:
        raise UsageError(f"{file}: {found} bands, and no normalisation is stored with them")
    _load(module, state, said=f"{file}: the weights do not fit a {name}")
    about = getattr(module.body, "pretrained_cfg", {})
    return LoadedBackbone(
        module=_freeze(module),
        name=name,
        bands=bands,
        mean=tuple(own.get("mean", about.get("mean", IMAGENET_MEAN))),
        std=tuple(own.get("std", about.get("std", IMAGENET_STD))),
        size=size,
        settings=settings,
    )


def init_backbone(encoder: Encoder, path: Path, *, band_names: Sequence[str] | None) -> None:
    """Give an encoder the weights of a file, made for RGB or for as many bands as it has.

    The file is what `load_backbone` reads; what reads the feature (`fc`) is left alone. RGB weights are spread over
    other bands by `inflate`, and position embeddings made for images of another size are resized.

    Args:
        encoder: what `build_backbone` gives, or with another `fc`.
        path: the run or file.
        band_names: names of the encoder's bands, where they are known.

    Raises:
        UsageError: it is no such file, or its weights do not fit, or not all.

    """
    file, content = _read(path)
    state = _in_own_form(_weights(file, content), encoder, file=file)
    has, needs = _bands_of(state, encoder), _bands_of(encoder.body.state_dict(), encoder)
    if has != needs and None not in {has, needs} and has != len(_RGB):
        raise UsageError(
            f"init_from: {file} has weights for {has} bands, and the images have {needs}: "
            "weights for 3 bands (RGB) fit any number, others their own"
        )
    # A run of ours may be of any three bands; others of three are RGB.
    if has == len(_RGB) and needs is not None and not (needs == has and (band_names is None or "geossl" in content)):
        for name in encoder.first:
            state[f"{name}.weight"] = inflate(state[f"{name}.weight"], band_names, bands=needs)
    _load(encoder, state, said=f"init_from: {file}: the weights do not fit model.backbone")


def inflate(weight: Tensor, names: Sequence[str] | None, *, bands: int) -> Tensor:
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
    stem = like.settings.get("model", {}).get("stem", "imagenet")
    module = build_backbone(like.name, bands=like.bands, seed=seed, size=like.size, stem=stem)
    return replace(like, module=_freeze(module))


def read_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a run folder, or of a file: where it is, and its contents, on the CPU.

    Only tensors and plain containers are read, never code. Raises UsageError as `load_backbone` does.
    """
    file, checkpoint = _read(path)
    if not isinstance(checkpoint.get("state_dict"), Mapping):
        raise UsageError(f"{file}: not a checkpoint of a run: it has no state_dict")
    return file, checkpoint


def checkpoint_file(path: Path) -> Path:
    """The checkpoint of a run folder, or the file itself. Raises UsageError if there is none."""
    file = path / CHECKPOINT if path.is_dir() else path
    if not path.exists():
        raise UsageError(f"{path}: no such run or checkpoint")
    if not file.is_file():
        raise UsageError(f"{path}: no checkpoint yet ({CHECKPOINT}); train it first, or give a run's folder")
    return file


def _read(path: Path) -> tuple[Path, dict[str, Any]]:
    file = checkpoint_file(path)
    try:
        if file.suffix == ".safetensors":
            return file, dict(load_file(file))
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as e:
        raise UsageError(f"{file}: cannot be read: {e}") from e
    except Exception as e:  # torch.load and unpickling raise whatever foreign bytes lead them to
        raise UsageError(f"{file}: not a checkpoint, or a damaged one ({type(e).__name__})") from e
    if not isinstance(checkpoint, Mapping):
        raise UsageError(f"{file}: not a checkpoint of a run: it has no state_dict")
    own = checkpoint.get("geossl", {})
    if "config" in own:
        own["config"] = migrate(own["config"])
    return file, dict(checkpoint)


def _weights(file: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The backbone's weights in a file: the query encoder of MoCo's form without its `fc`, or a whole state_dict."""
    inner = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), Mapping)), content)
    tensors = {str(name): value for name, value in inner.items() if isinstance(value, torch.Tensor)}
    encoder = {name.removeprefix(_ENCODER): value for name, value in tensors.items() if name.startswith(_ENCODER)}
    if encoder:
        return {name: value for name, value in encoder.items() if not name.startswith("fc.")}
    if not tensors:
        raise UsageError(f"{file}: not a checkpoint or a state_dict: there are no weights in it")
    return tensors


def _bands_of(state: Mapping[str, Tensor], encoder: Encoder) -> int | None:
    """For how many bands the weights are; None where no convolution sees the bands."""
    found = [state[f"{name}.weight"] for name in encoder.first if f"{name}.weight" in state]
    return found[0].shape[1] if found and found[0].ndim == 4 else None


def _in_own_form(state: dict[str, Tensor], encoder: Encoder, *, file: Path) -> dict[str, Tensor]:
    """The weights by the body's names, without classifiers; position embeddings of another size are resized."""
    body = encoder.body
    try:
        if isinstance(body, VisionTransformer) and "encoder.pos_embedding" in state:
            state = interpolate_embeddings(body.image_size, body.patch_size, OrderedDict(state))
        elif isinstance(body, DenseNet):
            # The names in torchvision's own files, from a time when layers' names could have points in them.
            old = r"(denselayer\d+\.(?:norm|conv))\.(\d)"
            state = {re.sub(old, r"\1\2", name): value for name, value in state.items()}
        else:
            state = _timms_own(state, encoder)
    except Exception as e:  # what the libraries' code makes of foreign weights
        raise UsageError(f"{file}: not the weights of such a model ({type(e).__name__}: {e})") from e
    return {name: value for name, value in state.items() if not name.startswith(encoder.left_out)}


def _timms_own(state: dict[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Weights of one of timm's models, in whichever form they were published; others as they are."""
    body = encoder.body
    convert = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    leave = (*encoder.left_out, *encoder.first)  # the bands are seen to apart
    given, own = (
        {name: tuple(value.shape) for name, value in values.items() if not name.startswith(leave)}
        for values in (state, body.state_dict())
    )
    if convert is None or given == own:
        return state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on how timm resizes
        converted: dict[str, Tensor] = convert(state, body)
    return converted


def _load(encoder: Encoder, state: dict[str, Tensor], *, said: str) -> None:
    """Load all weights of the body. Raises UsageError: `said`, and every name that is missing or too many."""
    if state.keys().isdisjoint(encoder.body.state_dict()):
        raise UsageError(f"{said}: none of its names is the model's, as {next(iter(state), 'none')}")
    try:
        encoder.body.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as e:
        raise UsageError(f"{said}: {' '.join(str(e).split())}") from e


def _freeze(module: Encoder) -> Encoder:
    return module.eval().requires_grad_(requires_grad=False)
