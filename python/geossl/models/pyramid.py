"""Feature maps of an encoder at several strides: what detectors and segmenters read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import ResNet

from geossl.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from geossl.models.backbone import Encoder

STRIDES = (8, 16, 32)
"""Pixels of the image for a pixel of the maps."""


class Pyramid(nn.Module):
    """An encoder's feature maps at strides 8, 16 and 32.

    float32 [B, bands, S, S] -> three of float32 [B, channels, S / stride, S / stride].

    Of torchvision's ResNets (and ResNeXts) and of timm's models that give intermediate features. The map of a stride is
    that of the deepest layer that has it; where none has (a vision transformer has a single stride, a ResNet with the
    small stem ends at 8), it is the deepest layer's, pooled or enlarged.
    """

    def __init__(self, encoder: Encoder, *, bands: int, size: int) -> None:
        """Read the encoder's body, which is shared, not copied.

        Raises UsageError if the model gives no feature maps, or none of images of this size.
        """
        super().__init__()
        self.body = encoder.body
        if not isinstance(self.body, ResNet) and not hasattr(self.body, "forward_intermediates"):
            raise UsageError(
                f"{encoder.name}: gives no feature maps here; torchvision's ResNets do (resnet50, resnext50_32x4d), "
                "and timm's models (timm/convnext_tiny, timm/vit_small_patch16_224)"
            )
        training = self.body.training
        self.body.eval()
        try:
            with torch.no_grad():
                maps = self._maps(torch.zeros(1, bands, size, size))
        except Exception as e:  # the models' own checks raise what they like
            raise UsageError(f"{encoder.name}: takes no images of {size} pixels: {' '.join(str(e).split())}") from e
        finally:
            self.body.train(training)
        strides = [round(size / feature.shape[-1]) for feature in maps]
        # For each stride, the number of the deepest map that has it, and of those that lack, the last one.
        self._chosen = [max((i for i, s in enumerate(strides) if s == stride), default=-1) for stride in STRIDES]
        self._strides = strides
        self.channels: list[int] = [maps[i].shape[1] for i in self._chosen]
        """Channels of the three maps."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps at the strides 8, 16 and 32."""
        maps = self._maps(images)
        out = []
        for stride, i in zip(STRIDES, self._chosen, strict=True):
            feature = maps[i]
            if stride > self._strides[i]:
                feature = F.max_pool2d(feature, stride // self._strides[i])
            elif stride < self._strides[i]:
                feature = F.interpolate(feature, scale_factor=self._strides[i] / stride, mode="nearest")
            out.append(feature)
        return out

    def _maps(self, images: Tensor) -> list[Tensor]:
        body = self.body
        if not isinstance(body, ResNet):
            maps: list[Tensor] = body.forward_intermediates(images, intermediates_only=True)  # type: ignore[operator]
            return maps
        feature = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        maps = []
        for layer in (body.layer1, body.layer2, body.layer3, body.layer4):
            feature = layer(feature)
            maps.append(feature)
        return maps
