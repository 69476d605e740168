"""What the evaluations of a grid have found, from the files that they left."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geossl.errors import GeosslError

if TYPE_CHECKING:
    from pathlib import Path

    from geossl.reproduce.grid import Grid
    from geossl.transfer.config import Task

RUN, PROBE, FINETUNE = "run", "probe.json", "finetune/finetune.json"
"""Where a cell's folder has its pretraining, and the reports of its evaluations."""
TRANSFER = {
    "detect": {"ap50": "AP50", "ap": "AP"},
    "segment": {"mean_iou": "mIoU", "overall_accuracy": "pixel accuracy"},
}
"""Scores of a transfer that are reported, by task: their titles by name."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One encoder by one method, with one seed."""

    arm: str
    """Of the grid, or the name of a baseline."""
    seed: int
    method: str
    """linear, knn, logistic or finetune; detect or segment."""
    labels: float
    """Per cent of the labelled training places."""
    values: dict[str, float]
    """Shares by the metric's name."""
    intervals: dict[str, tuple[float, float]]
    """95 % over the test places; a transfer has none."""
    learnt: bool
    """False for a baseline."""


@dataclass
class Results:
    """All that is there so far."""

    scores: list[Score] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    """What the evaluations say of the data: images, and except for a transfer places and classes."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the scores has to know, each once."""

    def of(self, arm: str, method: str, labels: float = 100) -> list[Score]:
        """The scores of an arm by one method, by seed."""
        found = [s for s in self.scores if (s.arm, s.method, s.labels) == (arm, method, labels)]
        return sorted(found, key=lambda score: score.seed)

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines, in the order that they were found."""
        return list(dict.fromkeys(score.arm for score in self.scores if not score.learnt))


def cell_folder(out: Path, arm: str, seed: int) -> Path:
    """The folder of an arm and a seed."""
    return out / "cells" / f"{arm}-{seed}"


def transfer_report(task: Task) -> str:
    """Where a cell's folder has the report of its transfer."""
    return f"transfer/{task}.json"


def collect(grid: Grid, out: Path) -> Results:
    """Read every report that is there. Raises GeosslError naming one that is damaged."""
    found = Results()
    transfer = grid.evaluation.transfer
    names = (PROBE, FINETUNE) if transfer is None else (transfer_report(transfer.task),)
    for seed in grid.seeds:
        for arm in grid.arms:
            for name in names:
                file = cell_folder(out, arm, seed) / name
                if file.exists():
                    _read(file, arm, seed, grid, found)
    return found


def _read(file: Path, arm: str, seed: int, grid: Grid, found: Results) -> None:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        if grid.evaluation.transfer is None:
            _add_rows(report, arm, seed, grid, found)
        else:
            _add_transfer(report, arm, seed, found)
        found.notes += [note for note in report["notes"] if note not in found.notes]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise GeosslError(f"{file}: not a report of an evaluation ({type(e).__name__}: {e}); remove it") from e


def _add_rows(report: dict[str, Any], arm: str, seed: int, grid: Grid, found: Results) -> None:
    """A report of `probe` or `finetune`."""
    for row in report["rows"]:
        learnt = row["encoder"] not in grid.evaluation.baselines
        values = {name: _number(value) for name, value in row["scores"].items()}
        intervals = {name: (low, high) for name, (low, high) in row["intervals"].items()}
        found.scores.append(
            Score(
                arm=arm if learnt else row["encoder"],
                seed=seed,
                method=row["method"],
                labels=float(row["labels"]),
                values=values,
                intervals=intervals,
                learnt=learnt,
            )
        )
    names = ("train_images", "train_places", "test_images", "test_places", "classes", "index_hash")
    found.about.update({name: report[name] for name in names})


def _add_transfer(report: dict[str, Any], arm: str, seed: int, found: Results) -> None:
    """A report of `transfer`."""
    task, scores = report["task"], report["scores"]
    found.scores.append(
        Score(
            arm=arm,
            seed=seed,
            method=task,
            labels=float(report["settings"]["labels"]),
            values={name: _number(scores[name]) for name in TRANSFER[task]},
            intervals={},
            learnt=True,
        )
    )
    found.about.update(
        train_images=report["train_images"], test_images=scores["images"], index_hash=report["index_hash"]
    )


def _number(value: float | None) -> float:
    """JSON has null for NaN."""
    return float("nan") if value is None else value
