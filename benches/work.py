"""The work that every loader does, told in one place. Only the standard library: peers' environments import this."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

MODES = {
    "two-views": "two random views of one image, uint8",
    "temporal": "a view of each of two dates of a place, uint8",
    "float": "two views of one image, colours changed, blurred, normalised float32",
}
SIZE, BATCH, SCALE, RATIO = 224, 32, (0.2, 1.0), (3 / 4, 4 / 3)

# The colour changes of MoCo-v2 (arXiv 2003.04297, section 3).
JITTER_P, BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.8, 0.4, 0.4, 0.4, 0.1
GRAY_P, BLUR_P, BLUR_SIGMA = 0.2, 0.5, (0.1, 2.0)
BLUR_SIDE = 13
"""Side of a blur's kernel where a library asks for one: three times the largest sigma on both sides."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a loader is asked for; a pass of it is `pairs` pairs, in batches of `batch`, in a random order."""

    files: list[str]
    """Absolute paths of the JPEGs."""
    places: list[int]
    """The place that each file shows."""
    index: str
    """Our index of the same files."""
    packs: str
    """Folder for packs of them."""
    temporal: bool
    """The second view is of another date of the place; else it is of the same image, which is opened once."""
    floats: bool
    """With MoCo-v2's colour changes, to normalised float32; else uint8."""
    threads: int
    """Threads or processes that decode. With one, nothing beside the loader's own thread."""
    pairs: int
    """Pairs of a pass; sample i shows file i modulo the number of files."""
    source: str = ""
    """Our source: files, lossless, sized or raw."""
    batch: int = BATCH
    size: int = SIZE
    scale: tuple[float, float] = SCALE
    seed: int = 0

    def others(self) -> list[list[int]]:
        """For each file, the files of its place's other dates."""
        members: dict[int, list[int]] = {}
        for row, place in enumerate(self.places):
            members.setdefault(place, []).append(row)
        return [[row for row in members[place] if row != own] or [own] for own, place in enumerate(self.places)]

    def order(self) -> list[int]:
        """The files of a pass, in a random order, for loaders that do not shuffle themselves."""
        rows = [i % len(self.files) for i in range(self.pairs)]
        random.shuffle(rows)
        return rows


def window(width: int, height: int, scale: tuple[float, float]) -> tuple[int, int, int, int]:
    """A random crop (x, y, width, height), as torchvision's RandomResizedCrop draws it, for loaders that have none."""
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(10):
        area = width * height * random.uniform(*scale)
        ratio = math.exp(random.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return random.randint(0, width - w), random.randint(0, height - h), w, h
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (width - w) // 2, (height - h) // 2, w, h


@dataclass(frozen=True)
class Colors:
    """The colour changes of one view, for libraries that do not draw them themselves."""

    jitter: list[tuple[str, float]]
    """Operations with their amounts, in the order in which they apply; none without jitter."""
    gray: bool
    sigma: float
    """Blur in pixels; 0 for none."""


def colors() -> Colors:
    """Draw the colour changes of one view."""
    jitter = [
        ("brightness", random.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)),
        ("contrast", random.uniform(1 - CONTRAST, 1 + CONTRAST)),
        ("saturation", random.uniform(1 - SATURATION, 1 + SATURATION)),
        ("hue", random.uniform(-HUE, HUE)),
    ]
    random.shuffle(jitter)
    return Colors(
        jitter=jitter if random.random() < JITTER_P else [],
        gray=random.random() < GRAY_P,
        sigma=random.uniform(*BLUR_SIGMA) if random.random() < BLUR_P else 0.0,
    )


@dataclass(frozen=True, kw_only=True)
class CropJob:
    """What a reader of GeoTIFFs is asked for: pass k is the crops of `windows[k]`, in order, in batches of `batch`."""

    files: list[str]
    """Absolute paths."""
    index: str
    """Our index of the same files."""
    packs: str
    """Folder for packs of them."""
    bands: int
    windows: list[list[tuple[int, int, int, int, int]]]
    """Of each pass: file, x, y, width and height of each crop, pixels."""
    source: str = ""
    """Our source: files or lossless."""
    batch: int = BATCH
    size: int = SIZE
    scale: tuple[float, float] = SCALE
    seed: int = 0
