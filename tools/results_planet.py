"""What each arm learns on the synthetic planet, over several seeds; writes its section of docs/results.md.

    python tools/results_planet.py [--work DIR] [--epochs N] [--seeds N ...]

The planet of `geossl data synth`, the recipes `<arm>` and `laptop`. Each encoder is frozen and probed on places that
it has not seen, beside a random one of the same seed. Whatever is finished in the work folder is kept, so an
interrupted call goes on where it was. Nothing is chosen on the places of the test.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from results_bmng import ROOT, command, interval, machine, put_sections, train

ARMS = ("moco", "tp", "geo", "geo_tp")
K = 50
SCORES = {"top1": "top-1", "f1": "macro-F1", "place_top1": "top-1 per place", "place_f1": "macro-F1 per place"}
ORDER = (("random", "moco"), ("moco", "tp"), ("moco", "geo"), ("tp", "geo_tp"), ("geo", "geo_tp"))
"""Pairs of encoders, of which the paper's table has the second above the first, but for the one before the last."""

Scores = dict[str, list[dict[str, float]]]
"""Scores of each encoder, one a seed."""


def prepare(work: Path) -> Path:
    """Planet, index and clusters; returns the index."""
    index = work / "planet.parquet"
    if not index.exists():
        command("data", "synth", work / "planet")
        command("data", "index", work / "planet", "-o", index)
    if not index.with_name("planet.clusters.parquet").exists():
        command("data", "cluster", index, "-k", str(K))
    return index


def run_all(index: Path, options: argparse.Namespace) -> dict[str, Scores]:
    """Train and probe what is not done yet; scores by method."""
    found: dict[str, Scores] = {method: {name: [] for name in ("random", *ARMS)} for method in ("linear", "knn")}
    for seed in options.seeds:
        for arm in ARMS:
            run = options.work / "runs" / f"planet-{arm}-{options.epochs}-{seed}"
            words = ["--recipe", arm, "--recipe", "laptop", "--epochs", str(options.epochs), "--seed", str(seed)]
            train(index, run, *words)
            report = run / "probe.json"
            if not report.exists():
                command("probe", run, "--data", index, "--seed", str(seed))
            for row in json.loads(report.read_text())["rows"]:
                # The random encoder of a seed is the same beside each arm.
                if row["encoder"] == arm or (row["encoder"], arm) == ("random", ARMS[0]):
                    found[row["method"]][row["encoder"]].append(row["scores"])
    return found


def write_section(options: argparse.Namespace, found: dict[str, Scores]) -> str:
    """The section, from the scores alone."""
    rows = [
        f"| {name} | {method} | " + " | ".join(interval([s[key] for s in scores]) for key in SCORES) + " |"
        for method, by_encoder in found.items()
        for name, scores in by_encoder.items()
    ]
    differences = []
    for method, by_encoder in found.items():
        for one, other in ORDER:
            pairs = list(zip(by_encoder[one], by_encoder[other], strict=True))
            gains = {key: [b[key] - a[key] for a, b in pairs] for key in ("top1", "place_top1")}
            cells = " | ".join(interval(gain) for gain in gains.values())
            differences.append(f"| {other} less {one} | {method} | {cells} |")
    table, order = "\n".join(rows), "\n".join(differences)
    return f"""## The synthetic planet, arms beside each other

Made by `make results-planet`, as it came out; nothing was chosen on the places of the test.

Recipes `<arm>` and `laptop`, {options.epochs} epochs, K = {K} clusters, seeds {", ".join(map(str, options.seeds))} of
training, of the probe and of the random encoder, on one planet. Per cent; mean and 95 % interval over the seeds
(Student's t).

| encoder | method | {" | ".join(SCORES.values())} |
|---|---|{"---|" * len(SCORES)}
{table}

Differences within a seed, and their intervals; one that spans 0 is no evidence of an order:

| | method | top-1 | top-1 per place |
|---|---|---|---|
{order}

{machine()}
"""


def main() -> None:
    """Run everything that is not done yet and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "results", help="folder of the data and the runs")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of each arm")
    options: Any = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    put_sections(write_section(options, run_all(prepare(options.work), options)))


if __name__ == "__main__":
    main()
