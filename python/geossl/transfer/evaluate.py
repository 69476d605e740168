"""The test images of a transfer: what its network makes of them, scored, written and drawn."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from geossl.tables import align, per_cent, write_csv
from geossl.transfer import detections, segmentations
from geossl.transfer.seen import write_seen
from geossl.viz.detections import plot_detections
from geossl.viz.segmentations import plot_segmentation

if TYPE_CHECKING:
    from pathlib import Path

    from geossl.training.checkpoint import TrainState
    from geossl.transfer.config import TransferConfig
    from geossl.transfer.data import TransferData
    from geossl.transfer.detections import DetectionScores
    from geossl.transfer.learner import TransferLearner
    from geossl.transfer.segmentations import Segmentation, SegmentationResult

PICTURES = segmentations.PICTURES
"""Test images that are drawn: the first of those with objects."""
SHOWN = 10
"""Categories in the printed table: those with the most objects."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scores of the test images."""

    scores: DetectionScores | SegmentationResult
    figures: dict[str, Any]
    """The same for JSON."""
    lines: list[str]
    """The same for people."""


def evaluate_detector(
    config: TransferConfig,
    data: TransferData,
    state: TrainState[TransferLearner],
    *,
    folder: Path,
    failures: list[tuple[str, str]],
) -> Scored:
    """Score what a detector sees; the folder gets seen.parquet, categories.csv and pictures."""
    how: dict[str, Any] = {"overlap": config.overlap, "title": "test images", "failures": failures}
    objects = data.objects
    seen = list(detections.detect(state.learner.model, state.config, index=data.index, rows=data.test, **how))
    scores = detections.score(seen, objects)
    write_seen(folder / "seen.parquet", seen, index=data.index, categories=objects.categories)
    table = sorted(scores.per_class.items(), key=lambda item: (-item[1][1], item[0]))
    write_csv(folder / "categories.csv", ["category", "ap", "objects"], [[n, ap, count] for n, (ap, count) in table])
    drawn = [one for one in seen if objects.of(one.row).stop > objects.of(one.row).start][:PICTURES]
    for number, one in enumerate(drawn, 1):
        plot_detections(folder / f"picture-{number}.png", one, index=data.index, objects=objects, pack=config.pack)
    rows = [[name, per_cent(ap), f"{count:,}"] for name, (ap, count) in table[:SHOWN]]
    lines = [
        f"{scores.images:,} test images with {scores.objects:,} objects of {len(scores.per_class)} categories",
        f"AP50 {per_cent(scores.ap50)}  AP {per_cent(scores.ap)}  (per cent, mean over the categories)",
        *align([["category", "AP", "objects"], *rows], left={0}),
    ]
    figures = asdict(scores)
    figures |= {name: _json(figures[name]) for name in ("ap", "ap50")}
    return Scored(scores=scores, figures=figures, lines=lines)


def evaluate_segmenter(
    config: TransferConfig,
    data: TransferData,
    state: TrainState[TransferLearner],
    *,
    folder: Path,
    failures: list[tuple[str, str]],
) -> Scored:
    """Score the classes that a segmenter gives pixels; the folder gets categories.csv and pictures."""
    how: dict[str, Any] = {"overlap": config.overlap, "title": "test images", "failures": failures}
    made = segmentations.segment(state.learner.model, state.config, index=data.index, rows=data.test, **how)
    drawn: list[Segmentation] = []
    scores = segmentations.score(made, data.objects, found=drawn)
    names = [segmentations.BACKGROUND, *data.objects.categories]
    pixels = scores.pixels
    header = ["category", "iou", "accuracy", "footprint_f1", "footprint_precision", "footprint_recall"]
    table: list[list[Any]] = []
    for name, iou, accuracy in zip(names, pixels.iou, pixels.accuracy, strict=True):
        found = scores.footprints.get(name)
        counted = [math.nan] * 3 if found is None else [found.f1, found.precision, found.recall]
        table.append([name, iou, accuracy, *counted])
    write_csv(folder / "categories.csv", header, table)
    for number, one in enumerate(drawn, 1):
        plot_segmentation(
            folder / f"picture-{number}.png", one, index=data.index, objects=data.objects, pack=config.pack
        )
    rows = [[row[0], *(per_cent(value) for value in row[1:])] for row in table[: SHOWN + 1]]
    miou = f"mIoU {per_cent(pixels.mean_iou)}  pixel accuracy {per_cent(pixels.overall_accuracy)}"
    lines = [
        f"{scores.images:,} test images",
        f"{miou}  (per cent; mIoU: mean over the classes, the background among them)",
        *align([["class", "IoU", "accuracy", "F1", "precision", "recall"], *rows], left={0}),
        "F1, precision and recall: by footprint, found from an intersection over union of 0.5",
    ]
    figures = {
        "mean_iou": pixels.mean_iou,
        "mean_accuracy": pixels.mean_accuracy,
        "overall_accuracy": pixels.overall_accuracy,
        "per_class": {row[0]: dict(zip(header[1:], map(_json, row[1:]), strict=True)) for row in table},
        "images": scores.images,
    }
    return Scored(scores=scores, figures=figures, lines=lines)


def _json(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
