"""`geossl demo`: the whole system on a small made planet, in a few minutes, from an empty folder to a picture."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from geossl.errors import GeosslError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

K = 50
COLUMNS = {"top1": "top-1", "f1": "macro-F1", "place_top1": "place top-1", "place_f1": "place F1"}
"""What is shown of the probe's scores."""


def demo(out: Path = Path("geossl-demo"), /) -> None:
    """Try everything on a small made planet: a few minutes on two cores, ending with a table and a picture.

    Makes a planet, indexes and clusters it, trains `geo_tp`, probes the encoder beside a random one. Each step is a
    command of the tour, shown as it is run.

    Example: `geossl demo`

    Parameters
    ----------
    out
        Folder to make; it must not exist, or be empty.
    """
    from rich.console import Console

    from geossl.cli import main
    from geossl.data.clusters import Clusters, default_path
    from geossl.data.index import Index
    from geossl.viz.summary import plot_summary

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; name a new folder, or remove it first")
    out.mkdir(parents=True, exist_ok=True)
    planet, index, run = out / "planet", out / "planet.parquet", out / "runs" / "demo"
    train = f"train --recipe geo_tp --recipe laptop --data {_q(index)} --out {_q(run)}"
    for command in (
        f"data synth {_q(planet)}",
        f"data index {_q(planet)} -o {_q(index)}",
        f"data cluster {_q(index)} -k {K}",
        train,
        f"probe {_q(run)} --data {_q(index)}",
    ):
        print(f"\n$ geossl {command}", flush=True)
        if code := main(shlex.split(command)):
            raise GeosslError(f"`geossl {command}` ended with exit code {code}")

    report = json.loads((run / "probe.json").read_text(encoding="utf-8"))
    results = [
        (f"{row['encoder']}, {row['method']}", {name: row["scores"][key] for key, name in COLUMNS.items()})
        for row in report["rows"]
    ]
    data = Index.read(index)
    picture = plot_summary(
        out / "demo.png", index=data, clusters=Clusters.read(default_path(index)), run=run, results=results
    )
    print()
    Console().print(_table(results))
    print(f"picture: {picture}")


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _table(results: list[tuple[str, dict[str, float]]]) -> Table:
    from rich.table import Table

    table = Table(title="frozen encoder, images of unseen places, %", title_justify="left")
    table.add_column("encoder")
    for name in COLUMNS.values():
        table.add_column(name, justify="right")
    for encoder, scores in results:
        table.add_row(encoder, *(f"{100 * score:.1f}" for score in scores.values()))
    return table
