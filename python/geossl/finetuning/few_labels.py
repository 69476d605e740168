"""A part of the labels: how good an encoder is where few places are labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from geossl.models.seeds import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray


def few_labels(labels: NDArray[np.int64], places: NDArray[np.int32], *, percent: float, seed: int) -> NDArray[np.bool_]:
    """Draw a share of the places of every class, at least one each, with all their images.

    A place with images of several classes is one of each of them, and is drawn if it is for any. With the same seed,
    what a smaller share draws is part of what a larger one does.

    Args:
        labels: class of each row, 0 or above, int64 [N].
        places: code of each row's place, integer [N].
        percent: share of each class's places, above 0 and at most 100.
        seed: seed of the draw.

    Returns:
        bool [N], True for every row of a drawn place.

    """
    drawn = []
    for label in np.unique(labels):
        own = np.unique(places[labels == label])
        order = torch.randperm(len(own), generator=generator(seed, "labels", int(label))).numpy()
        drawn.append(own[order[: max(1, round(percent / 100 * len(own)))]])
    return np.isin(places, np.concatenate(drawn))
