"""The results of the trainer's bench: tables, targets, loss curves."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import trainer_overhead
import trainer_peers
import trainer_wait
from report import Sheet, page_head, show_sheets, tables

if TYPE_CHECKING:
    from rich.console import Console

CURVE_ROWS = 12


def verdict(*, met: bool) -> str:
    """Met or missed."""
    return "met" if met else "missed"


def sheets(results: dict[str, Any]) -> list[Sheet]:
    """Everything that was measured."""
    made = []
    if "overhead" in results:
        made.append(overhead(results["overhead"]))
    if "wait" in results:
        made.append(wait(results["wait"]))
    if "peers" in results:
        made.append(rates(results["peers"]))
        made += curves(results["peers"])
        absences = results["peers"]["absences"]
        if absences:
            made.append(Sheet("Not measured", ["trainer", "why"], [list(row) for row in absences.items()]))
    return made


def overhead(rows: list[dict[str, Any]]) -> Sheet:
    """Our step beside the hand-written one."""
    cells = [
        [
            f"{row['model']}, batch {row['batch']}",
            str(row["steps"]),
            f"{row['by_hand_ms']:,.1f}",
            f"{row['ours_ms']:,.1f}",
            f"{row['overhead']:.1%} ({row['quartiles'][0]:.1%} to {row['quartiles'][1]:.1%})",
            f"{trainer_overhead.TARGET:.0%}",
            verdict(met=row["overhead"] <= trainer_overhead.TARGET),
            f"{row['losses_apart']:.1g}",
        ]
        for row in rows
    ]
    columns = ["model", "steps", "by hand, ms", "ours, ms", "on top: median (quartiles)", "target", "", "losses apart"]
    return Sheet("A step beside the same step written by hand", columns, cells)


def wait(row: dict[str, Any]) -> Sheet:
    """The share of the time that waits for data."""
    low, high = row["spread"]
    cells = [
        row["model"],
        str(row["steps"]),
        f"{row['secs'] / row['steps']:.1f}",
        f"{row['wait']:.2%} ({low:.2%} to {high:.2%})",
        f"{trainer_wait.TARGET:.0%}",
        verdict(met=row["wait"] <= trainer_wait.TARGET),
    ]
    columns = ["model", "steps", "s a step", "waits: all (least to most of a step)", "target", ""]
    return Sheet("Waiting for data, two loader threads", columns, [cells])


def ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Median of the repetitions' own ratios, at as many passes through encoders."""
    pairs = zip(ours["rates"], theirs["rates"], strict=False)
    return float(median(a / (b * theirs["passes"]) for a, b in pairs))


def rates(peers: dict[str, Any]) -> Sheet:
    """Images a second, end to end."""
    cells = [
        [
            f"{row['size']} pixels, batch {row['batch']}",
            row["trainer"],
            f"{median(row['rates']):.1f} ({min(row['rates']):.1f} to {max(row['rates']):.1f})",
            *(["-", "-", ""] if row["trainer"] == trainer_peers.OURS.name else _against(peers, row)),
        ]
        for row in peers["runs"]
    ]
    columns = ["views", "trainer", "images/s: median (least to most)", "ours is faster by", "target", ""]
    return Sheet("From files to weights, ResNet-18", columns, cells)


def _against(peers: dict[str, Any], row: dict[str, Any]) -> list[str]:
    found = ratio(_ours(peers, row), row)
    return [f"{found:.2f}x", f"{trainer_peers.TARGET}x", verdict(met=found >= trainer_peers.TARGET)]


def _ours(peers: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    name = trainer_peers.OURS.name
    return next(r for r in peers["runs"] if r["trainer"] == name and r["size"] == row["size"])


def curves(peers: dict[str, Any]) -> list[Sheet]:
    """The losses of those whose loss is ours, each the mean over its passes (seeds)."""
    made = []
    for size in dict.fromkeys(row["size"] for row in peers["runs"]):
        runs = [row for row in peers["runs"] if row["size"] == size and row["passes"] == 1]
        if len(runs) < 2:
            continue
        means = {row["trainer"]: _mean(row["losses"]) for row in runs}
        ours = means[trainer_peers.OURS.name]
        spans = _spans(len(ours))
        cells = [
            [f"{start + 1} to {end}", *(f"{sum(loss[start:end]) / (end - start):.3f}" for loss in means.values())]
            for start, end in spans
        ]
        own = _ours(peers, runs[0])["losses"]
        seeds = f"{_apart(own[0], own[1]):.3f}" if len(own) > 1 else "-"
        cells.append(["mean absolute difference from ours", *(f"{_apart(ours, loss):.3f}" for loss in means.values())])
        cells.append(["the same between two of our seeds", seeds, *["" for _ in runs[1:]]])
        made.append(Sheet(f"InfoNCE at {size} pixels, mean of the steps and seeds", ["steps", *means], cells))
    return made


def _mean(losses: list[list[float]]) -> list[float]:
    return [sum(values) / len(values) for values in zip(*losses, strict=True)]


def _apart(one: list[float], other: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def _spans(steps: int) -> list[tuple[int, int]]:
    edges = [round(i * steps / CURVE_ROWS) for i in range(CURVE_ROWS + 1)]
    return [(start, end) for start, end in pairwise(edges) if end > start]


def missed(results: dict[str, Any]) -> bool:
    """Whether a target that was measured is missed."""
    return any("missed" in row for sheet in sheets(results) for row in sheet.rows)


def facts(results: dict[str, Any]) -> list[str]:
    """The machine and how it was measured."""
    about = results["machine"]
    return [
        (
            f"{about['cpu']}, {about['cores']} cores ({about['siblings']}), {about['system']}, "
            f"load average {about['load']:.1f} at the start and {about['load_after']:.1f} at the end"
        ),
        "plain MoCo, float32, on the CPU; images: " + results["set"],
    ]


def show(console: Console, results: dict[str, Any]) -> None:
    """Print the tables."""
    show_sheets(console, sheets(results))
    for line in [*facts(results), results["command"]]:
        console.print(line, highlight=False)


def markdown(results: dict[str, Any]) -> str:
    """The page of the documentation."""
    lines = [
        *page_head(
            "The trainer beside its peers",
            "Written by `benches/trainer.py`, from one run of it; don't edit it.",
            facts=facts(results),
            command=results["command"],
        ),
        "- By hand: forward, backward, optimizer, momentum update and queue of the same model in a plain loop, a step",
        "  in turn with ours on the same batch. Ours counts all that `geossl train` does between two batches, the",
        f"  rows of metrics too, one for each hundredth of an epoch of {trainer_overhead.EPOCH:,} steps; no checkpoint",
        "  is among it, and no decoding.",
        "- Peers: each trains from scratch on the same files with its own dataset, transform and loss, two workers,",
        "  the same batch, queue, temperature, momentum and learning rate, batch normalisation over the whole batch.",
        "  solo-learn's loss is symmetric: its ratio is for the same number of passes through the encoders, twice an",
        "  image's; its loss is not compared.",
        "- Weights and augmentations are each library's own draws: curves are to differ as those of two seeds do.",
        "",
        *tables(sheets(results), results.get("peers", {}).get("versions", {})),
    ]
    return "\n".join(lines) + "\n"
