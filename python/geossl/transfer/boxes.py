"""Objects as a detector is to see them in a chip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from geossl.transfer.chips import Chips
    from geossl.transfer.objects import Objects

LEAST_VISIBLE = 0.5
"""Share of an object's area that has to lie in a chip; of less, it is no object of the chip."""
LEAST_SIDE = 1.0
"""Sides that a box in a chip has to have, pixels that the network sees."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxTargets:
    """The boxes of the objects in chips."""

    objects: Objects
    boxes: NDArray[np.float64]
    """Those of the objects, in pixels of their image."""
    chips: Chips

    def of(self, chip: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes float32 [N, 4] (left, top, right, bottom) in pixels that the network sees, and categories int64 [N]."""
        left, top, side, _ = self.chips.window[chip].tolist()
        there = self.objects.of(int(self.chips.image[chip]))
        boxes = self.boxes[there]
        inside = boxes.clip([left, top, left, top], [left + side, top + side, left + side, top + side])
        whole, seen = _areas(boxes), _areas(inside)
        scale = self.chips.scale(chip)
        sides = (inside[:, 2:] - inside[:, :2]) * scale
        kept = (seen >= LEAST_VISIBLE * whole) & (sides >= LEAST_SIDE).all(1)
        shown = (inside[kept] - [left, top, left, top]) * scale
        return shown.astype(np.float32), self.objects.category[there][kept]

    def batch(self, chips: Tensor, mirrored: Tensor, device: torch.device) -> list[dict[str, Tensor]]:
        """What the detector is to find in a batch.

        Args:
            chips: int64 [B], on the CPU.
            mirrored: bool [B]: whether the image is mirrored left to right.
            device: where the network is.

        """
        out = []
        for chip, mirror in zip(chips.tolist(), mirrored.tolist(), strict=True):
            boxes, labels = self.of(chip)
            if mirror:
                boxes[:, [0, 2]] = self.chips.size - boxes[:, [2, 0]]
            out.append({"boxes": torch.from_numpy(boxes).to(device), "labels": torch.from_numpy(labels).to(device)})
        return out


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    return areas


def with_objects(targets: BoxTargets) -> NDArray[np.bool_]:
    """Whether each chip shows an object, bool [chips]."""
    return np.array([len(targets.of(chip)[1]) > 0 for chip in range(len(targets.chips))], dtype=bool)
