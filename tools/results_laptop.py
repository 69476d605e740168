"""What the settings of the recipe `laptop` rest on: learning rate and temperature; writes a section of docs/results.md.

    python tools/results_laptop.py [--work DIR] [--seeds N ...] [--data NAME ...]

The arm `tp` on the synthetic planet and on the Blue Marble tiles, trained and probed on the *training* places alone,
a fifth of them held out, so that nothing is chosen on test places. Whatever is finished in the work folder is kept,
so an interrupted call goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import results_bmng
import results_planet
from results_bmng import ROOT, SHARED, command, interval, machine, put_sections, train, validation_index

if TYPE_CHECKING:
    from collections.abc import Iterator

RATES = (0.06, 0.03, 0.015, 0.0075)
TEMPERATURES = (0.2, 0.1)
METHODS = ("linear", "knn")
DATA = {"planet": (results_planet.prepare, 25), "bmng": (results_bmng.prepare, 10)}
"""How the data are made, and epochs of each run."""


def figures(run: Path) -> Iterator[tuple[str, float]]:
    """Scores by method; also the spread of the features in the last row, and the lowest one of the run."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    spread = [row["feature_std"] for row in rows if "feature_std" in row]
    yield from (("last", spread[-1]), ("lowest", min(spread)))
    for row in json.loads((run / "probe.json").read_text())["rows"]:
        yield ("random " if row["encoder"] == "random" else "") + row["method"], row["scores"]["top1"]


def measure(
    index: Path, name: str, epochs: int, options: argparse.Namespace
) -> dict[tuple[float, float], list[dict[str, float]]]:
    """Figures of each rate and temperature, one a seed; trains and probes what is not done yet."""
    found: dict[tuple[float, float], list[dict[str, float]]] = {}
    for seed, (lr, temperature) in itertools.product(options.seeds, itertools.product(RATES, TEMPERATURES)):
        run = options.work / "runs" / f"laptop-{name}-{lr}-{temperature}-{epochs}-{seed}"
        settings = ["--optim.lr", str(lr), "--model.temperature", str(temperature)]
        words = ["--recipe", "tp", "--recipe", "laptop", *settings, "--epochs", str(epochs)]
        train(index, run, *words, "--seed", str(seed))
        if not (run / "probe.json").exists():
            command("probe", run, "--data", index, "--seed", str(seed))
        found.setdefault((lr, temperature), []).append(dict(figures(run)))
    return found


def table(name: str, found: dict[tuple[float, float], list[dict[str, float]]]) -> str:
    """A data set's rows."""
    random = next(iter(found.values()))
    cells = " | ".join(interval([one[f"random {method}"] for one in random]) for method in METHODS)
    lines = [f"| {name} | random | | {cells} | | |"]
    for (lr, temperature), seeds in found.items():
        cells = " | ".join(interval([one[method] for one in seeds]) for method in METHODS)
        spread = " | ".join(f"{min(one[key] for one in seeds):.2f}" for key in ("lowest", "last"))
        lines.append(f"| {name} | {lr} | {temperature} | {cells} | {spread} |")
    return "\n".join(lines)


def write_section(tables: list[str], options: argparse.Namespace) -> str:
    """The section, from the figures alone."""
    rows = "\n".join(tables)
    return f"""## Learning rate and temperature of `laptop`

Made by `make results-laptop`, as it came out, on the *training* places, a fifth of them held out: the test places have
seen none of it.

Recipes `tp` and `laptop` on the synthetic planet ({DATA["planet"][1]} epochs) and on the Blue Marble tiles
({DATA["bmng"][1]} epochs), seeds {", ".join(map(str, options.seeds))}. Top-1 in per cent, mean
and 95 % interval over the seeds (Student's t). Spread of the features: the standard deviation over the batch, times
the root of the dimension (1: over the whole sphere, 0: collapsed); the lowest of the run and the last, of the seed
with the smallest.

| data | learning rate | temperature | linear: top-1 | kNN: top-1 | lowest spread | last spread |
|---|---|---|---|---|---|---|
{rows}

{machine()}
"""


def main() -> None:
    """Run everything that is not done yet and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "results", help="folder of the data and the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of each setting")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--no-report", action="store_true", help="train and probe alone")
    options = parser.parse_args()
    if "bmng" in options.data and not SHARED.is_dir():
        raise SystemExit(f"needs the Blue Marble mosaics in {SHARED}")
    options.work.mkdir(parents=True, exist_ok=True)
    tables = []
    for name in options.data:
        make, epochs = DATA[name]
        held_out = validation_index(make(options.work), options.work)
        tables.append(table(name, measure(held_out, name, epochs, options)))
    if not options.no_report:
        put_sections(write_section(tables, options))


if __name__ == "__main__":
    main()
