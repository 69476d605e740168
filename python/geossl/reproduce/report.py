"""The report of a grid: report.md, report.html and scores.csv. It holds no times: the same runs give the same bytes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import yaml

from geossl import __version__
from geossl.config import flatten, merge
from geossl.files import replacing
from geossl.recipes import read_recipe
from geossl.reproduce.page import Section, to_html, to_markdown
from geossl.reproduce.paper import TABLES
from geossl.reproduce.pictures import Metrics, draw_curves, draw_maps
from geossl.reproduce.results import RUN, TRANSFER, cell_folder, collect
from geossl.reproduce.statistics import over_seeds
from geossl.tables import write_csv
from geossl.training.log import read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from geossl.config import TrainConfig
    from geossl.reproduce.grid import Grid
    from geossl.reproduce.results import Results, Score

FROZEN = {"f1": "F1", "top1": "top-1", "place_f1": "F1 per place", "place_top1": "top-1 per place"}
PUBLISHED = {"moco": "paper_moco", "tp": "paper_tp", "geo": "paper_geo", "geo_tp": "paper_geo_tp"}
"""The recipe that is as published, of each arm that has one."""
NOT_THE_METHOD = ("data", "out", "seed", "device", "loader.", "watch.", "save_steps", "keep", "compile")
"""Settings that say where and how it was run, and what is looked at."""
PROTOCOL = (
    "The last epoch of the linear classifier and of finetuning is reported; the released code reports the test's best.",
    "The linear classifier's learning rate is chosen on held-out training places; the paper's is set by hand.",
    "A place's class is by the summed probabilities of its images, as in the paper; its macro-F1 is over places.",
)
"""How evaluations of places differ from the paper's."""
TRANSFER_PROTOCOL = {
    "detect": (
        "The last epoch is reported; the paper does not say which.",
        "Test images are seen and scored whole; the paper scores windows.",
    ),
    "segment": (
        "The last epoch is reported; the paper does not say which.",
        "Test images are seen and scored whole, by windows that overlap; the paper does not say how.",
    ),
}
"""How transfers differ from the paper's, by task."""
CLUSTERS = "Clusters are by great-circle distance; the paper does not say by which."
"""How pretraining differs from the paper's."""


def write_report(grid: Grid, name: str, out: Path, *, data: Path, left_out: Mapping[str, str]) -> None:
    """Write the report on what is there so far, each file whole or not at all.

    Args:
        grid: what was run.
        name: its name.
        out: the folder of the cells, and of the report.
        data: the index.
        left_out: arms that were not run, and why.

    """
    results = collect(grid, out)
    trained = [name for name, arm in grid.arms.items() if arm.trains]
    runs = [(name, seed) for name in trained for seed in grid.seeds]
    metrics = {run: read_metrics(cell_folder(out, *run) / RUN) for run in runs}
    settings = {name: grid.settings(name, data=data, out=out, seed=grid.seeds[0]) for name in trained}
    sections = [
        _about(grid, results, left_out),
        _beside_the_paper(grid, results),
        _all_scores(grid, results),
        *_comparisons(grid, results),
        _differences(grid, settings),
        Section(title="Curves", pictures=draw_curves(out, metrics)),
        Section(title="Maps", pictures=draw_maps(out, data=data)),
        _cost(metrics),
    ]
    title = f"geossl reproduce {name}"
    for file, text in (
        ("report.md", to_markdown(title, sections)),
        ("report.html", to_html(title, sections)),
        ("settings.yaml", yaml.safe_dump({a: _method(c) for a, c in settings.items()}, sort_keys=False)),
    ):
        with replacing(out / file) as stream:
            stream.write(text.encode())
    _write_scores(out / "scores.csv", grid, results)


def _about(grid: Grid, results: Results, left_out: Mapping[str, str]) -> Section:
    text = [grid.purpose]
    about = results.about
    if about and grid.evaluation.transfer is not None:
        text.append(f"Trained on {about['train_images']:,} images, tested on {about['test_images']:,}.")
    elif about:
        trained, tested = (
            f"{about[f'{split}_images']:,} images of {about[f'{split}_places']:,} places" for split in ("train", "test")
        )
        text.append(f"{about['classes']} classes; trained on {trained}, tested on {tested}.")
    if about:
        text.append(f"The index's content hash is {about['index_hash']}.")
    seeds = ", ".join(map(str, grid.seeds))
    if len(grid.seeds) > 1:
        interval = f"Mean over the seeds {seeds}, and its 95 % interval (Student's t)."
    elif grid.evaluation.transfer is not None:
        interval = f"Seed {seeds}, without an interval: that takes several seeds."
    else:
        interval = f"Seed {seeds}; the interval is that of the test places (95 %, bootstrap), not of other seeds."
    text.append(f"Per cent. {interval} Nothing was chosen on the test images. geossl {__version__}.")
    items = [f"Left out: {arm}: {reason}." for arm, reason in left_out.items()] + results.notes
    return Section(title="What this is", text=text, items=items)


def _beside_the_paper(grid: Grid, results: Results) -> Section:
    """The paper's table, ours beside it."""
    table = TABLES[grid.table]
    header = ["", *(text for column in table.columns for text in (f"{column.title}, ours", "paper"))]
    rows = []
    for name, arm in grid.arms.items():
        row = [arm.method]
        figures = table.figures.get(arm.method, (None,) * len(table.columns))
        for column, figure in zip(table.columns, figures, strict=True):
            method = (arm.scratch and column.from_scratch) or column.method
            row += [_cell(results.of(name, method), column.score), "-" if figure is None else f"{figure:.2f}"]
        rows.append(row)
    for name in results.baselines:
        cells = (_cell(results.of(name, column.method), column.score) for column in table.columns)
        rows.append([name, *(text for cell in cells for text in (cell, "-"))])
    text = ["The paper's figures are of its own data; beside another data set they show the order of the arms at most."]
    return Section(title="Beside the paper", text=[*text, *filter(None, [table.note])], header=header, rows=rows)


def _all_scores(grid: Grid, results: Results) -> Section:
    metrics = _metrics(grid)
    header = ["", "method", "labels", *metrics.values()]
    rows = []
    methods = [*_methods(grid), *(["finetune"] if grid.evaluation.finetune_epochs else [])]
    for method in methods:
        for labels in grid.evaluation.labels if method in grid.evaluation.methods else [100]:
            for name in [*results.baselines, *grid.arms]:
                found = results.of(name, method, labels)
                if found:
                    rows.append([name, method, f"{labels:g} %", *(_cell(found, key) for key in metrics)])
    return Section(title="All scores", header=header, rows=rows)


def _comparisons(grid: Grid, results: Results) -> Iterator[Section]:
    metrics = _metrics(grid)
    rows = []
    for less, more in grid.compare:
        for method in _methods(grid):
            one, other = results.of(less, method), results.of(more, method)
            seeds = sorted({s.seed for s in one} & {s.seed for s in other})
            if not seeds:
                continue
            pair = [{s.seed: s.values for s in side} for side in (one, other)]
            cells = [
                over_seeds([pair[1][seed][key] - pair[0][seed][key] for seed in seeds], signed=True) for key in metrics
            ]
            rows.append([f"{more} less {less}", method, *cells])
    if rows:
        text = "With the same seed, points. An interval that spans 0 is no evidence of an order."
        yield Section(
            title="Differences between arms", text=[text], header=["", "method", *metrics.values()], rows=rows
        )


def _methods(grid: Grid) -> list[str]:
    """Of the frozen encoder, or the one of a transfer."""
    transfer = grid.evaluation.transfer
    return list(grid.evaluation.methods) if transfer is None else [transfer.task]


def _metrics(grid: Grid) -> dict[str, str]:
    """Titles of the reported scores by name."""
    transfer = grid.evaluation.transfer
    return FROZEN if transfer is None else TRANSFER[transfer.task]


def _differences(grid: Grid, settings: dict[str, TrainConfig]) -> Section:
    """Where the arms' settings are not the published ones, which are those of the recipes with the table's own."""
    transfer = grid.evaluation.transfer
    items = list(PROTOCOL if transfer is None else TRANSFER_PROTOCOL[transfer.task])
    items += [CLUSTERS] if settings else []
    for name, config in settings.items():
        if config.arm not in PUBLISHED:
            items.append(f"{name}: the paper does not give this arm's settings in full.")
            continue
        given = {"data": config.data, "out": config.out}
        recipe = merge(read_recipe(PUBLISHED[config.arm]), TABLES[grid.table].settings)
        published = _method(type(config).model_validate(recipe | given))
        own = _method(config)
        changed = [f"{key} {own[key]} ({published[key]})" for key in own if own[key] != published[key]]
        items.append(f"{name}: {', '.join(changed)}" if changed else f"{name}: as published.")
    text = ["Ours, and in brackets what is published."]
    return Section(title="Differences from the published protocol", text=text, items=items)


def _method(config: TrainConfig) -> dict[str, Any]:
    """The settings that say what is learnt, by their dotted names."""
    flat = flatten(config.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if not key.startswith(NOT_THE_METHOD)}


def _cost(metrics: Metrics) -> Section:
    """What was computed; how long it took, which is no part of the result, is in timing.csv."""
    rows = [
        [name, str(seed), f"{found[-1]['step']:,}", f"{found[-1]['epoch']:,}"]
        for (name, seed), found in metrics.items()
        if found
    ]
    text = ["Steps and epochs of pretraining. Seconds of every part, on the machine that it ran on, are in timing.csv."]
    return Section(title="Cost", text=text, header=["arm", "seed", "steps", "epochs"], rows=rows)


def _cell(scores: list[Score], key: str) -> str:
    if not scores or any(key not in score.values for score in scores):
        return "-"
    within = [score.intervals[key] for score in scores if key in score.intervals]
    return over_seeds([s.values[key] for s in scores], within=within if len(within) == len(scores) else None)


def _write_scores(path: Path, grid: Grid, results: Results) -> None:
    """A line for every score, shares."""
    names = sorted({name for score in results.scores for name in score.values})
    rows = [
        [
            score.arm,
            grid.arms[score.arm].method if score.arm in grid.arms else "",
            score.seed,
            score.method,
            f"{score.labels:g}",
            *(score.values.get(name, math.nan) for name in names),
        ]
        for score in results.scores
    ]
    write_csv(path, ["arm", "method of the paper", "seed", "method", "labels", *names], rows)
