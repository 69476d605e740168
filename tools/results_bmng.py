"""All six arms and a random encoder on the Blue Marble tiles, probed on places kept apart; writes docs/results.md.

    python tools/results_bmng.py [--work DIR] [--epochs N] [--seed N]

Needs ../shared/data (NASA Blue Marble Next Generation 2004, cut into fMoW's layout). Whatever is finished in the
work folder is kept, so an interrupted call goes on where it was. Nothing is chosen on the val split: the temperature
of the default recipe is compared on a held-out fifth of the *training* places.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy import stats

import geossl
from geossl.cli import main as run_cli
from geossl.data.index import Index
from geossl.data.table import content_hash

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
ARMS = ("supervised", "geoloc", "moco", "geo", "tp", "geo_tp")
K = 50
BATCH = 64
TEMPERATURES = (0.02, 0.07, 0.2)
SETTINGS = ["--recipe", "laptop", "--batch", str(BATCH), "--model.queue", "2048", "--model.temperature", "0.07"]


def command(*words: str | Path) -> None:
    """Run one geossl command, shown; stop where it fails."""
    line = [str(word) for word in words]
    print("$ geossl", *line, flush=True)
    if code := run_cli(line):
        sys.exit(code)


def prepare(work: Path) -> Path:
    """Tiles, index and clusters; returns the index."""
    index = work / "bmng.parquet"
    if not index.exists():
        tiles = work / "bmng"
        subprocess.run([sys.executable, SHARED / "make_bmng_fmow.py", tiles], check=True)
        command("data", "index", tiles, "-o", index)
    if not index.with_name("bmng.clusters.parquet").exists():
        command("data", "cluster", index, "-k", str(K))
    return index


def train(index: Path, run: Path, *words: str) -> float:
    """Train unless it is done; returns the minutes it took, over all its sittings, from the run's own log."""
    command("train", *words, "--data", index, "--out", run, "--resume", "auto")
    secs, last = 0.0, 0
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        secs += (row["step"] - last) * BATCH / row["images_per_sec"]
        last = row["step"]
    if row["epoch"] < int(words[words.index("--epochs") + 1]) or not (run / "checkpoints" / "last.pt").exists():
        sys.exit(f"{run} was stopped; call again to go on")
    return secs / 60


def probe(index: Path, run: Path) -> dict[str, Any]:
    """Probe unless it is done; returns the report."""
    report = run / "probe.json"
    if not report.exists():
        command("probe", run, "--data", index)
    made: dict[str, Any] = json.loads(report.read_text())
    return made


def validation_index(index: Path, work: Path) -> Path:
    """The training places alone, a fifth of them as val: what settings may be chosen on."""
    path = work / f"{index.stem}-validation.parquet"
    if not path.exists():
        whole = Index.read(index)
        rows = whole.rows(split="train")
        table = whole.table.take(rows)
        places = np.unique(whole.places[rows])
        held = np.random.default_rng(0).permutation(places)[: len(places) // 5]
        split = np.where(np.isin(whole.places[rows], held), "val", "train")
        at = table.schema.get_field_index("split")
        table = table.set_column(at, table.schema.field(at), pa.array(split.tolist(), pa.string())).combine_chunks()
        Index(table=table, root=whole.root, content_hash=content_hash(table)).write(path)
    return path


def temperatures(index: Path, work: Path, options: argparse.Namespace) -> dict[float, dict[str, Any]]:
    """MoCo with each temperature, in a shorter run, judged on held-out training places."""
    held_out = validation_index(index, work)
    reports = {}
    for value in TEMPERATURES:
        run = work / "runs" / f"temperature-{value}"
        epochs = str(options.epochs * 3 // 5)
        settings = [*SETTINGS[:-1], str(value)]
        words = ["--recipe", "moco", *settings, "--epochs", epochs, "--seed", str(options.seed)]
        train(held_out, run, *words)
        reports[value] = probe(held_out, run)
    return reports


def per_cent(scores: dict[str, Any]) -> str:
    """The columns of a table row."""
    names = ("top1", "f1", "place_top1", "place_f1")
    return " | ".join(f"{100 * scores[name]:.2f}" for name in names)


def main() -> None:
    """Run everything that is not done yet and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "results", help="folder of the data and the runs")
    parser.add_argument("--epochs", type=int, default=25, help="epochs of each arm")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not SHARED.is_dir():
        sys.exit(f"needs the Blue Marble mosaics in {SHARED}")
    options.work.mkdir(parents=True, exist_ok=True)
    index = prepare(options.work)
    chosen = temperatures(index, options.work, options)
    reports, minutes = {}, {}
    for arm in ARMS:
        run = options.work / "runs" / arm
        words = ["--recipe", arm, *SETTINGS, "--epochs", str(options.epochs), "--seed", str(options.seed)]
        minutes[arm] = train(index, run, *words)
        reports[arm] = probe(index, run)
    put_sections(write_page(options, reports, minutes, chosen))


def interval(values: list[float], *, sign: str = "") -> str:
    """The mean and the half-width of its 95 % interval over seeds (Student's t), per cent; `+` signs the mean."""
    mean = 100 * float(np.mean(values))
    if len(values) < 2:
        return f"{mean:{sign}.1f}"
    half = 100 * float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return f"{mean:{sign}.1f} ± {half:.1f}"


def put_sections(text: str) -> None:
    """Print sections of the page of results, and write them: in place of those of the same titles, or at its end."""
    print(text)
    page = ROOT / "docs" / "results.md"
    old = page.read_text() if page.exists() else "# Results\n"
    sections = dict(_sections(old) + _sections(text))
    partial = page.with_suffix(".partial")
    partial.write_text("\n".join(sections.values()))
    partial.replace(page)
    print(f"-> {page}")


def _sections(text: str) -> list[tuple[str, str]]:
    """The page's parts that begin with a title of the first or the second level: (title, text with one line end)."""
    parts = re.split(r"^(?=##? )", text, flags=re.MULTILINE)
    return [(part.splitlines()[0], part.rstrip() + "\n") for part in parts if part.strip()]


def machine() -> str:
    """What the figures were made on."""
    cores = f"{os.cpu_count()} cores ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
    return f"{cores}, Python\n{platform.python_version()}, torch {torch.__version__}, geossl {geossl.__version__}."


def write_page(
    options: argparse.Namespace,
    reports: dict[str, Any],
    minutes: dict[str, float],
    chosen: dict[float, dict[str, Any]],
) -> str:
    """The sections, from the reports alone."""
    first = reports[ARMS[0]]
    lines = []
    for method in ("linear", "knn"):
        random = next(r for r in first["rows"] if r["encoder"] == "random" and r["method"] == method)
        lines.append(f"| random | {method} | {per_cent(random['scores'])} | - |")
        for arm in ARMS:
            row = next(r for r in reports[arm]["rows"] if r["encoder"] == arm and r["method"] == method)
            lines.append(f"| {arm} | {method} | {per_cent(row['scores'])} | {minutes[arm]:.1f} |")
    table = "\n".join(lines)
    held_out = chosen[TEMPERATURES[0]]
    warm = "\n".join(
        f"| {value} | {row['method']} | {per_cent(row['scores'])} |"
        for method in ("linear", "knn")
        for value, report in chosen.items()
        for row in report["rows"]
        if row["encoder"] == "moco" and row["method"] == method
    )
    return f"""# Results

## Blue Marble tiles, six arms

Made by `make results-bmng`, as it came out: one seed, no setting chosen on the test places.

NASA Blue Marble Next Generation 2004, cut into tiles of 64 x 64 pixels (one pixel is 1/15 degree), up to twelve dates
a place; the class is the main Koppen climate group (A to E) that covers most of the tile. Training and test places
are apart by blocks of 15 degrees. Trained on {first["train_images"]:,} images of {first["train_places"]:,} places,
tested on {first["test_images"]:,} images of {first["test_places"]:,} places, {first["classes"]} classes.

Settings: recipes `<arm>` and `laptop` (ResNet-18, views of 32 pixels, batch 64), queue 2048, temperature 0.07,
{options.epochs} epochs,
K = {K} clusters, seed {options.seed}. The encoder is frozen; linear: the protocol of the paper with the learning rate
chosen on held-out training places, last epoch; knn: 20 nearest neighbours by cosine. Per place: the sum of the
probabilities of its images. In per cent.

| encoder | method | top-1 | macro-F1 | top-1 per place | macro-F1 per place | minutes of training |
|---|---|---|---|---|---|---|
{table}

`supervised` has seen the training labels, the others have not. With one seed, differences of a few points between
arms are within what another seed may change.

## Temperature

What the default recipe's temperature rests on: `moco` for {options.epochs * 3 // 5} epochs, else as above, trained
and tested on the *training* places alone, a fifth of them held out ({held_out["train_images"]:,} and
{held_out["test_images"]:,} images). The published recipe has 0.02, MoCo-v2 0.2.

| temperature | method | top-1 | macro-F1 | top-1 per place | macro-F1 per place |
|---|---|---|---|---|---|
{warm}

## Machine

{machine()}
"""


if __name__ == "__main__":
    main()
