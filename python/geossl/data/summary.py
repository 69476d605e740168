"""What an index holds and what was left out of it, for people to read."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

EXAMPLES = 2
"""Files named for every reason."""
MOST_CRS = 6
"""CRSs named."""


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
    band_names: dict[str, int]
    """Images by the names of their bands, where these are known."""
    crs: dict[str, int]
    """Images by their CRS, where it is known."""
    nodata: dict[str, int]
    """Images by the value that stands for no data."""
    dates_from: dict[str, int]
    """Images by where their date is from, where files were asked."""
    fallbacks: dict[str, int]
    """Images that rasterio reads, by the reason."""

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
        origins = f"; from {_counts(self.dates_from)}" if self.dates_from else ""
        facts = [
            ("source", f"{self.source} ({self.layout})"),
            ("images", f"{self.images:,}{crops}: {_counts(self.pixels)}"),
            (
                "places",
                f"{self.places:,}{views}{_without(self.missing_places)}",
            ),
            ("dates", f"{span}{origins}{_without(self.missing_timestamps)}"),
            ("coordinates", f"{located:,}{_without(self.missing_coordinates)}"),
            ("classes", f"{self.classes:,}{_without(self.missing_categories)}"),
            ("splits", _counts(self.splits)),
        ]
        if self.crs:
            more = len(self.crs) - MOST_CRS
            shown = _counts(dict(list(self.crs.items())[:MOST_CRS])) + (f", {more:,} more" if more > 0 else "")
            facts += [("crs", shown), ("band names", _counts(self.band_names) or "none; name them with --bands")]
        if set(self.nodata) - {"none"}:
            facts.append(("nodata", _counts(self.nodata)))
        if self.fallbacks:
            facts.append(
                ("reader", f"by rasterio, slower: {sum(self.fallbacks.values()):,} ({_counts(self.fallbacks)})")
            )
        out = [f"{name:<12}{text}" for name, text in facts]
        if self.rejected:
            out += [f"{'rejected':<12}{len(self.rejected):,}", *grouped(self.rejected)]
        if self.nulled:
            out += [f"{'made null':<12}{len(self.nulled):,} bad values", *grouped(self.nulled)]
        return out + [f"{'note':<12}{note}" for note in self.notes]


def summarise(
    table: pa.Table,
    *,
    source: Path,
    layout: str,
    rejected: list[tuple[str, str]],
    nulled: list[tuple[str, str]],
    notes: list[str],
    fallbacks: Mapping[str, int] | None = None,
    dates_from: Mapping[str, int] | None = None,
) -> IndexReport:
    """The report on an index's table."""
    paths = table["path"].combine_chunks().dictionary_encode()
    files = table.select(["band_names", "crs", "nodata"])
    if len(paths.dictionary) < len(table):
        _, first = np.unique(paths.indices.to_numpy(), return_index=True)
        files = files.take(pa.array(first))
    views = pc.value_counts(table["location_id"].drop_null()).field("counts").to_numpy()
    dates = pc.min_max(table["timestamp"])
    forms = table.group_by(["bands", "dtype"]).aggregate([([], "count_all")]).to_pylist()
    return IndexReport(
        source=source,
        layout=layout,
        images=len(paths.dictionary),
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
        pixels=dict(sorted((f"{form['bands']} bands {form['dtype']}", form["count_all"]) for form in forms)),
        rejected=rejected,
        nulled=nulled,
        notes=notes,
        band_names=_value_counts(files["band_names"].drop_null()),
        crs=_counted(files["crs"].drop_null(), _crs_label),
        nodata=_counted(files["nodata"], _nodata_label),
        dates_from=dict(dates_from or {}),
        fallbacks=_most_first(fallbacks or {}),
    )


def first_reasons(faults: Sequence[tuple[str, str]], count: int = 3) -> str:
    """The most frequent reasons in one line, each with its number and an example."""
    groups = Counter(_what(reason) for _, reason in faults).most_common(count)
    examples = {_what(reason): (path, reason) for path, reason in reversed(faults)}
    return "; ".join(f"{n:,} x {examples[what][1]} (e.g. {examples[what][0]})" for what, n in groups)


def _what(reason: str) -> str:
    """The part of a reason that is the same for every file with that fault."""
    return reason.split(": ", 1)[0]


def grouped(faults: Sequence[tuple[str, str]]) -> list[str]:
    """Faults, as (file, "what: why"), as a line for each kind: its number, and examples."""
    examples: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for path, reason in faults:
        what, _, why = reason.partition(": ")
        counts[what] += 1
        if counts[what] <= EXAMPLES:
            examples.setdefault(what, []).append(f"{path} ({why})" if why else path)
    return [f"  {n:,} x {what}, e.g. {', '.join(examples[what])}" for what, n in counts.most_common()]


def _crs_label(crs: str) -> str:
    """EPSG:code, or the name in a WKT."""
    name = re.match(r'\w+\["([^"]*)"', crs)
    return crs if name is None else name[1]


def _nodata_label(value: float | None) -> str:
    if value is None:
        return "none"
    return "mask, alpha or NaN" if math.isnan(value) else f"{value:.15g}"


def _counted(column: pa.ChunkedArray, label: Callable[[Any], str]) -> dict[str, int]:
    counts = Counter[str]()
    for item in pc.value_counts(column).to_pylist():
        counts[label(item["values"])] += item["counts"]
    return _most_first(counts)


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counts = {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}
    return dict(sorted(counts.items()))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _without(count: int) -> str:
    return f" ({count:,} without)" if count else ""
