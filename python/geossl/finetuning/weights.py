"""The weights that finetuning and transfers begin with, also for images of other bands or another type than theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from geossl.errors import UsageError
from geossl.models.source import IMAGENET_MEAN, IMAGENET_STD
from geossl.models.weights import inflate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from geossl.config import ColorConfig
    from geossl.data.samples import Samples
    from geossl.models.backbone import Encoder
    from geossl.models.weights import LoadedBackbone

RGB = ("red", "green", "blue")


def check_fit(loaded: LoadedBackbone, samples: Samples, *, given: Sequence[str] | None, run: Path) -> None:
    """Raise UsageError unless the weights can be used for what the network sees.

    They are for as many bands; or for RGB, and the user has said which bands are to be seen.

    Args:
        loaded: the weights.
        samples: what the network sees.
        given: the bands that the user has named.
        run: where the weights are from.

    """
    if samples.bands == loaded.bands or (given is not None and loaded.bands == len(RGB)):
        return
    what = f"images of {samples.bands} bands; the encoder of {run} reads {loaded.bands}"
    if loaded.bands == len(RGB):
        every = ",".join(samples.names or map(str, range(1, samples.bands + 1)))
        raise UsageError(f"{what}: choose three with --bands, or spread its weights over more: --bands {every}")
    raise UsageError(f"{what}: choose them with --bands; only weights for three bands (RGB) are spread over others")


def keeps_normalization(loaded: LoadedBackbone, samples: Samples) -> bool:
    """Whether the images are normalised by the mean and deviation of the weights.

    Those of ImageNet are of 8-bit images. Reflectances leave most of 16 bits empty, and would be all but black.
    """
    of_photos = (loaded.mean, loaded.std) == (IMAGENET_MEAN, IMAGENET_STD)
    return samples.bands == loaded.bands and not (of_photos and samples.bits != 8)


def spread_normalization(color: ColorConfig, loaded: LoadedBackbone, samples: Samples) -> ColorConfig:
    """Red, green and blue as the weights for them expect it, the other bands as measured.

    Args:
        color: with the measured values.
        loaded: the weights.
        samples: what the network sees.

    """
    if samples.bands == loaded.bands or loaded.bands != len(RGB) or samples.names is None or samples.bits != 8:
        return color
    mean, std = (list(values) for values in color.normalization)
    for k, name in enumerate(samples.names):
        if name in RGB:
            mean[k], std[k] = loaded.mean[RGB.index(name)], loaded.std[RGB.index(name)]
    return color.model_copy(update={"mean": tuple(mean), "std": tuple(std)})


def load_body(encoder: Encoder, loaded: LoadedBackbone, samples: Samples) -> None:
    """Give an encoder the weights, those for RGB spread over its bands by `geossl.models.weights.inflate`."""
    state: dict[str, Tensor] = dict(loaded.module.body.state_dict())
    if samples.bands != loaded.bands:
        with torch.no_grad():
            for name in encoder.first:
                state[f"{name}.weight"] = inflate(state[f"{name}.weight"], samples.names, bands=samples.bands)
    encoder.body.load_state_dict(state)


def describe(loaded: LoadedBackbone, samples: Samples, *, from_scratch: bool) -> list[str]:
    """What a reader of the scores has to know of it."""
    notes = []
    if samples.bands != loaded.bands and not from_scratch:
        bands = ", ".join(samples.names or map(str, range(1, samples.bands + 1)))
        notes.append(f"weights for RGB, spread over {bands}: other bands begin with the mean of red, green and blue")
    if samples.bands == loaded.bands and not keeps_normalization(loaded, samples):
        notes.append(
            "the weights' normalisation is of 8-bit images; these are normalised by their own mean and deviation"
        )
    return notes
