"""Which dates of a place may be a pair: what training draws from, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from geossl import _core
from geossl.config import PairsConfig
from geossl.data.table import NO_INSTANT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geossl.data.index import Index

POLICIES = {
    "any other date (the default)": PairsConfig(),
    "at most a year apart": PairsConfig(gap_days=(0, 365)),
    "a year apart or more": PairsConfig(gap_days=(365, None)),
    "another season": PairsConfig(season="other"),
    "same season, another year": PairsConfig(season="same"),
    "cloud of 10 % at most": PairsConfig(max_cloud=10),
    "weighted by what is clear": PairsConfig(draw="clear"),
    "same sensor": PairsConfig(sensor="same"),
    "another sensor": PairsConfig(sensor="other"),
    "the nearest date": PairsConfig(draw="nearest"),
    "the farthest date": PairsConfig(draw="farthest"),
}
"""What `geossl data inspect` counts."""
_YEAR = 365.25
GAPS = {
    "under a day": 0.0,
    "1 to 7 days": 1.0,
    "7 to 30 days": 7.0,
    "30 to 90 days": 30.0,
    "90 to 180 days": 90.0,
    "180 days to a year": 180.0,
    "1 to 2 years": _YEAR,
    "2 to 5 years": 2 * _YEAR,
    "5 years and more": 5 * _YEAR,
}
"""Classes of the time between two dates, and where each begins, days."""
_MICROS = 86_400_000_000
"""Microseconds of a day."""


@dataclass(frozen=True, kw_only=True)
class PairCount:
    """What a policy makes of an index."""

    name: str
    policy: PairsConfig
    images: int
    """Images that have a partner."""
    pairs: int
    """Pairs, each counted once."""
    places: int
    """Places that have a pair."""


def partnered(index: Index, rows: np.ndarray, policy: PairsConfig, *, threads: int = 0) -> np.ndarray:
    """Whether each of `rows`, int64, has a partner among them: bool [len(rows)]. `threads` 0 is all cores."""
    options = pair_options(index.table.take(rows), index.places[rows], policy)
    return _core.pair_counts(options, threads=threads)[0]


def queries(index: Index, rows: np.ndarray, policy: PairsConfig) -> np.ndarray:
    """Those of `rows`, int64, that are the first view of a pair, as `policy.alone` says."""
    return rows[partnered(index, rows, policy)] if policy.alone == "leave_out" else rows


def count_pairs(index: Index, policies: Mapping[str, PairsConfig] = POLICIES, *, threads: int = 0) -> list[PairCount]:
    """Count the pairs among all of the index's images, for each policy by its name. `threads` 0 is all cores."""
    counts = []
    for name, policy in policies.items():
        has, pairs = _core.pair_counts(pair_options(index.table, index.places, policy), threads=threads)
        images, places = int(has.sum()), int(np.count_nonzero(np.bincount(index.places[has])))
        counts.append(PairCount(name=name, policy=policy, images=images, pairs=pairs, places=places))
    return counts


def count_gaps(index: Index, days: np.ndarray, *, threads: int = 0) -> np.ndarray:
    """Pairs of two dates of a place by the time between them, each counted once.

    Args:
        index: The images; those without a timestamp are in no pair.
        days: Where each class begins, ascending and not negative; it ends where the next begins, the last nowhere.
        threads: 0 is all cores; the result does not depend on it.

    Returns:
        int64 [len(days)].

    """
    edges = [round(float(day) * _MICROS) for day in days]
    return _core.pair_gaps(index.places, _timestamps(index.table), edges, threads=threads)


def views_of_places(index: Index) -> np.ndarray:
    """Images of each place that has a location_id, int64, in no order."""
    named = index.table["location_id"].is_valid().to_numpy()
    counts = np.bincount(index.places[named])
    return counts[counts > 0]


def pair_options(table: pa.Table, places: np.ndarray, policy: PairsConfig) -> dict[str, Any]:
    """What the core needs to pair the rows of `table`, whose places have the codes `places`, int [N].

    A column that the policy does not ask for is left empty.
    """
    timed = policy.season != "any" or policy.gap_days != (0, None) or policy.draw in {"nearest", "farthest"}
    clouded = policy.max_cloud is not None or policy.draw == "clear"
    clouds = table["cloud_cover"].to_numpy() if clouded else np.empty(0)
    sensors = np.empty(0)
    if policy.sensor != "any":
        sensors = table["sensor"].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    return {
        "places": np.ascontiguousarray(places, np.int32),
        "timestamps": _timestamps(table) if timed else np.empty(0, np.int64),
        "clouds": np.ascontiguousarray(clouds, np.float32),
        "sensors": np.ascontiguousarray(sensors, np.int32),
        **policy.model_dump(exclude={"alone"}),
    }


def _timestamps(table: pa.Table) -> np.ndarray:
    """Microseconds since 1970, int64 [N]; the least int64 where it is not known."""
    micros: np.ndarray = table["timestamp"].cast(pa.int64()).fill_null(NO_INSTANT).to_numpy()
    return np.ascontiguousarray(micros)
