"""What an index holds and what was left out of it, for people to read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

EXAMPLES = 2
"""Files named for every reason."""


@dataclass(frozen=True)
class IndexReport:
    """Summary of a newly made index. `lines` prints it."""

    source: Path
    """Folder or list that the index was made from."""
    layout: str
    """How the source was read, in words."""
    images: int
    """Image files."""
    crops: int
    """Rows: boxes of images, or whole images."""
    places: int
    """Distinct location ids."""
    views_mean: float
    """Rows a place; 0 without places, as the next three."""
    views_median: float
    views_max: int
    singletons: int
    """Places of one row."""
    first_date: datetime | None
    last_date: datetime | None
    classes: int
    """Distinct categories."""
    missing_places: int
    """Rows without a location id."""
    missing_coordinates: int
    missing_timestamps: int
    missing_categories: int
    splits: dict[str, int]
    """Rows of each split; rows without one count under "none"."""
    pixels: dict[str, int]
    """Rows of each form, such as "3 bands uint8"."""
    rejected: list[tuple[str, str]]
    """What gave no row, as (path, "what: why")."""
    nulled: list[tuple[str, str]]
    """Values that were bad and became null, as (path, "what: why")."""
    notes: list[str]
    """What else should be known."""

    def lines(self) -> list[str]:
        """The summary as lines of text."""
        crops = f" ({self.crops:,} crops)" if self.crops != self.images else ""
        views = ""
        if self.places:
            mean, one = (
                f"mean {self.views_mean:.2f}, median {self.views_median:g}",
                f"{self.singletons:,} with one",
            )
            views = f"; views of a place: {mean}, most {self.views_max}, {one}"
        span = "none"
        if self.first_date is not None and self.last_date is not None:
            span = f"{self.first_date:%Y-%m-%d} to {self.last_date:%Y-%m-%d}"
        located = self.crops - self.missing_coordinates
        facts = [
            ("source", f"{self.source} ({self.layout})"),
            ("images", f"{self.images:,}{crops}: {_counts(self.pixels)}"),
            (
                "places",
                f"{self.places:,}{views}{_without(self.missing_places)}",
            ),
            ("dates", f"{span}{_without(self.missing_timestamps)}"),
            ("coordinates", f"{located:,}{_without(self.missing_coordinates)}"),
            ("classes", f"{self.classes:,}{_without(self.missing_categories)}"),
            ("splits", _counts(self.splits)),
        ]
        out = [f"{name:<12}{text}" for name, text in facts]
        if self.rejected:
            out += [f"{'rejected':<12}{len(self.rejected):,}", *_grouped(self.rejected)]
        if self.nulled:
            out += [f"{'made null':<12}{len(self.nulled):,} bad values", *_grouped(self.nulled)]
        return out + [f"{'note':<12}{note}" for note in self.notes]


def summarise(
    table: pa.Table,
    *,
    source: Path,
    layout: str,
    rejected: list[tuple[str, str]],
    nulled: list[tuple[str, str]],
    notes: list[str],
) -> IndexReport:
    """The report on an index's table."""
    views = pc.value_counts(table["location_id"].drop_null()).field("counts").to_numpy()
    dates = pc.min_max(table["timestamp"])
    forms = pc.binary_join_element_wise(table["bands"].cast(pa.string()), table["dtype"], " bands ")
    return IndexReport(
        source=source,
        layout=layout,
        images=pc.count_distinct(table["path"]).as_py(),
        crops=len(table),
        places=len(views),
        views_mean=float(views.mean()) if len(views) else 0.0,
        views_median=float(np.median(views)) if len(views) else 0.0,
        views_max=int(views.max(initial=0)),
        singletons=int((views == 1).sum()),
        first_date=dates["min"].as_py(),
        last_date=dates["max"].as_py(),
        classes=pc.count_distinct(table["category"]).as_py(),
        missing_places=table["location_id"].null_count,
        missing_coordinates=table["lat"].null_count,
        missing_timestamps=table["timestamp"].null_count,
        missing_categories=table["category"].null_count,
        splits=_value_counts(table["split"].fill_null("none")),
        pixels=_value_counts(forms),
        rejected=rejected,
        nulled=nulled,
        notes=notes,
    )


def first_reasons(faults: Sequence[tuple[str, str]], count: int = 3) -> str:
    """The most frequent reasons in one line, each with its number and an example."""
    groups = Counter(_what(reason) for _, reason in faults).most_common(count)
    examples = {_what(reason): (path, reason) for path, reason in reversed(faults)}
    return "; ".join(f"{n:,} x {examples[what][1]} (e.g. {examples[what][0]})" for what, n in groups)


def _what(reason: str) -> str:
    """The part of a reason that is the same for every file with that fault."""
    return reason.split(": ", 1)[0]


def _grouped(faults: list[tuple[str, str]]) -> list[str]:
    examples: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for path, reason in faults:
        what, _, why = reason.partition(": ")
        counts[what] += 1
        if counts[what] <= EXAMPLES:
            examples.setdefault(what, []).append(f"{path} ({why})" if why else path)
    return [f"  {n:,} x {what}, e.g. {', '.join(examples[what])}" for what, n in counts.most_common()]


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counts = {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}
    return dict(sorted(counts.items()))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _without(count: int) -> str:
    return f" ({count:,} without)" if count else ""
