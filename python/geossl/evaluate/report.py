"""The figures of an evaluation, for tools (JSON) and for readers (a table)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from geossl.errors import GeosslError
from geossl.files import replacing
from geossl.tables import align, per_cent

if TYPE_CHECKING:
    from pathlib import Path

    from geossl.evaluate.bootstrap import Interval
    from geossl.evaluate.geo_errors import GeoScores
    from geossl.evaluate.metrics import Rates, Scores
    from geossl.evaluate.predictions import Fit

HEADER = ("per", "top-1", "top-5", "F1", "weighted", "ECE")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One encoder by one method, with one share of the labels."""

    fit: Fit
    scores: Scores
    intervals: dict[str, Interval]
    """95 % intervals over places, by the score's name."""
    place_variants: dict[str, Rates]
    """Places put together in other ways than by the sum of probabilities: `vote`, and `mean_feature` where there are
    features."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The scores, and what they were measured on."""

    run: str
    data: str
    index_hash: str
    settings: dict[str, Any]
    """What was asked for."""
    train_images: int
    """Labelled training images, of which a row with a share of the labels has a part."""
    train_places: int
    test_images: int
    test_places: int
    classes: int
    """Categories among the training and test images."""
    rows: list[Row]
    geo: GeoScores | None = None
    """How well the run's geo head places the test images; None without one."""
    notes: list[str]
    """What a reader of the scores has to know: how it was split, what was left out, leaks."""
    details: list[str] = field(default_factory=list)
    """More tables, as lines; they are not in the JSON, but in the files beside it."""

    def summary(self) -> list[str]:
        """What was trained and tested on, and how to read the table."""
        first = self.rows[0].scores
        trained = f"trained on {self.train_images:,} images of {self.train_places:,} places"
        views = f"views of a place: mean {first.views_mean:.1f}, median {first.views_median:g}"
        return [
            f"{self.classes} classes: {trained},",
            f"tested on {self.test_images:,} images of {self.test_places:,} places ({views})",
            "per cent, 95 % intervals over places; F1: macro, and weighted; a place: the sum of its probabilities",
        ]

    def lines(self) -> list[str]:
        """The scores in columns, a line an image's and a line a place's, then the summary and the notes."""
        few = any(row.fit.labels != 100 for row in self.rows)
        names = ["encoder", "method", *(["labels"] if few else [])]
        table = [[*names, *HEADER]]
        for row in self.rows:
            labels = [f"{row.fit.labels:g} %"] if few else []
            table.append([row.fit.encoder, row.fit.method, *labels, *_cells(row, "image")])
            table.append([*("" for _ in names), *_cells(row, "place")])
        geo = [] if self.geo is None else [self.geo.line()]
        return [*align(table, left=range(len(names) + 1)), *self.summary(), *geo, *_doubts(self.rows), *self.notes]

    def write(self, path: Path) -> None:
        """Write the report as JSON; a figure that does not exist is null."""
        content = {**asdict(self), "rows": [_flat(row) for row in self.rows]}
        del content["details"]
        text = json.dumps(_finite(content), indent=2, allow_nan=False, ensure_ascii=False)
        try:
            with replacing(path) as file:
                file.write(f"{text}\n".encode())
        except OSError as e:
            raise GeosslError(f"{path}: cannot write the report: {e.strerror}") from e


def _doubts(rows: list[Row]) -> list[str]:
    """What a reader has to know of how rows were made."""
    fits = [row.fit for row in rows]
    lines = []
    for share in dict.fromkeys(fit.labels for fit in fits if fit.validation_places == 0):
        own = [fit for fit in fits if fit.labels == share and fit.validation_places == 0]
        settings = dict.fromkeys(f"learning rate {fit.lr:g}" if fit.c is None else f"C {fit.c:g}" for fit in own)
        lines.append(
            f"{share:g} % of the labels: by default {', '.join(settings)}: most classes have a single place, "
            "and nothing to choose on"
        )
    return lines + [f"{fit.called}: stopped before its end" for fit in fits if fit.converged is False]


def _cells(row: Row, per: str) -> list[str]:
    prefix = "" if per == "image" else "place_"

    def cell(name: str) -> str:
        return per_cent(getattr(row.scores, prefix + name), row.intervals.get(prefix + name))

    return [per, *map(cell, ("top1", "top5", "f1", "f1_weighted", "ece"))]


def _flat(row: Row) -> dict[str, Any]:
    """The row with what made it beside its scores."""
    content = asdict(row)
    return {**content.pop("fit"), **content}


def _finite(value: Any) -> Any:
    """The value with NaN as None: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
