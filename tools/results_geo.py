"""What the geo head may predict, compared on the Blue Marble tiles; writes its section of docs/results.md.

    python tools/results_geo.py [--work DIR] [--epochs N] [--seeds N ...] [--targets NAME ...]

The arm geo with each `geo.target`, everything else equal, on the data, splits and clusters of results_bmng.py and in
its work folder. Each encoder is frozen and probed as there; and each head places the images of training and of
held-out places. Whatever is finished in the work folder is kept. Nothing is chosen on the val split.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from results_bmng import BATCH, ROOT, SETTINGS, SHARED, command, machine, prepare, probe, put_sections, train

from geossl.data.clusters import Clusters
from geossl.data.coordinates import place_coordinates
from geossl.data.index import Index
from geossl.evaluate.geo_errors import geo_errors
from geossl.geo import distance_km

TARGETS = ("clusters", "hierarchy", "soft", "vector")
LEVELS = (5, 15, 50)
SCORES = ("top1", "f1", "place_top1", "place_f1")


def levels_of(index: Path) -> Path:
    """Hierarchical clusters, whose finest level is that of results_bmng.py."""
    path = index.with_name("bmng.levels.parquet")
    if not path.exists():
        command("data", "cluster", index, "-k", ",".join(map(str, LEVELS)), "-o", path)
    return path


def errors_km(index: Index, run: Path) -> dict[str, np.ndarray]:
    """Errors of the run's head on each split, km an image."""
    return {split: geo_errors(run, index, index.rows(split=split)).km for split in ("train", "val")}


def limits(index: Index, clusters: Clusters) -> dict[str, dict[str, np.ndarray]]:
    """Errors without looking at an image, and of what no choice of clusters can beat; km an image, by split."""
    lat, lon, _ = place_coordinates(index)
    rows = {split: index.rows(split=split) for split in ("train", "val")}
    seen = np.unique(index.places[rows["train"]])
    apart = distance_km(lat[seen, None], lon[seen, None], lat[seen], lon[seen])
    middle = seen[np.median(apart, axis=1).argmin()]
    learnt = clusters.centroids[np.unique(clusters.labels(index)[rows["train"]])]
    found: dict[str, dict[str, np.ndarray]] = {
        "the middlemost training place, always": {},
        "the nearest centroid of a training cluster": {},
    }
    for split, chosen in rows.items():
        at = index.places[chosen]
        one = distance_km(lat[middle], lon[middle], lat[at], lon[at])
        every = [distance_km(c[0], c[1], lat[at], lon[at]) for c in learnt]
        for name, km in zip(found, (one, np.min(every, axis=0)), strict=True):
            found[name][split] = km
    return found


def main() -> None:
    """Run everything that is not done yet and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "results", help="folder of the data and the runs")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds that each target is trained with")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    options = parser.parse_args()
    if not SHARED.is_dir():
        sys.exit(f"needs the Blue Marble mosaics in {SHARED}")
    options.work.mkdir(parents=True, exist_ok=True)
    path = prepare(options.work)
    clusters = levels_of(path)
    index = Index.read(path)
    reports: dict[str, list[dict[str, Any]]] = {target: [] for target in options.targets}
    errors: dict[str, list[dict[str, np.ndarray]]] = {target: [] for target in options.targets}
    for seed in options.seeds:
        for target in options.targets:
            run = options.work / "runs" / f"target-{target}-{options.epochs}-{seed}"
            words = ["--recipe", "geo", *SETTINGS, "--geo.target", target, "--loader.clusters", str(clusters)]
            words += ["--epochs", str(options.epochs), "--seed", str(seed)]
            train(path, run, *words)
            reports[target].append(probe(path, run))
            errors[target].append(errors_km(index, run))
    put_sections(write_section(options, reports, errors, limits(index, Clusters.read(clusters))))


def write_section(
    options: argparse.Namespace,
    reports: dict[str, list[dict[str, Any]]],
    errors: dict[str, list[dict[str, np.ndarray]]],
    bounds: dict[str, dict[str, np.ndarray]],
) -> str:
    """The section, from the figures alone."""
    first = reports[options.targets[0]][0]
    lines = []
    for method in ("linear", "knn"):
        rows = {target: [_row(report, "geo", method) for report in reports[target]] for target in options.targets}
        rows = {"random encoder": [_row(first, "random", method)]} | rows
        lines += [
            f"| {name} | {method} | "
            + " | ".join(_mean([100 * score[s] for score in scores], 2) for s in SCORES)
            + " |"
            for name, scores in rows.items()
        ]
    places = [
        f"| {target} | {_km(errors[target], 'val')} | {_km(errors[target], 'train')} |" for target in options.targets
    ]
    places += [f"| *{name}* | {_km([km], 'val')} | {_km([km], 'train')} |" for name, km in bounds.items()]
    seeds = f"seed{'s' if len(options.seeds) > 1 else ''} {', '.join(map(str, options.seeds))}"
    several = (
        "mean, and from the least to the most in brackets, over the seeds" if len(options.seeds) > 1 else "one seed"
    )
    table, table_km = "\n".join(lines), "\n".join(places)
    return f"""## What the geo head predicts

Made by `make results-geo`, as it came out: {several};
no setting chosen on the test places.

The arm `geo` on the Blue Marble tiles as above, with each `geo.target` and everything else equal: recipe `laptop`,
batch {BATCH}, {options.epochs} epochs, {seeds}. `clusters`: the paper's head, K = {LEVELS[-1]}; `hierarchy`:
heads for {", ".join(map(str, LEVELS))} clusters, the finest the same; `soft`: the same with labels by distance;
`vector`: the coordinates as a unit vector. The frozen encoder, trained on {first["train_images"]:,} images and tested
on {first["test_images"]:,}, per cent:

| target | method | top-1 | macro-F1 | top-1 per place | macro-F1 per place |
|---|---|---|---|---|---|
{table}

Where the head itself places the images, km from the truth. Held-out places lie in blocks of 15 degrees of which the
head has seen no place: it can only tell them by what they share with others. In italics what needs no image (the
training place that the others are nearest to at the median), and what no head over clusters can beat.

| target | held-out places: median | mean | training places: median | mean |
|---|---|---|---|---|
{table_km}

With few seeds, differences of a few points between targets are within what another seed may change.

{machine()}
"""


def _row(report: dict[str, Any], encoder: str, method: str) -> dict[str, float]:
    found: dict[str, float] = next(
        row["scores"] for row in report["rows"] if (row["encoder"], row["method"]) == (encoder, method)
    )
    return found


def _km(errors: list[dict[str, np.ndarray]], split: str) -> str:
    """The columns median and mean of a split."""
    return " | ".join(_mean([float(of(km[split])) for km in errors], 0) for of in (np.nanmedian, np.nanmean))


def _mean(values: list[float], digits: int) -> str:
    """The mean, with the range behind it where there are several."""
    text = f"{np.mean(values):,.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


if __name__ == "__main__":
    main()
