"""The tables of the paper, to stand beside ours.

Ayush et al., "Geography-Aware Self-Supervised Learning", ICCV 2021, arXiv 2011.09980: tables 1 (fMoW), 2 (its temporal
classification), 5 (land cover of NAIP) and 6 (GeoImageNet), and those of xView and SpaceNet. Per cent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table, and what ours is for it."""

    title: str
    score: str
    method: str
    """linear or finetune; detect or segment."""
    from_scratch: str | None = None
    """The method of an arm of which nothing is pretrained, if it is another."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper."""

    columns: tuple[Column, ...]
    figures: dict[str, tuple[float | None, ...]]
    """By the paper's name of the method, one a column."""
    note: str | None = None
    """What else the paper has."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What its pretraining set otherwise than the recipes that are as published."""


TABLES = {
    "fmow": Table(
        columns=(
            Column(title="F1 frozen", score="f1", method="linear"),
            Column(title="F1 finetune", score="f1", method="finetune"),
            Column(title="top-1 frozen", score="top1", method="linear"),
            Column(title="top-1 finetune", score="top1", method="finetune"),
        ),
        figures={
            "Supervised, ImageNet init": (None, 64.72, None, 69.07),
            "Supervised, scratch": (None, 64.71, None, 69.05),
            "Geoloc. learning": (48.96, 52.23, 52.40, 56.59),
            "MoCo-V2 (pretrained on ImageNet)": (31.55, 57.36, 37.05, 62.90),
            "MoCo-V2": (55.47, 60.61, 60.69, 64.34),
            "MoCo-V2+Geo": (61.60, 66.60, 64.07, 69.04),
            "MoCo-V2+TP": (64.53, 67.34, 68.32, 71.55),
            "MoCo-V2+Geo+TP": (63.13, 66.56, 66.33, 70.60),
        },
        note="By places (temporal classification) the paper has F1 69.56, top-1 72.76 for MoCo-V2+Geo+TP, frozen.",
    ),
    "geoimagenet": Table(
        columns=(
            Column(title="top-1", score="top1", method="linear", from_scratch="finetune"),
            Column(title="top-5", score="top5", method="linear", from_scratch="finetune"),
        ),
        figures={
            "Supervised, scratch": (35.04, 54.11),
            "Geoloc. learning": (22.26, 39.33),
            "MoCo-V2": (38.51, 57.67),
            "MoCo-V2+Geo": (39.96, 58.71),
        },
        # The released script for it (main_moco_IN_geo.py) crops the photos as they are.
        settings={"crop": {"resize": None}},
    ),
    "naip": Table(
        columns=(
            Column(title="top-1 frozen", score="top1", method="linear"),
            Column(title="top-1 finetune", score="top1", method="finetune"),
        ),
        figures={
            "Random init": (None, 51.89),
            "ImageNet init": (None, 53.46),
            "Supervised on fMoW, ImageNet init": (None, 54.67),
            "Supervised on fMoW, scratch": (None, 54.46),
            "MoCo-V2": (None, 55.18),
            "MoCo-V2+Geo": (None, 58.23),
            "MoCo-V2+TP": (None, 57.10),
            "MoCo-V2+Geo+TP": (None, 57.63),
        },
        note="The released code has no script for this table: that its encoders are finetuned is taken from its other "
        "transfers, and that val and test are scored together from a later program of the same group.",
    ),
    "xview": Table(
        columns=(Column(title="AP50", score="ap50", method="detect"),),
        figures={
            "Random init": (10.75,),
            "ImageNet init": (None,),
            "Supervised on fMoW, ImageNet init": (14.44,),
            "Supervised on fMoW, scratch": (14.42,),
            "MoCo-V2": (15.45,),
            "MoCo-V2+Geo": (15.63,),
            "MoCo-V2+TP": (17.65,),
            "MoCo-V2+Geo+TP": (17.74,),
        },
        note="The paper's 700 training and 146 test images, its epochs and which windows it scores are not published.",
    ),
    "spacenet": Table(
        columns=(Column(title="mIoU", score="mean_iou", method="segment"),),
        figures={
            "Random init": (74.93,),
            "ImageNet init": (75.23,),
            "Supervised on fMoW, ImageNet init": (75.61,),
            "Supervised on fMoW, scratch": (75.57,),
            "MoCo-V2": (78.05,),
            "MoCo-V2+Geo": (78.42,),
            "MoCo-V2+TP": (78.48,),
            "MoCo-V2+Geo+TP": (78.51,),
        },
        note="The paper's 5,000 training and 1,940 test images, its windows and its epochs are not published.",
    ),
}
"""By their names in a grid."""
