"""RetinaNet on an encoder's feature maps."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from geossl.models.pyramid import Pyramid
from geossl.models.seeds import seeded

if TYPE_CHECKING:
    from torch import Tensor

    from geossl.models.backbone import Encoder

CHANNELS = 256
"""Of the feature pyramid, RetinaNet's."""
ANCHORS = (16, 32, 64, 128, 256)
"""Sides of the anchors, pixels, at each level of the pyramid (and 2^(1/3) and 2^(2/3) of it): half of RetinaNet's, as
objects seen from above are small."""
MOST_DETECTIONS = 300
"""In an image that the network sees."""


class Detector(nn.Module):
    """RetinaNet (Lin et al., ICCV 2017) of torchvision, with focal loss, on any encoder.

    In training, float32 [B, bands, S, S] and a list of {boxes: float32 [N, 4] (left, top, right, bottom), labels:
    int64 [N]} -> the losses; else -> a list of {boxes, labels, scores}, of each image the best 300.
    """

    def __init__(self, encoder: Encoder, *, classes: int, bands: int, size: int, seed: int) -> None:
        """Build on the encoder's body, which is shared; what is new is drawn from the seed."""
        super().__init__()
        backbone = _Features(encoder, bands=bands, size=size, seed=seed)
        shapes = tuple((side, side * 2 ** (1 / 3), side * 2 ** (2 / 3)) for side in ANCHORS)
        with seeded(seed, "detector"):
            self.net = RetinaNet(
                backbone,
                classes,
                anchor_generator=AnchorGenerator(shapes, ((0.5, 1.0, 2.0),) * len(shapes)),
                detections_per_img=MOST_DETECTIONS,
            )
        self.net.transform = _AsTheyAre()

    def forward(
        self, images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """The losses, or what is seen."""
        found: dict[str, Tensor] | list[dict[str, Tensor]] = self.net(list(images), targets)
        return found


class _Features(nn.Module):
    """The levels P3 to P7 of a feature pyramid on an encoder's maps."""

    out_channels = CHANNELS

    def __init__(self, encoder: Encoder, *, bands: int, size: int, seed: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(encoder, bands=bands, size=size)
        with seeded(seed, "feature pyramid"):
            self.fpn = FeaturePyramidNetwork(
                self.pyramid.channels, CHANNELS, extra_blocks=LastLevelP6P7(CHANNELS, CHANNELS)
            )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.fpn(OrderedDict((str(i), m) for i, m in enumerate(self.pyramid(images))))
        return maps


class _AsTheyAre(nn.Module):
    """In place of torchvision's resizing and normalisation: the loader has done both."""

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        stacked = torch.stack(images).contiguous(memory_format=torch.channels_last)
        return ImageList(stacked, [(image.shape[-2], image.shape[-1]) for image in images]), targets

    def postprocess(self, result: list[dict[str, Tensor]], *_sizes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        return result
