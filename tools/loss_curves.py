"""Short runs that go well and badly, on a made planet; writes the curves and the table of docs/loss.md.

    python tools/loss_curves.py [--work DIR] [--only NAME]

Whatever is finished in the work folder is kept, so an interrupted call goes on where it was. About a quarter of an
hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from PIL import Image

import geossl
from geossl.cli import main as run_cli
from geossl.errors import GeosslError
from geossl.training.log import read_metrics

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "loss.md"
PICTURES = ROOT / "docs" / "loss"
BEGIN, END = "<!-- begin: made by tools/loss_curves.py -->", "<!-- end -->"
EPOCHS = 8
SETTINGS = ["--recipe", "moco", "--recipe", "laptop", "--epochs", str(EPOCHS), "--watch.knn_epochs", "4"]
HEALTHY = ["--optim.lr", "0.005", "--model.temperature", "0.1"]
RUNS = {
    "healthy": HEALTHY,
    "collapse": ["--optim.lr", "0.03", "--model.temperature", "0.2", "--model.momentum", "0.9"],
    "high-lr": ["--optim.lr", "0.5", "--model.temperature", "0.1"],
    "bn-leak": [*HEALTHY, "--model.bn_groups", "1"],
    "long-queue": [*HEALTHY, "--model.queue", "1536"],
    "starving": [*HEALTHY, "--loader.threads", "1", "--watch.knn_epochs", "0"],
}
"""What each run has beside the common settings."""
PANELS = {
    "infonce_ratio": "InfoNCE / log(1 + K)",
    "pretext_acc": "pretext accuracy",
    "feature_std": "feature std",
    "rankme": "RankMe",
    "alignment": "alignment",
    "grad_norm": "gradient norm",
}
"""Figures that are drawn, and their titles."""
COLUMNS = (
    "run",
    "steps",
    "InfoNCE",
    "/ log(1 + K)",
    "pretext accuracy",
    "feature std",
    "RankMe",
    "alignment",
    "uniformity",
    "gradient norm",
    "waiting",
    "kNN",
    "warned of",
)
"""Of the table."""
LARGE_SIDE, LARGE_IMAGES = 2048, 192
"""Of the images that starve a run."""


def command(*words: str | Path, may_fail: bool = False) -> int:
    """Run one geossl command, shown; gives its exit code, 0 or if it may fail 1, and stops at others."""
    line = [str(word) for word in words]
    print("$ geossl", *line, flush=True)
    code = run_cli(line)
    if code not in {0, int(may_fail)}:
        sys.exit(code)
    return code


def prepare(work: Path) -> tuple[Path, Path]:
    """The index of a made planet, and that of some of its images made large."""
    index, large = work / "planet.parquet", work / "large.parquet"
    if not index.exists():
        command("data", "synth", work / "planet")
        command("data", "index", work / "planet", "-o", index)
    if not large.exists():
        for path in sorted((work / "planet").rglob("*.jpg"))[:LARGE_IMAGES]:
            made = work / "large" / path.name
            made.parent.mkdir(exist_ok=True)
            Image.open(path).resize((LARGE_SIDE, LARGE_SIDE), Image.Resampling.BICUBIC).save(made, quality=90)
        command("data", "index", work / "large", "-o", large)
    return index, large


def train(name: str, index: Path, work: Path) -> list[dict[str, Any]]:
    """The rows of a run, which is made unless it is finished, or has ended in an error before."""
    run = work / "runs" / name
    ended = run / "ended"
    if not ended.exists():
        code = command("train", *_settings(name), "--data", index, "--out", run, "--resume", "auto", may_fail=True)
        ended.write_text(f"{code}\n")
    return read_metrics(run)


def _settings(name: str) -> list[str]:
    """The words of a run; what it has itself replaces what is common."""
    common = list(zip(SETTINGS[::2], SETTINGS[1::2], strict=True))
    own = set(RUNS[name][::2])
    return [word for key, value in common if key not in own for word in (key, value)] + RUNS[name]


def draw(name: str, rows: list[dict[str, Any]], healthy: list[dict[str, Any]]) -> None:
    """A run's figures beside the healthy run's."""
    panels = (
        {"loader_wait": "waiting for images", "images_per_sec": "images a second"} if name == "starving" else PANELS
    )
    columns = min(len(panels), 3)
    figure, axes = plt.subplots(
        -(-len(panels) // columns), columns, figsize=(3.2 * columns, 2.2 * (len(panels) // columns))
    )
    for axis, (key, title) in zip(axes.flat, panels.items(), strict=True):
        if name != "healthy":
            axis.plot([r["step"] for r in healthy], [r[key] for r in healthy], color="0.7", label="healthy", lw=1)
        shown = [(r["step"], r[key]) for r in rows if r[key] is not None]
        axis.plot(*zip(*shown, strict=True), color="C3" if name != "healthy" else "C0", label=name, lw=1)
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        if key == "grad_norm":
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
    if name != "healthy":
        axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(PICTURES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def line(name: str, rows: list[dict[str, Any]]) -> str:
    """A row of the table: means over the last fifth of the run, which single steps are too noisy for."""
    last = rows[-max(len(rows) // 5, 1) :]

    def mean(key: str, digits: int) -> str:
        values = [r[key] for r in last if r[key] is not None]
        return f"{sum(values) / len(values):.{digits}f}" if values else "-"

    knn = [f"{100 * r['knn_acc']:.1f}" for r in rows if "knn_acc" in r]
    warned = ", ".join(f"{w.partition(':')[0]} (step {r['step']})" for r in rows for w in r.get("warnings", ()))
    cells = [
        f"`{name}`",
        str(rows[-1]["step"]),
        mean("infonce", 2),
        mean("infonce_ratio", 2),
        mean("pretext_acc", 2),
        mean("feature_std", 2),
        mean("rankme", 1),
        mean("alignment", 2),
        mean("uniformity", 2),
        mean("grad_norm", 2),
        f"{sum(r['loader_wait'] for r in last) / len(last):.0%}",
        knn[-1] if knn else "-",
        warned or "-",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run everything that is not done yet, and write the pictures and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "results" / "loss", help="folder of the data and the runs")
    parser.add_argument("--only", choices=RUNS, action="append", help="make this run alone, and write nothing")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    index, large = prepare(options.work)
    made = {
        name: train(name, large if name == "starving" else index, options.work) for name in options.only or list(RUNS)
    }
    if options.only:
        return
    mpl.rcParams.update({"svg.hashsalt": "geossl", "svg.fonttype": "none"})
    PICTURES.mkdir(exist_ok=True)
    for name, rows in made.items():
        draw(name, rows, made["healthy"])
    settings = "\n".join(f"| `{name}` | `{' '.join(words)}` |" for name, words in RUNS.items())
    table = "\n".join(line(name, rows) for name, rows in made.items())
    put(f"""
{len(made)} runs of `geossl train {" ".join(SETTINGS)}`, seed 0, on `geossl data synth` (the last on
{LARGE_IMAGES} of its images made {LARGE_SIDE} pixels wide, without kNN), made by `make results-loss`, as they came out:

| run | beside that |
|---|---|
{settings}

Means over the last fifth of each run; kNN is the online accuracy at the end, per cent:

| {" | ".join(COLUMNS)} |
|{"---|" * len(COLUMNS)}
{table}

Python {platform.python_version()}, torch {torch.__version__}, geossl {geossl.__version__}.
""")


def put(text: str) -> None:
    """Print the made part of the page, and write it between its marks."""
    print(text)
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}{text}{END}{after}")


if __name__ == "__main__":
    try:
        main()
    except (GeosslError, json.JSONDecodeError) as e:
        sys.exit(f"error: {e}")
