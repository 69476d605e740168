"""Building footprints: outlines from a predicted mask, and SpaceNet's score of them by building.

Source of the score: evalTools.py of the SpaceNet challenge's utilities (SpaceNetChallenge/utilities), and its
visualizer, which also leaves out buildings of less than 20 pixels. A prediction is right if its intersection over union
with a building is 0.5 or more; each building is found once, by the first that asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from rasterio.features import rasterize, shapes
from shapely.geometry import shape

from geossl.data.fallback import quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_AREA = 20.0
"""Square pixels of the smallest building that the challenge scores."""
IOU = 0.5
"""Intersection over union from which on a building counts as found."""
TOLERANCE = 1.0
"""How far an outline may move when it is simplified, pixels: the steps of a slanted wall are within that of a line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Footprints:
    """Buildings of one image."""

    polygons: NDArray[Any]
    """shapely polygons in pixels of the image, object [N]."""
    scores: NDArray[np.float64]
    """float64 [N]: mean probability inside; 1 where only a mask was given."""


def outlines(
    mask: NDArray[Any],
    *,
    probability: NDArray[Any] | None = None,
    least_area: float = LEAST_AREA,
    tolerance: float = TOLERANCE,
) -> Footprints:
    """The outlines of a mask's buildings: pixels that touch by a side are one.

    Args:
        mask: which pixels are a building, bool [H, W].
        probability: of a building, [H, W], by which the footprints are scored.
        least_area: smaller ones are left out, square pixels.
        tolerance: how far simplifying may move an outline, pixels; 0 keeps every step of the pixels' edges.

    """
    marked = mask.astype(np.uint8)
    with quiet():
        polygons = np.array([shape(polygon) for polygon, _ in shapes(marked, mask=marked > 0)], object)
    areas = shapely.area(polygons)
    scores = np.ones(len(polygons))
    if probability is not None and len(polygons):
        numbered = [(polygon, i) for i, polygon in enumerate(polygons, 1)]
        with quiet():
            number = rasterize(numbered, out_shape=mask.shape, fill=0, dtype="int32")
        # A polygon of pixels' edges covers as many pixels as its area.
        scores = np.bincount(number.ravel(), np.asarray(probability, np.float64).ravel(), len(polygons) + 1)[1:] / areas
    kept = areas >= least_area
    polygons, scores = polygons[kept], scores[kept]
    if tolerance:
        polygons = shapely.simplify(polygons, tolerance)
    return Footprints(polygons=polygons, scores=scores)


@dataclass(frozen=True, kw_only=True)
class Found:
    """How many buildings were found. Those of images add up."""

    right: int = 0
    """Predictions that are a building (true positives)."""
    wrong: int = 0
    """Predictions that are none (false positives)."""
    missed: int = 0
    """Buildings that no prediction found (false negatives)."""

    def __add__(self, other: Found) -> Found:
        return Found(right=self.right + other.right, wrong=self.wrong + other.wrong, missed=self.missed + other.missed)

    @property
    def precision(self) -> float:
        """Share of the predictions that are a building; 0 without predictions."""
        return self.right / max(self.right + self.wrong, 1)

    @property
    def recall(self) -> float:
        """Share of the buildings that were found; 0 without buildings."""
        return self.right / max(self.right + self.missed, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if no building was found."""
        return 2 * self.right / max(2 * self.right + self.wrong + self.missed, 1)


def find_buildings(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    *,
    scores: NDArray[Any] | None = None,
    iou: float = IOU,
    least_area: float = LEAST_AREA,
) -> Found:
    """How many buildings of one image the predicted outlines find.

    The outlines ask in the order of their scores, the highest first, and among equals the largest first. Each takes the
    building that is left with which its intersection over union is highest, if that is `iou` or more.

    Args:
        predicted: shapely polygons, object [N], in the same coordinates as `truth`.
        truth: shapely polygons of the buildings, object [M].
        scores: how sure each prediction is, [N]; None where all are the same.
        iou: least intersection over union, above 0.
        least_area: predictions and buildings that are smaller do not count.

    """
    predicted, truth = (shapely.make_valid(np.asarray(polygons, object)) for polygons in (predicted, truth))
    areas = shapely.area(predicted)
    kept = areas >= least_area
    predicted, areas = predicted[kept], areas[kept]
    order = np.lexsort((-areas, -(np.zeros(len(kept)) if scores is None else np.asarray(scores))[kept]))
    truth = truth[shapely.area(truth) >= least_area]

    asking, asked = shapely.STRtree(truth).query(predicted, predicate="intersects")
    shared = shapely.area(shapely.intersection(predicted[asking], truth[asked]))
    overlap = shared / (areas[asking] + shapely.area(truth[asked]) - shared)
    enough = overlap >= iou
    candidates: dict[int, list[tuple[float, int]]] = {}
    for who, whom, by in zip(asking[enough].tolist(), asked[enough].tolist(), overlap[enough].tolist(), strict=True):
        candidates.setdefault(who, []).append((-by, whom))
    taken: set[int] = set()
    for who in order.tolist():
        left = [pair for pair in candidates.get(who, []) if pair[1] not in taken]
        if left:
            taken.add(min(left)[1])
    return Found(right=len(taken), wrong=len(predicted) - len(taken), missed=len(truth) - len(taken))
