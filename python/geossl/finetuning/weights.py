"""The weights that finetuning and transfers begin with, also for images of other bands or another type than theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from geossl.config import ColorConfig, LoaderConfig, ModelConfig
from geossl.errors import UsageError
from geossl.models.source import IMAGENET_MEAN, IMAGENET_STD
from geossl.models.weights import inflate, load_backbone
from geossl.training.data import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from geossl.config import TrainConfig
    from geossl.data.samples import Samples
    from geossl.finetuning.config import FinetuneConfig
    from geossl.finetuning.data import LabelledData
    from geossl.models.backbone import Encoder
    from geossl.models.weights import LoadedBackbone
    from geossl.training.data import TrainData
    from geossl.transfer.config import TransferConfig
    from geossl.transfer.data import TransferData

RGB = ("red", "green", "blue")


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """What the network of a finetuning or a transfer begins with, and the images that it sees."""

    loaded: LoadedBackbone | None
    """Weights, or with `from_scratch` a model to be like; None where the settings alone say what it is."""
    data: TrainData
    from_scratch: bool
    bands: tuple[str, ...] | None
    """That the network sees, by name or number; None is all."""

    @property
    def name(self) -> str:
        """The run's arm, `trained` or `scratch`."""
        if self.from_scratch or self.loaded is None:
            return "scratch"
        return str(self.loaded.settings.get("arm", "trained"))

    @property
    def said(self) -> list[str]:
        """What a reader of the scores has to know of these weights."""
        loaded, samples = self.loaded, self.data.samples
        return [] if loaded is None else describe(loaded, samples, from_scratch=self.from_scratch)

    def settings(self, config: FinetuneConfig | TransferConfig) -> dict[str, Any]:
        """Those of `TrainConfig` that the weights and the settings that both have say."""
        loaded, samples = self.loaded, self.data.samples
        normalized = loaded if loaded is not None and keeps_normalization(loaded, samples) else None
        return {
            "arm": "supervised",
            "data": config.data,
            "out": config.folder,
            "init_from": None if config.from_scratch else config.run,
            "seed": config.seed,
            "precision": config.precision,
            "device": config.device,
            "loader": LoaderConfig(
                root=config.root, pack=config.pack, bands=self.bands, threads=config.threads, on_error="substitute"
            ),
            "color": ColorConfig(
                jitter=(0, 0, 0, 0, 0),
                gray_p=0,
                blur=(0, 0, 0),
                bands=(0, 0),
                mean=None if normalized is None else normalized.mean,
                std=None if normalized is None else normalized.std,
            ),
            "model": ModelConfig(
                backbone=loaded.name if loaded is not None else config.backbone or ModelConfig().backbone,
                stem="imagenet" if loaded is None else loaded.settings.get("model", {}).get("stem", "imagenet"),
                bn_groups=1,
            ),
        }

    def resolve(self, config: TrainConfig) -> TrainConfig:
        """The settings with everything automatic decided, as `geossl.training.data.resolve`."""
        chosen = resolve(config, self.data)
        if self.loaded is None:
            return chosen
        color = spread_normalization(chosen.color, self.loaded, self.data.samples)
        return chosen.model_copy(update={"color": color})

    def give(self, encoder: Encoder) -> None:
        """Give an encoder the weights; from scratch it keeps its own."""
        if self.loaded is not None and not self.from_scratch:
            load_body(encoder, self.loaded, self.data.samples)


def read_start(config: FinetuneConfig | TransferConfig, data: LabelledData | TransferData) -> Start:
    """What the settings, settled, say to begin with.

    Raises UsageError if there is no such run or file, or the images have other bands than it reads.
    """
    loaded = None if config.run is None else load_backbone(config.run, backbone=config.backbone)
    bands = config.bands or (None if loaded is None else loaded.chosen_bands)
    train_data = data.train_data(bands)
    if loaded is not None and config.run is not None:
        check_fit(loaded, train_data.samples, given=config.bands, run=config.run)
    return Start(
        loaded=loaded,
        data=train_data,
        from_scratch=config.from_scratch,
        bands=None if bands is None else tuple(bands),
    )


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
