"""Whether probabilities mean what they say: whether 80 % of the guesses made with 80 % are right.

Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 2: the confidence is the probability
of the guess (top-label); M bins of equal width, each with its upper end; the expected calibration error (ECE) is the
mean over the samples of the gap between accuracy and mean confidence in their bin. Theirs and ours: M = 15.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geossl.evaluate.guesses import Guesses

BINS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """The bins of a reliability diagram, in order."""

    count: NDArray[np.int64]
    """Samples in each bin, int64 [M]."""
    confidence: NDArray[np.float64]
    """Their mean confidence, 0..1, float64 [M]; NaN in an empty bin."""
    accuracy: NDArray[np.float64]
    """Share of them that is right, float64 [M]; NaN in an empty bin."""

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1."""
        gap = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((gap * self.count).sum() / self.count.sum())


def reliability(guesses: Guesses, *, bins: int = BINS) -> Reliability:
    """Sort N >= 1 guesses into bins of equal width by their confidence; the bin m of M has ((m - 1) / M, m / M]."""
    at = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], guesses.confidence, side="left")
    count = np.bincount(at, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            count=count,
            confidence=np.bincount(at, weights=guesses.confidence, minlength=bins) / count,
            accuracy=np.bincount(at, weights=guesses.right, minlength=bins) / count,
        )
