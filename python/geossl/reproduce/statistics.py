"""Scores of several seeds as one figure with its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from geossl.evaluate.bootstrap import Interval
from geossl.tables import per_cent

if TYPE_CHECKING:
    from collections.abc import Sequence


def over_seeds(
    values: Sequence[float], *, within: Sequence[tuple[float, float]] | None = None, signed: bool = False
) -> str:
    """The mean of shares, per cent, and its 95 % interval.

    Over two seeds or more it is Student's t interval of the mean; of one seed it is `within`, that of the test places.

    Args:
        values: shares, 0..1, one a seed.
        within: interval of each seed, if there is one.
        signed: write a plus before a mean that is not negative, as for a difference.

    """
    if not values or any(math.isnan(value) for value in values):
        return "-"
    mean = float(np.mean(values))
    interval = Interval(*within[0]) if within is not None else None
    if len(values) > 1:
        half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
        interval = Interval(mean - half, mean + half)
    return per_cent(mean, interval, sign="+" if signed else "")
