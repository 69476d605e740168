"""The results for people: tables on the terminal, the same in Markdown, and a plot."""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from rich.console import Console
from rich.table import Table

from contestants import FLOOR, REFERENCE
from figures import OURS, Figures
from work import MODES

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter, StrMethodFormatter

COLORS = {
    f"{OURS}files": "#08306b",
    f"{OURS}lossless": "#2171b5",
    f"{OURS}sized": "#6baed6",
    f"{OURS}raw": "#c6dbef",
    "torchvision PIL": "#000000",
    "torchvision pillow-simd": "#666666",
    "pillow-simd at its best": "#bbbbbb",
    "torchvision.io": "#e69f00",
    "OpenCV": "#d55e00",
    "DALI CPU": "#f0e442",
    "SPDL": "#cc79a7",
}
"""Blues are ours, grays are Pillow; the rest are Okabe and Ito's, which colour-blind people tell apart."""


@dataclass(frozen=True)
class Sheet:
    """A table, however it is shown."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def sheets(results: dict[str, Any], figures: Figures) -> list[Sheet]:
    """Everything that was measured."""
    made = [rates(figures, mode) for mode in figures.modes]
    if figures.rates:
        made.append(
            Sheet(
                "Targets",
                ["what", "threads", "target", "measured", ""],
                [[c.what, c.threads, f"{c.least:g}x", number(c.measured, 2), c.verdict] for c in figures.checks()],
            )
        )
    if results["step"]:
        made.append(
            Sheet(
                "A training step: share of the time that waits for data",
                ["step", "loader", "waits", "least to most", "steps/s"],
                [
                    [row["step"], row["loader"], share(row["wait"]), row["spread"], f"{row['steps_per_sec']:.2f}"]
                    for row in results["step"]
                ],
            )
        )
    sets = [
        [
            row["name"],
            str(row["images"]),
            row["origin"],
            f"{row['megapixels'] / row['images']:.2f}",
            f"{row['mebibytes'] * 2**10 / row['images']:.0f}",
            str(row["pairs"]),
        ]
        for row in results["sets"]
    ]
    made.append(Sheet("Sets", ["set", "images", "cut from", "megapixels", "KiB", "pairs a pass"], sets))
    if results["absences"]:
        where: dict[tuple[str, str], list[str]] = {}
        for absence in results["absences"]:
            modes = where.setdefault((absence["loader"], absence["reason"]), [])
            modes += [] if absence["mode"] in modes else [absence["mode"]]
        rows = [[loader, ", ".join(modes), reason] for (loader, reason), modes in where.items()]
        made.append(Sheet("Not measured", ["loader", "modes", "why"], rows))
    return made


def rates(figures: Figures, mode: str) -> Sheet:
    """One mode: a row for each set and loader."""
    counts, least = figures.threads, figures.threads[0]
    columns = ["set", "loader", *(f"pairs/s a core, {n} thr." for n in counts), f"least to most, {least} thr."]
    columns += ["2 against 1", "against PIL", "against best peer", "share of floor"]
    rows = []
    for name in figures.sets:
        for loader in figures.loaders:
            values = figures.rates.get((name, mode, least, loader))
            if not values:
                continue
            best = figures.best_peer(name, mode, least)
            rows.append(
                [
                    name,
                    loader + (" *" if loader == best else ""),
                    *(number(rate / n if (rate := figures.rate(name, mode, n, loader)) else None, 0) for n in counts),
                    f"{min(values) / least:.0f} to {max(values) / least:.0f}",
                    number(figures.scaling(name, mode, loader), 2),
                    number(figures.ratio(name, mode, least, loader, REFERENCE), 2),
                    number(figures.ratio(name, mode, least, loader, best) if best else None, 2),
                    number(figures.ratio(name, mode, least, loader, FLOOR), 2),
                ]
            )
    return Sheet(f"{mode}: {MODES[mode]} (* the best peer; ratios at {least} thr.)", columns, rows)


def number(value: float | None, digits: int) -> str:
    """A figure, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def share(value: float) -> str:
    """A share as per cent."""
    return f"{100 * value:.1f} %"


def show(console: Console, results: dict[str, Any], figures: Figures) -> None:
    """Print the tables."""
    show_sheets(console, sheets(results, figures))
    console.print(facts(results), highlight=False)


def show_sheets(console: Console, made: list[Sheet]) -> None:
    """Print these tables."""
    for sheet in made:
        table = Table(title=sheet.title, title_justify="left")
        for i, column in enumerate(sheet.columns):
            figure = sheet.rows and all(row[i][:1].isdigit() or row[i] == "-" for row in sheet.rows)
            table.add_column(column, justify="right" if figure else "left", overflow="fold")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)


def facts(results: dict[str, Any]) -> str:
    """The machine and how it was measured, on a few lines."""
    machine, settings = results["machine"], results["settings"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({machine['siblings']}), {machine['system']}, "
        f"load average {machine['load']:.1f} at the start and {machine['load_after']:.1f} at the end\n"
        f"{settings['repetitions']} interleaved repetitions, medians; batches of {settings['batch']} pairs of "
        f"{settings['size']} x {settings['size']}; files in the page cache\n"
        f"{results['command']}"
    )


def machine() -> dict[str, Any]:
    """What it is measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    topology = Path("/sys/devices/system/cpu")
    siblings = {path.read_text().strip() for path in topology.glob("cpu*/topology/thread_siblings_list")}
    shared = any("," in group or "-" in group for group in siblings)
    return {
        "cpu": ", ".join(sorted(models)) or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "siblings": "siblings share a core" if shared else "none a sibling of another",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
    }


def results_of(chosen: Namespace, measured: Callable[[Namespace, Path, Console], dict[str, Any]]) -> dict[str, Any]:
    """The results of an earlier run (--load), or of one made now, in the folder --work or one that goes again."""
    if chosen.load:
        earlier: dict[str, Any] = json.loads(chosen.load.read_text())
        return earlier
    with tempfile.TemporaryDirectory() as temporary:
        work = (chosen.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        return measured(chosen, work, Console(stderr=True))


def page_head(title: str, *about: str, facts: Sequence[str], command: str) -> list[str]:
    """How a page of the documentation begins: what it is about, what it was made on, and by which command."""
    return [f"# {title}", "", *about, "", *(line + "  " for line in facts), "", "```", command, "```", ""]


def markdown(results: dict[str, Any], figures: Figures, plot: str | None) -> str:
    """The page of the documentation."""
    lines = page_head(
        "The loader beside its peers",
        "Written by `benches/loader.py`, from one run of it; don't edit it. Everybody reads the same JPEG files from",
        "the page cache and does the same work: decode, RandomResizedCrop(224, scale 0.2 to 1), flip, batches of 32",
        "pairs. Rates are pairs a second divided by the number of threads.",
        facts=facts(results).splitlines()[:-1],
        command=results["command"],
    )
    if plot:
        lines += [f"![Pairs a second and core]({plot})", ""]
    lines += tables(sheets(results, figures), results["versions"])
    return "\n".join(lines) + "\n"


def tables(made: list[Sheet], versions: dict[str, dict[str, str]]) -> list[str]:
    """Lines of Markdown: the tables, and the versions of everybody's libraries."""
    lines = []
    for sheet in made:
        lines += [f"## {sheet.title}", "", "| " + " | ".join(sheet.columns) + " |", "|---" * len(sheet.columns) + "|"]
        lines += ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in sheet.rows]
        lines.append("")
    lines += ["## Versions", ""]
    for loader, numbers in versions.items():
        lines.append(f"- {loader}: " + ", ".join(f"{name} {number}" for name, number in numbers.items()))
    return lines


def plot(figures: Figures, path: Path) -> None:
    """Bars of pairs a second with one thread, a panel for each mode, grouped by set; the floor is a line."""
    threads = figures.threads[0]
    loaders = [loader for loader in COLORS if loader in figures.loaders]
    size = (max(8, 3 + 0.18 * len(loaders) * len(figures.sets)), 2.8 * len(figures.modes))
    figure, panels = plt.subplots(len(figures.modes), 1, figsize=size, squeeze=False, layout="constrained")
    width = 0.8 / max(len(loaders), 1)
    for panel, mode in zip(panels[:, 0], figures.modes, strict=True):
        for i, loader in enumerate(loaders):
            values = [figures.rate(name, mode, threads, loader) for name in figures.sets]
            at = [group + (i + 0.5) * width - 0.4 for group in range(len(figures.sets))]
            bars = [(x, value / threads) for x, value in zip(at, values, strict=True) if value is not None]
            panel.bar(
                [x for x, _ in bars],
                [value for _, value in bars],
                width,
                color=COLORS[loader],
                edgecolor="black",
                linewidth=0.3,
                label=loader,
            )
        for group, name in enumerate(figures.sets):
            if (value := figures.rate(name, mode, threads, FLOOR)) is not None:
                label = "codec and resize alone" if group == 0 else None
                panel.hlines(value / threads, group - 0.45, group + 0.45, colors="#009e73", linewidth=2, label=label)
        panel.set_title(f"{mode}: {MODES[mode]}", loc="left", fontsize="medium")
        panel.set(ylabel="pairs/s a core", yscale="log")
        # Bars of a logarithmic axis start where they are cut: at a round figure under all of them.
        least = min(bar.get_height() for bar in panel.patches)
        panel.set_ylim(bottom=10 ** math.floor(math.log10(least)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_xticks(range(len(figures.sets)), figures.sets)
        panel.set_xlim(-0.5, len(figures.sets) - 0.5)
        panel.grid(axis="y", which="both", alpha=0.3)
        panel.set_axisbelow(True)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    figure.savefig(path)
    plt.close(figure)
