"""An encoder of ours in torchgeo-bench, as one of its models.

Source: torchgeo-bench 0.4.0 (github.com/torchgeo/torchgeo-bench): src/torchgeo_bench/models/interface.py has the
interface, docs/user/eval_own_model.rst how a model of one's own is run. Its settings are given on its command line:

    torchgeo-bench run model=imagestats model._target_=geossl.judges.torchgeo_bench.GeosslBench \
        model.name=demo +model.run=runs/demo dataset.names=[m-eurosat]

Only torchgeo-bench imports this module; geossl does without the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F
from torchgeo_bench.models import BenchModel, InputUnit

from geossl.errors import UsageError
from geossl.judges.bands import band_name, bands_of
from geossl.models.weights import IMAGENET_MEAN, IMAGENET_STD, load_backbone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchgeo_bench.datasets import BandSpec


class GeosslBench(BenchModel):  # type: ignore[misc] # the package ships no types that are seen here
    """A frozen encoder of a run, as torchgeo-bench takes it: [B, C, H, W] of a data set -> float32 [B, D].

    Of the data set's bands it takes those that it reads, by name. Images of another size than it was trained on are
    resized to that, bilinearly with antialiasing.
    """

    def __init__(
        self,
        bands: list[BandSpec],
        *,
        run: str,
        backbone: str | None = None,
        reads: Sequence[str] | None = None,
        normalization: str = "bandspec_zscore",
        **_: object,
    ) -> None:
        """Load the encoder.

        Args:
            bands: the data set's bands, from torchgeo-bench.
            run: folder of a run, or a file that `load_backbone` reads.
            backbone: the model, for a file that does not name it.
            reads: names of the bands that the encoder reads, where its run does not name them and they are not red,
                green and blue.
            normalization: torchgeo-bench's `dataset.normalization`. By its default each band is standardised by the
                data set. `model_native` normalises as the encoder was trained, which is known of those that take 8-bit
                RGB by ImageNet's mean and deviation.

        Raises:
            UsageError: no such run; or the data set lacks a band, or the normalisation does not fit the encoder.

        """
        encoder = load_backbone(Path(run), backbone=backbone)
        names = [band_name(band.name) for band in bands]
        wanted = bands_of(encoder, reads, option="+model.reads=[...]")
        if missing := [name for name in wanted if name not in names]:
            raise UsageError(
                f"{run}: reads {', '.join(wanted)}; {', '.join(missing)} is not among the bands of dataset.bands: "
                f"{', '.join(band.name for band in bands)}"
            )
        self.order = [names.index(name) for name in wanted]
        if normalization == "model_native":
            self._be_native(encoder.mean, encoder.std, count=len(bands), run=run)
        super().__init__(bands=bands, normalization=normalization)
        self.backbone = encoder.module
        self.size = encoder.size

    def _be_native(self, mean: tuple[float, ...], std: tuple[float, ...], *, count: int, run: str) -> None:
        if (tuple(mean), tuple(std)) != (IMAGENET_MEAN, IMAGENET_STD):
            raise UsageError(
                f"{run}: dataset.normalization=model_native is for encoders of 8-bit RGB normalised by ImageNet's "
                "mean and deviation; use bandspec_zscore"
            )
        self.expected_input_unit = InputUnit.REFLECTANCE_0_1
        # One a band of the data set; those that are not read do not matter.
        self.pretrain_mean, self.pretrain_std = [0.0] * count, [1.0] * count
        for band, m, s in zip(self.order, mean, std, strict=True):
            self.pretrain_mean[band], self.pretrain_std[band] = m, s

    @torch.no_grad()
    def _forward_patch_features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, C, H, W], normalised -> [B, D]."""
        images = images[:, self.order]
        size = (self.size, self.size)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
        features: torch.Tensor = self.backbone(images)
        return features
