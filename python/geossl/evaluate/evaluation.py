"""From predictions of test images to every figure, table and plot of them: the end of a probe and of finetuning."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from geossl.evaluate.bootstrap import METRICS, Interval, intervals
from geossl.evaluate.breakdowns import find_breakdowns, score_parts
from geossl.evaluate.guesses import PlacedGuesses, guess_images, guess_places
from geossl.evaluate.metrics import count_confusions, rate, score_classes, score_guesses
from geossl.evaluate.places import group_places
from geossl.evaluate.predictions import writing_predictions
from geossl.evaluate.report import Row
from geossl.tables import align, per_cent, write_csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from geossl.data.index import Index
    from geossl.evaluate.breakdowns import Breakdown, Part
    from geossl.evaluate.metrics import ClassScores
    from geossl.evaluate.places import Places
    from geossl.evaluate.predictions import Predictions

PREDICTIONS, CLASSES, CONFUSION, BREAKDOWNS = "predictions.parquet", "classes.csv", "confusion.csv", "breakdowns.csv"
MADE_BY = ("encoder", "method", "labels")
GROUPS_SHOWN, CLASSES_SHOWN = 20, 10
"""Most groups of a breakdown, and classes, that are shown to a reader; the files have all."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What was found."""

    rows: list[Row]
    """The scores of each of the predictions, in their order."""
    details: list[str]
    """Tables for a reader: places in other ways; of the main encoder, the groups and the hardest classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tested:
    """The test images, which most predictions share."""

    rows: torch.Tensor
    labels: NDArray[np.int64]
    places: Places
    breakdowns: list[Breakdown]

    @classmethod
    def of(cls, made: Predictions, *, index: Index, train_rows: NDArray[np.int64]) -> _Tested:
        labels = made.labels.numpy()
        places = group_places(places=made.places.numpy(), labels=labels)
        found = find_breakdowns(index, rows=made.rows.numpy(), places=places, train_rows=train_rows)
        return cls(rows=made.rows, labels=labels, places=places, breakdowns=found)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judged:
    row: Row
    guesses: PlacedGuesses
    parts: list[Part]
    classes: ClassScores


def evaluate(
    predictions: Iterable[Predictions],
    *,
    folder: Path,
    index: Index,
    classes: Sequence[str],
    train_rows: NDArray[np.int64],
    main: str,
    seed: int,
) -> Evaluation:
    """Score predictions, and write a folder about them; what is there already is replaced, each file whole.

    - predictions.parquet: every prediction (`geossl.evaluate.predictions`).
    - classes.csv: precision, recall, F1 and support of each class, per image and per place.
    - confusion.csv: the entries of the confusion matrices that are not 0, per image and per place.
    - breakdowns.csv: scores by country, continent and distance to the training places, as far as the index knows them.
    - confusion.png and calibration.png: of the main encoder with the most labels.

    Args:
        predictions: they are looked at one by one, and written as they come: a generator needs memory for one.
        folder: made if need be.
        index: the index of the test rows.
        classes: names of the C classes, in the order of the probabilities.
        train_rows: rows that the classifiers could learn from, int64 [M]; distances are to their places.
        main: name of the encoder that the plots and the details are of, one of the predictions'; its first method is
            drawn.
        seed: seed of the bootstrap.

    Raises:
        GeosslError: a file cannot be written.

    """
    # matplotlib takes a while to import, and scores alone do not need it.
    from geossl.viz.evaluation import plot_calibration, plot_confusion

    rows: list[Row] = []
    tables: dict[str, list[Sequence[object]]] = {CLASSES: [], CONFUSION: [], BREAKDOWNS: []}
    most: dict[str, _Judged] = {}
    tested: _Tested | None = None
    with writing_predictions(folder / PREDICTIONS, index=index, classes=classes) as write:
        for made in predictions:
            write(made)
            if tested is None or not torch.equal(tested.rows, made.rows):
                tested = _Tested.of(made, index=index, train_rows=train_rows)
            judged = _judge(made, tested, seed=seed)
            rows.append(judged.row)
            _add(tables, judged, classes)
            fit = made.fit
            if fit.encoder == main and (fit.method not in most or fit.labels > most[fit.method].row.fit.labels):
                most[fit.method] = judged
    scores = [name for metric in METRICS for name in (metric, f"{metric}_low", f"{metric}_high")]
    write_csv(folder / CLASSES, (*MADE_BY, "per", "category", "precision", "recall", "f1", "support"), tables[CLASSES])
    write_csv(folder / CONFUSION, (*MADE_BY, "per", "category", "predicted", "count"), tables[CONFUSION])
    write_csv(folder / BREAKDOWNS, (*MADE_BY, "breakdown", "group", "images", "places", *scores), tables[BREAKDOWNS])
    shown = next(iter(most.values()))
    plot_confusion(folder / "confusion.png", shown.guesses.images, classes=classes, title=shown.row.fit.called)
    plot_calibration(folder / "calibration.png", {name: each.guesses.images for name, each in most.items()}, title=main)
    return Evaluation(rows=rows, details=[*_variants(rows), *_details(shown, classes)])


def _judge(made: Predictions, tested: _Tested, *, seed: int) -> _Judged:
    places = tested.places
    by_sum, by_vote = guess_places(made.probabilities, places)
    guesses = PlacedGuesses(images=guess_images(made.probabilities, tested.labels), by_sum=by_sum, places=places)
    variants = {"vote": rate(by_vote)}
    if made.by_mean_feature is not None:
        variants["mean_feature"] = rate(guess_images(made.by_mean_feature, places.labels))
    row = Row(
        fit=made.fit,
        scores=score_guesses(guesses),
        intervals=intervals(guesses, seed=seed),
        place_variants=variants,
    )
    parts = [part for breakdown in tested.breakdowns for part in score_parts(breakdown, guesses, seed=seed)]
    return _Judged(row=row, guesses=guesses, parts=parts, classes=score_classes(guesses.images))


def _add(tables: dict[str, list[Sequence[object]]], judged: _Judged, classes: Sequence[str]) -> None:
    """Add the lines of the CSV files."""
    made_by = [getattr(judged.row.fit, name) for name in MADE_BY]
    images, by_sum = judged.guesses.images, judged.guesses.by_sum
    for per, guesses, scores in (("image", images, judged.classes), ("place", by_sum, score_classes(by_sum))):
        columns = [getattr(scores, field.name).tolist() for field in fields(scores)]
        tables[CLASSES] += [[*made_by, per, *line] for line in zip(classes, *columns, strict=True)]
        tables[CONFUSION] += [
            [*made_by, per, classes[true], classes[guess], count]
            for true, guess, count in zip(*(column.tolist() for column in count_confusions(guesses)), strict=True)
        ]
    for part in judged.parts:
        line = [number for name in METRICS for number in (getattr(part.scores, name), *part.intervals[name])]
        counts = part.scores.images, part.scores.places
        tables[BREAKDOWNS].append([*made_by, part.breakdown, part.group, *counts, *line])


def _variants(rows: list[Row]) -> list[str]:
    """Places put together in every way."""
    ways = {"sum": "by sum", "mean_feature": "by mean feature", "vote": "by vote"}
    table = [["places: top-1, F1", *ways.values()]]
    for row in rows:
        pairs = {name: (rates.top1, rates.f1) for name, rates in row.place_variants.items()}
        pairs["sum"] = row.scores.place_top1, row.scores.place_f1
        none = float("nan"), float("nan")
        table.append([row.fit.called, *(", ".join(map(per_cent, pairs.get(way, none))) for way in ways)])
    return ["", *align(table, left={0})]


def _details(judged: _Judged, classes: Sequence[str]) -> list[str]:
    """The groups of each breakdown, and the hardest classes."""
    called = judged.row.fit.called
    lines = []
    for name in dict.fromkeys(part.breakdown for part in judged.parts):
        parts = [part for part in judged.parts if part.breakdown == name]
        table = [[name, "images", "places", "top-1", "F1", "place top-1", "place F1"]]
        table += [_group(part) for part in parts[:GROUPS_SHOWN]]
        more = [f"{len(parts) - GROUPS_SHOWN} more in {BREAKDOWNS}"] if len(parts) > GROUPS_SHOWN else []
        lines += ["", f"by {name} ({called})", *align(table, left={0}), *more]
    hardest = [code for code in judged.classes.f1.argsort(kind="stable") if judged.classes.support[code]]
    table = [["class", "precision", "recall", "F1", "images"]]
    for code in hardest[:CLASSES_SHOWN]:
        *shares, support = (getattr(judged.classes, field.name)[code] for field in fields(judged.classes))
        table.append([classes[code], *map(per_cent, shares), f"{support:,}"])
    return [*lines, "", f"the hardest classes ({called}); all are in {CLASSES}", *align(table, left={0})]


def _group(part: Part) -> list[str]:
    with_interval: list[tuple[float, Interval | None]] = [
        (part.scores.top1, part.intervals["top1"]),
        (part.scores.f1, None),
        (part.scores.place_top1, part.intervals["place_top1"]),
        (part.scores.place_f1, None),
    ]
    counts = f"{part.scores.images:,}", f"{part.scores.places:,}"
    return [part.group, *counts, *(per_cent(*pair) for pair in with_interval)]
