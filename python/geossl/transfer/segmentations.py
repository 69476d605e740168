"""The class of every pixel of whole images, and how good that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from geossl.transfer.footprints import Footprints, Found, find_buildings, outlines
from geossl.transfer.masks import chip_maps, rasterise
from geossl.transfer.segmentation_scores import SegmentationScores, confusion
from geossl.transfer.windows import by_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from geossl.config import TrainConfig
    from geossl.data.index import Index
    from geossl.transfer.chips import Chips
    from geossl.transfer.objects import Objects
    from geossl.transfer.windows import Window

BACKGROUND = "background"
"""Name of class 0; the categories follow it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskTargets:
    """The classes of the pixels of chips."""

    objects: Objects
    chips: Chips

    def batch(self, chips: torch.Tensor, mirrored: torch.Tensor, device: torch.device) -> torch.Tensor:
        """What the network is to see in a batch, int64 [B, S, S]: 0 the background, then the categories.

        Args:
            chips: int64 [B], on the CPU.
            mirrored: bool [B]: whether the image is mirrored left to right.
            device: where the network is.

        """
        maps = chip_maps(self.chips.window[chips.numpy()], size=self.chips.size)
        masks = []
        for chip, to_chip, mirror in zip(chips.tolist(), maps, mirrored.tolist(), strict=True):
            there = self.objects.of(int(self.chips.image[chip]))
            mask = rasterise(
                self.objects.geometry[there],
                self.objects.category[there] + 1,
                to_chip=to_chip,
                size=self.chips.size,
            )
            masks.append(torch.from_numpy(mask[:, ::-1].copy() if mirror else mask))
        return torch.stack(masks).to(device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """The classes of one image."""

    row: int
    """The image, a row of the index."""
    classes: NDArray[np.uint8]
    """uint8 [H, W]: 0 the background, then the categories."""
    sure: NDArray[np.uint8]
    """uint8 [H, W]: probability of that class, 0..255."""

    def footprints(self, category: int) -> Footprints:
        """The outlines of a category's objects, in pixels of the image."""
        return outlines(self.classes == category + 1, probability=self.sure / 255)


def segment(
    model: nn.Module,
    config: TrainConfig,
    *,
    index: Index,
    rows: NDArray[np.int64],
    overlap: float,
    title: str = "images",
    failures: list[tuple[str, str]] | None = None,
) -> Iterator[Segmentation]:
    """The class of every pixel of whole images, one after the other.

    Each window answers for its zone (`geossl.transfer.chips.zones`): its border, where the network sees least, is
    another's. What cannot be read is background.

    Args:
        model: a `SegmentationNet`; it is put into eval mode.
        config: of its run: size, bands, mean and std.
        index: the images.
        rows: int64, which of them, ascending.
        overlap: share of a window's side that neighbours share.
        title: what the progress bar says.
        failures: gets (path, reason) of windows that could not be read.

    """
    lost = [] if failures is None else failures
    widths, heights = (index.column(name).to_numpy() for name in ("width", "height"))
    how = {"index": index, "rows": rows, "overlap": overlap, "title": title, "failures": lost}
    for row, windows in by_image(model, config, **how):
        shape = int(heights[row]), int(widths[row])
        classes, sure = np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)
        for window in windows:
            here, (seen, probability) = _zone(window), _classes(window)
            classes[here], sure[here] = seen, probability
        yield Segmentation(row=row, classes=classes, sure=sure)


def _zone(window: Window) -> tuple[slice, slice]:
    """The rows and columns of the image that a window answers for."""
    left, top, right, bottom = np.rint(window.zone).astype(int).tolist()
    return slice(top, bottom), slice(left, right)


def _classes(window: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The classes in a window's zone and how sure they are, 0..255."""
    logits = window.output.float()
    x, y, side, _ = window.window.tolist()
    if side != logits.shape[-1]:
        logits = F.interpolate(logits[None], size=(side, side), mode="bilinear", align_corners=False)[0]
    rows, columns = _zone(window)
    inside = logits[:, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    sure, seen = inside.softmax(0).max(0)
    return seen.cpu().numpy().astype(np.uint8), (255 * sure + 0.5).to(torch.uint8).cpu().numpy()


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationResult:
    """The scores of segmented images."""

    pixels: SegmentationScores
    footprints: dict[str, Found]
    """Of each category, how many outlines were found."""
    images: int


def score(segmentations: Iterable[Segmentation], objects: Objects, *, found: list[Segmentation]) -> SegmentationResult:
    """Score the classes of images against the objects that are there.

    Args:
        segmentations: one after the other.
        objects: of their images.
        found: gets the first few, to be drawn.

    """
    names = objects.categories
    matrix = torch.zeros(len(names) + 1, len(names) + 1, dtype=torch.int64)
    footprints = dict.fromkeys(names, Found())
    images = 0
    for one in segmentations:
        images += 1
        there = objects.of(one.row)
        geometry, category = objects.geometry[there], objects.category[there]
        truth = whole_mask(geometry, category, shape=one.classes.shape)
        matrix += confusion(torch.from_numpy(one.classes), torch.from_numpy(truth), classes=len(names) + 1)
        for code, name in enumerate(names):
            seen = one.footprints(code)
            footprints[name] += find_buildings(seen.polygons, geometry[category == code], scores=seen.scores)
        if len(found) < PICTURES and len(category):
            found.append(one)
    return SegmentationResult(pixels=SegmentationScores(confusion=matrix), footprints=footprints, images=images)


PICTURES = 8
"""Images that are kept to be drawn: the first of those with objects."""


def whole_mask(
    geometry: NDArray[np.object_], category: NDArray[np.int64], *, shape: Sequence[int]
) -> NDArray[np.int64]:
    """The class of each pixel of a whole image, int64 [H, W], from its polygons."""
    height, width = shape
    side = max(height, width)
    identity = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    return rasterise(geometry, category + 1, to_chip=identity, size=side)[:height, :width]
