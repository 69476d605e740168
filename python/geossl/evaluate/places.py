"""The places that test images show, each with its class and its views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """The P places of N rows, by ascending code."""

    of_row: NDArray[np.int64]
    """Position of each row's place, 0 to P - 1, int64 [N]."""
    labels: NDArray[np.int64]
    """Class of each place: the most frequent of its rows', the lowest of equals, int64 [P]."""
    views: NDArray[np.int64]
    """Rows of each place, at least 1, int64 [P]."""

    def __len__(self) -> int:
        return len(self.views)

    def take(self, chosen: NDArray[np.bool_]) -> Places:
        """The chosen places, bool [P], of the rows that show them."""
        number = np.cumsum(chosen) - 1
        return Places(
            of_row=number[self.of_row[chosen[self.of_row]]], labels=self.labels[chosen], views=self.views[chosen]
        )

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of each place's rows, float32 [P, D], of float [N, D]."""
        of_row = torch.from_numpy(self.of_row).to(x.device)
        sums = torch.zeros(len(self), x.shape[1], dtype=torch.float32, device=x.device).index_add_(0, of_row, x.float())
        return sums / torch.from_numpy(self.views).to(x.device)[:, None]


def group_places(*, places: NDArray[np.integer], labels: NDArray[np.integer]) -> Places:
    """Group rows by place.

    Args:
        places: code of each row's place, integer [N]; any codes, equal for the images of a place.
        labels: class of each row, integer [N], 0 or more.

    """
    codes, of_row = np.unique(places, return_inverse=True)
    # Each (place, class) that occurs, and how often; then for each place the first of its most frequent ones.
    width = int(labels.max()) + 1
    pairs, counts = np.unique(of_row.astype(np.int64) * width + labels, return_counts=True)
    place, label = pairs // width, pairs % width
    best_first = np.lexsort((label, -counts, place))
    first = np.searchsorted(place, np.arange(len(codes)))
    return Places(
        of_row=of_row.astype(np.int64),
        labels=label[best_first][first],
        views=np.bincount(of_row, minlength=len(codes)).astype(np.int64),
    )
