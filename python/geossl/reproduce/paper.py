"""The tables of the paper, to stand beside ours.

Ayush et al., "Geography-Aware Self-Supervised Learning", ICCV 2021, arXiv 2011.09980: tables 1 (fMoW), 2 (its temporal
classification) and 6 (GeoImageNet). Per cent.
"""

from __future__ import annotations

FMOW = {
    # method: F1 frozen, F1 finetune, top-1 frozen, top-1 finetune
    "Supervised, ImageNet init": (None, 64.72, None, 69.07),
    "Supervised, scratch": (None, 64.71, None, 69.05),
    "Geoloc. learning": (48.96, 52.23, 52.40, 56.59),
    "MoCo-V2 (pretrained on ImageNet)": (31.55, 57.36, 37.05, 62.90),
    "MoCo-V2": (55.47, 60.61, 60.69, 64.34),
    "MoCo-V2+Geo": (61.60, 66.60, 64.07, 69.04),
    "MoCo-V2+TP": (64.53, 67.34, 68.32, 71.55),
    "MoCo-V2+Geo+TP": (63.13, 66.56, 66.33, 70.60),
}
FMOW_TEMPORAL = {
    # method: F1 frozen, top-1 frozen, of places
    "MoCo-V2+Geo+TP": (69.56, 72.76),
}
GEOIMAGENET = {
    # method: top-1, top-5
    "Supervised, scratch": (35.04, 54.11),
    "Geoloc. learning": (22.26, 39.33),
    "MoCo-V2": (38.51, 57.67),
    "MoCo-V2+Geo": (39.96, 58.71),
}
