"""What a file of weights is: whose form it has, what of it is used, and how its images are normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geossl.models.forms import STATE_DICT, Found
from geossl.models.imagenet import IMAGENET, VERSION, imagenet_normalisation
from geossl.models.reading import description

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geossl.models.backbone import Encoder

OWN = "a checkpoint of geossl"
"""The form of geossl's own files."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_PUBLISHED = {f"{name}'s form" for name in ("MoCo", "MoCo-v3", "SeCo", "SimSiam", "DINO", "VISSL")}
"""Forms whose programs normalise with ImageNet's mean and deviation (VISSL: by its configs; SeCo: after its images are
stretched to 8 bits, ServiceNow/seasonal-contrast: datasets/seco_dataset.py)."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file of weights, as far as a reader of results has to know it."""

    file: Path
    form: str
    """What it is: a checkpoint of geossl, "MoCo's form", "a state_dict", ..."""
    encoder: str | None
    """Which of several encoders was taken."""
    dropped: tuple[str, ...]
    """What in the file was left out: heads, other encoders, queues."""
    mean: tuple[float, ...]
    """Per-band mean that the weights expect, of values scaled to 0..1 (floats: as they are)."""
    std: tuple[float, ...]
    """Per-band standard deviation that they expect."""
    normalisation: str
    """Where mean and std are from."""

    def lines(self) -> list[str]:
        """The source in two lines: the weights, and their normalisation."""
        taken = f", {self.encoder}" if self.encoder else ""
        left = f"; left out: {', '.join(self.dropped)}" if self.dropped else ""
        return [f"weights: {self.file}: {self.form}{taken}{left}", f"normalisation: {self.normalisation}"]


def about_of(file: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """What a file, or config.json beside it, says of its weights: arch, bands, mean, std, size, settings, band_names.

    `from` is who says so; an empty dict where nobody does.
    """
    own = content.get("geossl")
    if own is None:
        return description(file)
    settings = own.get("config", {})
    size = settings.get("crop", {}).get("size")
    known = {key: own[key] for key in ("bands", "mean", "std", "band_names") if own.get(key) is not None}
    return known | ({} if size is None else {"size": size}) | {"settings": settings, "from": OWN}


def source_of(file: Path, *, path: Path, found: Found, about: Mapping[str, Any], encoder: Encoder) -> Source:
    """Describe the weights that were found.

    Args:
        file: where they are.
        path: what the user gave.
        found: what is in the file.
        about: what it says of itself.
        encoder: what they are for.

    """
    mean, std, said = _normalisation(path=path, found=found, about=about, encoder=encoder)
    heads = [head for head in encoder.left_out if any(name.startswith(head) for name in found.weights)]
    return Source(
        file=file,
        form=OWN if about.get("from") == OWN else found.form,
        encoder=found.encoder,
        dropped=tuple(dict.fromkeys([*(head.rstrip(".") for head in heads), *found.dropped])),
        mean=mean,
        std=std,
        normalisation=said,
    )


def _normalisation(
    *, path: Path, found: Found, about: Mapping[str, Any], encoder: Encoder
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    if "mean" in about:
        return tuple(about["mean"]), tuple(about["std"]), f"as {about['from']} has it"
    if path == IMAGENET and not path.exists():
        return *imagenet_normalisation(encoder.name), f"torchvision's, of {VERSION}"
    if found.form in _PUBLISHED:
        return IMAGENET_MEAN, IMAGENET_STD, f"ImageNet's mean and deviation, by {found.form}"
    assumed = "assumed: the file does not say"
    about_model = getattr(encoder.body, "pretrained_cfg", {})
    if found.form == STATE_DICT and about_model.get("mean"):
        mean, std = tuple(about_model["mean"]), tuple(about_model["std"])
        return mean, std, f"timm's of {encoder.name}, mean {_shown(mean)}, deviation {_shown(std)}, {assumed}"
    return IMAGENET_MEAN, IMAGENET_STD, f"ImageNet's mean and deviation, {assumed}"


def _shown(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
