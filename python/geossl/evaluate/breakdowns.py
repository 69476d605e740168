"""Test places in groups: by country, by continent, and by how far the nearest training place is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geossl.data.coordinates import place_coordinates
from geossl.evaluate.bootstrap import Interval, intervals
from geossl.evaluate.continents import UNKNOWN, continent_of
from geossl.evaluate.metrics import Scores, score_guesses
from geossl.geo import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geossl.data.index import Index
    from geossl.evaluate.guesses import PlacedGuesses
    from geossl.evaluate.places import Places

BINS_KM = (10, 50, 100, 500, 1000)
"""Where the groups of distances begin and end; a place at an end belongs to the farther one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Breakdown:
    """A way to group the P test places."""

    name: str
    """country, continent or distance_km."""
    groups: list[str]
    """Names of the groups that have places, in the order in which they are shown."""
    group: NDArray[np.int64]
    """Position of each place's group in `groups`, int64 [P]."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """How well a group is classified."""

    breakdown: str
    group: str
    scores: Scores
    intervals: dict[str, Interval]


def find_breakdowns(
    index: Index, *, rows: NDArray[np.int64], places: Places, train_rows: NDArray[np.int64]
) -> list[Breakdown]:
    """The breakdowns that the index has columns for.

    Countries are shown as the index has them, those with the most places first; a place's country is that of its first
    image that has one. Distances are great-circle distances of places, to the nearest place of `train_rows`.

    Args:
        index: the images.
        rows: test rows, int64 [N].
        places: their places.
        train_rows: what the classifiers could learn from, int64 [M], M >= 1.

    """
    first = np.full(len(places), -1)
    code = index.table["country_code"].take(rows).to_pylist()
    known = np.array([bool(country) for country in code])
    # Assigned backwards, so that the first one stays.
    first[places.of_row[known][::-1]] = np.flatnonzero(known)[::-1]
    country = [code[row] if row >= 0 else UNKNOWN for row in first]
    found = []
    if known.any():
        found.append(_by_name("country", country))
        continent = _by_name("continent", [continent_of(name) for name in country])
        if continent.groups != [UNKNOWN]:
            found.append(continent)
    distance = _by_distance(index, rows=rows, places=places, train_rows=train_rows)
    return found if distance is None else [*found, distance]


def score_parts(breakdown: Breakdown, made: PlacedGuesses, *, seed: int) -> Iterator[Part]:
    """The scores of each group, and their intervals, in the order of the groups; arguments as for `intervals`."""
    for number, name in enumerate(breakdown.groups):
        own = made.take(breakdown.group == number)
        yield Part(breakdown=breakdown.name, group=name, scores=score_guesses(own), intervals=intervals(own, seed=seed))


def _by_name(breakdown: str, names: list[str]) -> Breakdown:
    found, group, counts = np.unique(names, return_inverse=True, return_counts=True)
    order = np.lexsort((np.arange(len(found)), -counts, found == UNKNOWN))
    return Breakdown(name=breakdown, groups=found[order].tolist(), group=np.argsort(order)[group])


def _by_distance(
    index: Index, *, rows: NDArray[np.int64], places: Places, train_rows: NDArray[np.int64]
) -> Breakdown | None:
    lat, lon, _ = place_coordinates(index)
    train = np.unique(index.places[train_rows])
    train = train[np.isfinite(lat[train])]
    test = index.places[rows[np.unique(places.of_row, return_index=True)[1]]]
    known = np.isfinite(lat[test])
    if not len(train) or not known.any():
        return None
    km = nearest(lat[train], lon[train], lat[test[known]], lon[test[known]], k=1).km[:, 0]
    names = [f"{low} to {high}" for low, high in zip((0, *BINS_KM), BINS_KM, strict=False)]
    names += [f"over {BINS_KM[-1]}", UNKNOWN]
    group = np.full(len(places), len(names) - 1)
    group[known] = np.searchsorted(BINS_KM, km, side="right")
    there, position = np.unique(group, return_inverse=True)
    return Breakdown(name="distance_km", groups=[names[number] for number in there], group=position)
