"""Training places drawn class by class: those whose labels are used, and those that settings are chosen on."""

from __future__ import annotations

import numpy as np
import torch

from geossl.evaluate.places import group_places
from geossl.models.seeds import generator


def draw_places(
    *, places: torch.Tensor, labels: torch.Tensor, share: float, seed: int, use: str, spare: int = 0
) -> torch.Tensor:
    """Draw a share of each class's places, at least one, with all their images: bool [N], True for a drawn one's rows.

    With one seed and use, a larger share has the places of a smaller one. A place's class is the most frequent of its
    images', the lowest of equals.

    Args:
        places: code of each row's place, integer [N], N >= 1.
        labels: class of each row, int64 [N], 0 or more.
        share: share of each class's places, 0..1; rounded to whole places.
        seed: seed of the draw.
        use: what the draw is for: draws for other uses are others.
        spare: places of each class that are never drawn; of a class with no more than these, none is.

    """
    grouped = group_places(places=places.cpu().numpy(), labels=labels.cpu().numpy())
    drawn = np.zeros(len(grouped), dtype=bool)
    for label in np.unique(grouped.labels).tolist():
        own = np.flatnonzero(grouped.labels == label)
        order = torch.randperm(len(own), generator=generator(seed, use, label)).numpy()
        drawn[own[order[: max(0, min(max(1, round(share * len(own))), len(own) - spare))]]] = True
    return torch.from_numpy(drawn[grouped.of_row]).to(places.device)
