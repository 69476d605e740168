"""What a detector sees in whole images, and how good that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import batched_nms

from geossl.transfer.windows import by_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from geossl.config import TrainConfig
    from geossl.data.index import Index
    from geossl.transfer.objects import Objects
    from geossl.transfer.windows import Window

SAME_OBJECT = 0.5
"""Boxes of one category that overlap by more (intersection over union) are of one object: the best of them stays."""
MOST = 10_000
"""Detections of a whole image that count. COCO's 100 are fewer than an image of xView has objects."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """The objects seen in one image, the surest first."""

    row: int
    """The image, a row of the index."""
    boxes: NDArray[np.float32]
    """float32 [N, 4]: left, top, right, bottom in pixels of the image."""
    categories: NDArray[np.int64]
    """int64 [N]."""
    scores: NDArray[np.float32]
    """float32 [N]: 0..1, descending."""


def detect(
    model: nn.Module,
    config: TrainConfig,
    *,
    index: Index,
    rows: NDArray[np.int64],
    overlap: float,
    title: str = "images",
    failures: list[tuple[str, str]] | None = None,
) -> Iterator[Detections]:
    """What a detector sees in whole images, one after the other, so that memory is bounded.

    Each window answers for the objects whose box has its middle in the window's zone (`geossl.transfer.chips.zones`),
    so that one seen by two counts once, and a half one at a border not at all; of boxes that overlap by more than half,
    the best stays.

    Args:
        model: a `Detector`; it is put into eval mode.
        config: of its run: size, bands, mean and std.
        index: the images.
        rows: int64, which of them, ascending.
        overlap: share of a window's side that neighbours share.
        title: what the progress bar says.
        failures: gets (path, reason) of windows that could not be read.

    """
    lost = [] if failures is None else failures
    how = {"index": index, "rows": rows, "overlap": overlap, "title": title, "failures": lost}
    for row, windows in by_image(model, config, **how):
        yield _merged(row, windows)


def _merged(row: int, windows: list[Window]) -> Detections:
    """The objects of an image from what was seen in its windows."""
    parts = [_in_image(window) for window in windows]
    if not parts:
        empty = np.zeros(0, np.float32)
        return Detections(row=row, boxes=empty.reshape(0, 4), categories=np.zeros(0, np.int64), scores=empty)
    boxes, labels, scores = (torch.cat(values) for values in zip(*parts, strict=True))
    kept = batched_nms(boxes, scores, labels, SAME_OBJECT)
    return Detections(
        row=row,
        boxes=boxes[kept].cpu().numpy(),
        categories=labels[kept].cpu().numpy(),
        scores=scores[kept].cpu().numpy(),
    )


def _in_image(window: Window) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The boxes in pixels of the image, categories and scores, of those whose middle is in the window's zone."""
    boxes, labels, scores = (window.output[name] for name in ("boxes", "labels", "scores"))
    corner, zone = (torch.from_numpy(v).to(boxes.device) for v in (window.window[:2], window.zone))
    # The middle in double precision, as the zones are: a box on their border is to be in exactly one of them.
    placed = boxes.double() / window.scale + corner.repeat(2)
    middle = (placed[:, :2] + placed[:, 2:]) / 2
    own = ((middle >= zone[:2]) & (middle < zone[2:])).all(1)
    return placed[own].float(), labels[own], scores[own].float()


@dataclass(frozen=True, kw_only=True)
class DetectionScores:
    """Average precision over the images, COCO's: the area below precision over recall at 101 points."""

    ap: float
    """Mean over the categories and the overlaps 0.50, 0.55, ... 0.95."""
    ap50: float
    """Mean over the categories at the overlap 0.50."""
    per_class: dict[str, tuple[float, int]]
    """Of each category that the images have: AP over all overlaps, and the number of objects."""
    images: int
    objects: int


def score(detections: Sequence[Detections], objects: Objects) -> DetectionScores:
    """Average precision of detections, by torchmetrics with faster-coco-eval; NaN where there is no object.

    Unlike COCO's, all of the first 10,000 detections of an image count, not 100.
    """
    metric = MeanAveragePrecision(
        box_format="xyxy",
        # COCO's own numbers: by default they are made in float32, and a recall of exactly 0.3 may miss its step.
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
        class_metrics=True,
        max_detection_thresholds=[1, 100, MOST],
        backend="faster_coco_eval",
    )
    boxes = objects.boxes.astype(np.float32)
    counts = np.zeros(len(objects.categories), np.int64)
    for one in detections:
        there = objects.of(one.row)
        labels = objects.category[there]
        counts += np.bincount(labels, minlength=len(counts))
        seen = {"boxes": one.boxes, "labels": one.categories, "scores": one.scores}
        truth = {"boxes": boxes[there], "labels": labels}
        metric.update(
            [{name: torch.from_numpy(value) for name, value in seen.items()}],
            [{name: torch.from_numpy(value) for name, value in truth.items()}],
        )
    made: dict[str, Any] = metric.compute()
    of_class = dict(zip(made["classes"].flatten().tolist(), made["map_per_class"].flatten().tolist(), strict=True))
    return DetectionScores(
        ap=_value(made["map"]),
        ap50=_value(made["map_50"]),
        per_class={
            name: (of_class[code], int(counts[code]))
            for code, name in enumerate(objects.categories)
            if counts[code] and code in of_class
        },
        images=len(detections),
        objects=int(counts.sum()),
    )


def _value(figure: torch.Tensor) -> float:
    """What torchmetrics calls -1 does not exist: there is nothing to score."""
    value = float(figure)
    return float("nan") if value < 0 else value
