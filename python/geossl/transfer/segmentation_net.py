"""A segmenter as the training has it: with its losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from geossl.transfer.segmenters import build_segmenter, segmentation_loss

if TYPE_CHECKING:
    from torch import Tensor

    from geossl.models.backbone import Encoder
    from geossl.transfer.segmenters import Head


class SegmentationNet(nn.Module):
    """In training, float32 [B, bands, S, S] and int64 [B, S, S] -> the loss; else -> logits, float32 [B, K, S, S]."""

    def __init__(self, encoder: Encoder, *, head: Head, classes: int, size: int, seed: int) -> None:
        """Build on the encoder, which becomes part of it."""
        super().__init__()
        self.net = build_segmenter(encoder, head=head, classes=classes, size=size, seed=seed)

    def forward(self, images: Tensor, truth: Tensor | None = None) -> dict[str, Tensor] | Tensor:
        """The loss, or the logits."""
        logits = self.net(images)
        if truth is not None:
            return {"loss": segmentation_loss(logits, truth)}
        main: Tensor = logits.main
        return main
