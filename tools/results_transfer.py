"""What an encoder trained on the synthetic planet is worth for other tasks; writes its section of docs/results.md.

    python tools/results_transfer.py [--work DIR] [--seeds N ...] [--tasks NAME ...] [--no-report]

The runs `geo_tp` of results_planet.py, beside random weights of the same model and seed, on made sets of another seed
than those that the settings were tried on. Whatever is finished in the work folder is kept, so an interrupted call goes
on where it was. Nothing is chosen on the test images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from results_bmng import ROOT, command, interval, machine, put_sections, train
from results_planet import prepare

ARM, EPOCHS = "geo_tp", 50
DATA_SEED = 1


class Task(NamedTuple):
    """A made set, what is trained on it, and the figures that are told."""

    made: list[str]
    """Of `geossl data synth`."""
    reader: list[str]
    """Of the command that makes an index of it."""
    command: list[str]
    settings: list[str]
    report: str
    scores: dict[str, str]
    """Names in the report, by what they are called here."""
    own_statistics: bool = True
    """Whether batch normalisation takes each batch's own statistics with given weights, too, by default. Else the
    figures of both are told: random weights have no statistics of their own to keep."""


TASKS = {
    "segment": Task(
        made=["--task", "segment", "--places", "60", "--size", "192"],
        reader=["spacenet", "--test", "0.25"],
        command=["transfer", "segment"],
        settings=["--size", "129", "--chips", "3", "--batch", "4", "--lr", "0.02", "--epochs", "4"],
        report="segment.json",
        scores={"mIoU": "mean_iou", "pixel accuracy": "overall_accuracy"},
    ),
    "detect": Task(
        made=["--task", "detect", "--places", "40", "--size", "320"],
        reader=["xview", "--test", "10"],
        command=["transfer", "detect"],
        settings=["--size", "96", "--chips", "12", "--lr", "5e-4", "--epochs", "12"],
        report="detect.json",
        scores={"AP50": "ap50", "AP": "ap"},
        own_statistics=False,
    ),
    "landcover": Task(
        made=["--task", "landcover", "--places", "1200"],
        reader=["naip", "--bands", "red,green,blue"],
        command=["finetune"],
        settings=["--split-test", "val,test", "--epochs", "10", "--batch", "32", "--lr", "auto"],
        report="finetune.json",
        scores={"top-1": "top1", "macro-F1": "f1"},
        own_statistics=False,
    ),
}


def index_of(name: str, work: Path) -> Path:
    """The made set of a task, as an index."""
    task, folder = TASKS[name], work / f"transfer-{name}"
    index = folder.with_suffix(".parquet")
    if not index.exists():
        command("data", "synth", folder, *task.made, "--seed", str(DATA_SEED))
        reader, *words = task.reader
        command("data", reader, folder, "-o", index, *words)
    return index


def starts(name: str) -> dict[str, list[str]]:
    """What a task begins with, and the settings that say so."""
    own = {} if TASKS[name].own_statistics else {f"{ARM}-bn-train": ["--bn", "train"]}
    return {"random": ["--from-scratch"], ARM: [], **own}


def scores(name: str, begin: str, seed: int, work: Path) -> dict[str, float]:
    """The figures of a run, which is made unless it is there."""
    task, start = TASKS[name], work / "runs" / f"planet-{ARM}-{EPOCHS}-{seed}"
    run = work / "runs" / f"transfer-{name}-{begin}-{seed}"
    report = run / task.report
    if not report.exists():
        words = [*task.settings, "--seed", str(seed), "--device", "cpu", "--resume", "auto", *starts(name)[begin]]
        command(*task.command, start, "--data", index_of(name, work), "--out", run, *words)
    content = json.loads(report.read_text())
    found: dict[str, Any] = content["rows"][0]["scores"] if "rows" in content else content["scores"]
    return {title: float(found[key]) for title, key in task.scores.items()}


def write_section(found: dict[str, dict[str, list[dict[str, float]]]], seeds: list[int]) -> str:
    """The section, from the figures alone."""
    rows = []
    for name, by_start in found.items():
        for title in TASKS[name].scores:
            random = [one[title] for one in by_start["random"]]
            for begin in list(starts(name))[1:]:
                own = [one[title] for one in by_start[begin]]
                gain = [b - a for a, b in zip(random, own, strict=True)]
                keeps = "its own" if TASKS[name].own_statistics or begin != ARM else "the encoder's"
                figures = f"{interval(random)} | {interval(own)} | {interval(gain, sign='+')}"
                rows.append(f"| {name} | {title} | {keeps} | {figures} |")
    table = "\n".join(rows)
    words = "\n".join(
        f"- {name}: `geossl data synth {' '.join(TASKS[name].made)} --seed {DATA_SEED}`, then\n"
        f"  `geossl {' '.join(TASKS[name].command)}` with `{' '.join(TASKS[name].settings)}`"
        for name in found
    )
    return f"""## Transfer from the synthetic planet

Made by `make results-transfer`, as it came out. The encoders are those of the arm `{ARM}` above ({EPOCHS} epochs on the
planet, ResNet-18), one a seed; random: the same model with fresh weights of that seed, everything else equal. Batch
normalisation takes each batch's own statistics with random weights; with those of `{ARM}` it does so, too, or keeps the
encoder's, the default to detect and to classify. Seeds {", ".join(map(str, seeds))} of
training; per cent, mean and 95 % interval over the seeds (Student's t). An interval of the difference that spans 0 is
no evidence.

| task | figure | statistics | random | {ARM} | difference |
|---|---|---|---|---|---|
{table}

{words}

{machine()}
"""


def main() -> None:
    """Run everything that is not done yet and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "results", help="folder of the data and the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of each run")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--no-report", action="store_true", help="train alone")
    options: Any = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    planet = prepare(options.work)
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name in options.tasks:
        found[name] = {begin: [] for begin in starts(name)}
        for seed in options.seeds:
            run = options.work / "runs" / f"planet-{ARM}-{EPOCHS}-{seed}"
            words = ["--recipe", ARM, "--recipe", "laptop", "--epochs", str(EPOCHS), "--seed", str(seed)]
            train(planet, run, *words)
            for begin in starts(name):
                found[name][begin].append(scores(name, begin, seed, options.work))
    if not options.no_report:
        put_sections(write_section(found, options.seeds))


if __name__ == "__main__":
    main()
