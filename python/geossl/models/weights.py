"""Weights from files: a trained encoder to use, or weights to start from."""

from __future__ import annotations

import re
import sys
import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torchvision.models import DenseNet, VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

from geossl.errors import UsageError
from geossl.models.backbone import TIMM, Encoder, build_backbone, full_name
from geossl.models.forms import by_number, named_by_layer, recognise
from geossl.models.reading import CHECKPOINT, DESCRIPTION, checkpoint_file, read, read_checkpoint
from geossl.models.source import IMAGENET_MEAN, IMAGENET_STD, OWN, Source, about_of, source_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

__all__ = [
    "CHECKPOINT",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LoadedBackbone",
    "Source",
    "backbone_in",
    "checkpoint_file",
    "inflate",
    "init_backbone",
    "load_backbone",
    "random_backbone",
    "read_checkpoint",
]

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
    band_names: tuple[str, ...] | None = None
    """Names of its bands, where the weights' maker has said them."""
    source: Source | None = None
    """Where the weights are from; None for random ones."""

    @property
    def num_features(self) -> int:
        """Width of the feature."""
        return self.module.num_features

    @property
    def notes(self) -> list[str]:
        """What a reader of results with others' weights has to know: what of the file is used, its normalisation."""
        return [] if self.source is None or self.source.form == OWN else self.source.lines()

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
    """The trained encoder of a run folder or an exported one, of others' checkpoints, or of a library's weights.

    `geossl.models.forms` has the forms that are known. Every weight of the backbone has to be in the file, and no
    other but heads, queues and further encoders, which `source` names. Mean and std are the run's, or those that
    config.json beside the file says, or those of the form's programs, or the model's own; `source.normalisation` tells.
    A file that does not say so is taken to be trained at 224 pixels.

    Args:
        path: a run's folder or an exported one, a checkpoint, or a state_dict (.pth, .safetensors); or `imagenet`,
            torchvision's weights in its cache.
        backbone: the model, for a file that does not name it; as `build_backbone` takes it. Where a file names one that
            both libraries have, `timm/NAME` says that it is timm's.

    Raises:
        UsageError: there is no such run or file, the run has no checkpoint yet, the model is not known or another, the
            weights do not fit it, or they are for other than three bands and no normalisation is given with them.

    """
    file, content = read(path, backbone=backbone)
    return backbone_in(content, file=file, path=path, backbone=backbone)


def backbone_in(content: Mapping[str, Any], *, file: Path, path: Path, backbone: str | None = None) -> LoadedBackbone:
    """The encoder in what `read` gives for `path`: the file, and its contents. Otherwise as `load_backbone`."""
    found, about = recognise(file, content), about_of(file, content)
    name = _name(file, about.get("arch") or found.arch or content.get("arch"), backbone, own="geossl" in content)
    settings, size = about.get("settings", {}), about.get("size", 224)
    stem = settings.get("model", {}).get("stem", "imagenet")
    bands = about.get("bands", len(_RGB))
    module = build_backbone(name, bands=bands, seed=0, size=size, stem=stem)
    source = source_of(file, path=path, found=found, about=about, encoder=module)
    state = _in_own_form(found.weights, module, file=file)
    has = _bands_of(state, module)
    if ("bands" not in about and has not in {None, bands}) or len(source.mean) != bands:
        raise UsageError(
            f"{file}: {has} bands, and no normalisation is stored with them; say it in a {DESCRIPTION} beside the file "
            "(docs/weights.md)"
        )
    _load(module, state, said=f"{file}: the weights do not fit a {name}")
    return LoadedBackbone(
        module=_freeze(module),
        name=name,
        bands=bands,
        mean=source.mean,
        std=source.std,
        size=size,
        settings=settings,
        band_names=tuple(about["band_names"]) if "band_names" in about else None,
        source=source,
    )


def init_backbone(encoder: Encoder, path: Path, *, band_names: Sequence[str] | None) -> Source:
    """Give an encoder the weights of a file, made for RGB or for as many bands as it has.

    The file is what `load_backbone` reads; what reads the feature (`fc`) is left alone. RGB weights are spread over
    other bands by `inflate`, and position embeddings made for images of another size are resized.

    Args:
        encoder: what `build_backbone` gives, or with another `fc`.
        path: the run or file; `imagenet` are torchvision's weights in its cache.
        band_names: names of the encoder's bands, where they are known.

    Returns:
        What the file is, and the normalisation that its weights expect.

    Raises:
        UsageError: it is no such file, or its weights do not fit, or not all.

    """
    file, content = read(path, backbone=encoder.name)
    found, about = recognise(file, content), about_of(file, content)
    source = source_of(file, path=path, found=found, about=about, encoder=encoder)
    state = _in_own_form(found.weights, encoder, file=file)
    has, needs = _bands_of(state, encoder), _bands_of(encoder.body.state_dict(), encoder)
    if has != needs and None not in {has, needs} and has != len(_RGB):
        raise UsageError(
            f"init_from: {file} has weights for {has} bands, and the images have {needs}: "
            "weights for 3 bands (RGB) fit any number, others their own"
        )
    # Three bands that a run was trained on may be any; others' are RGB.
    of_run = bool(about.get("settings")) or "geossl" in content
    if has == len(_RGB) and needs is not None and not (needs == has and (band_names is None or of_run)):
        for name in encoder.first:
            state[f"{name}.weight"] = inflate(state[f"{name}.weight"], band_names, bands=needs)
    _load(encoder, state, said=f"init_from: {file}: the weights do not fit model.backbone")
    return source


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
    return replace(like, module=_freeze(module), source=None)


def _name(file: Path, named: object, backbone: str | None, *, own: bool) -> str:
    """The model's full name: as the file names it, or as the user does."""
    if named is None and backbone is None:
        raise UsageError(f"{file}: does not say which model it is of; name it, as with --backbone resnet50")
    wanted = None if backbone is None else full_name(backbone)
    try:
        name = full_name(str(named)) if named is not None else None
    except UsageError as e:
        if own or wanted is None:
            raise UsageError(f"{file}: {e}") from e
        name = None
    if wanted is None or name is None:
        return str(name or wanted)
    if wanted != name and (own or _bare(wanted) != _bare(name)):
        raise UsageError(f"{file}: is of a {name}, not of a {backbone}")
    return wanted


def _bare(name: str) -> str:
    """A model's name without its library and without the tag of timm's weights."""
    return name.removeprefix(TIMM).partition(".")[0]


def _bands_of(state: Mapping[str, Tensor], encoder: Encoder) -> int | None:
    """For how many bands the weights are; None where no convolution sees the bands."""
    found = [state[f"{name}.weight"] for name in encoder.first if f"{name}.weight" in state]
    return found[0].shape[1] if found and found[0].ndim == 4 else None


def _in_own_form(state: dict[str, Tensor], encoder: Encoder, *, file: Path) -> dict[str, Tensor]:
    """The weights by the body's names, without classifiers; position embeddings of another size are resized."""
    body = encoder.body
    if by_number(state):
        state = named_by_layer(state, body)
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
