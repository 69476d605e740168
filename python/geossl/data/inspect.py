"""What an index has to train on: views of its places, the time between them, and the pairs of each policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geossl.data.pairs import GAPS, POLICIES, PairCount, count_gaps, count_pairs, views_of_places
from geossl.data.summary import summarise

if TYPE_CHECKING:
    from pathlib import Path

    from geossl.config import PairsConfig
    from geossl.data.index import Index

BAR = 40
"""Characters of the longest bar."""
VIEWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 30, 50, 100, 1000)
"""Classes of views a place: each begins here."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What `geossl data inspect` found. `lines` prints it."""

    facts: list[str]
    """The summary that `geossl data index` prints."""
    views: np.ndarray
    """int64: images of each place that has a location_id."""
    gaps: np.ndarray
    """int64 [len(GAPS)]: pairs of dates by the time between them."""
    pairs: list[PairCount]
    images: int

    def lines(self) -> list[str]:
        """The findings as lines of text."""
        out = list(self.facts)
        if not len(self.views):
            return [*out, "", "no image has a location_id: there are no places, and no pairs"]
        edges = [edge for edge in VIEWS if edge <= self.views.max()]
        counts, _ = np.histogram(self.views, [*edges, np.inf])
        ends = [*(edge - 1 for edge in edges[1:]), int(self.views.max())]
        names = [f"{a:,}" if a == b else f"{a:,} to {b:,}" for a, b in zip(edges, ends, strict=True)]
        out += ["", "places by their images", *_bars(names, counts)]
        out += ["", "pairs of dates of a place, by the time between them"]
        out += _bars(list(GAPS), self.gaps) if self.gaps.sum() else ["  none: no place has two dates that are known"]
        wide = max(len(count.name) for count in self.pairs)
        out += ["", f"{'pairs by policy':<{wide + 2}}  {'images with a partner':>22}  {'pairs':>13}  {'places':>10}"]
        for count in self.pairs:
            share = f"{count.images:,} ({count.images / self.images:.1%})"
            out.append(f"  {count.name:<{wide}}  {share:>22}  {count.pairs:>13,}  {count.places:>10,}")
        return out


def inspect_index(index: Index, *, source: Path, policy: PairsConfig | None = None, threads: int = 0) -> Inspection:
    """Look at an index; its images are not needed. `policy` is counted besides those that are known by name."""
    report = summarise(index.table, source=source, layout="index", rejected=[], nulled=[], notes=[])
    table = index.table
    clouds, sensors = table["cloud_cover"].null_count, table["sensor"]
    known = f"{len(index) - clouds:,}" + (f" ({clouds:,} without)" if clouds else "")
    named = len(sensors.unique().drop_null())
    facts = [
        *report.lines(),
        f"{'cloud cover':<12}{known}",
        f"{'sensors':<12}{named:,}" + (f" ({sensors.null_count:,} without)" if sensors.null_count else ""),
    ]
    policies = POLICIES if policy is None else {**POLICIES, "the settings given": policy}
    return Inspection(
        facts=facts,
        views=views_of_places(index),
        gaps=count_gaps(index, np.array(list(GAPS.values())), threads=threads),
        pairs=count_pairs(index, policies, threads=threads),
        images=len(index),
    )


def _bars(names: list[str], counts: np.ndarray) -> list[str]:
    """A line for each name, with a bar as long as its count."""
    wide = max(map(len, names))
    length = np.ceil(BAR * counts / max(int(counts.max()), 1)).astype(int)
    total = max(int(counts.sum()), 1)
    return [
        f"  {name:<{wide}}  {count:>12,}  {count / total:>6.1%}  {'#' * bar}".rstrip()
        for name, count, bar in zip(names, counts.tolist(), length.tolist(), strict=True)
    ]
