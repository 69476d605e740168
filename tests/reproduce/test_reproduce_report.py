"""The report: its figures are those of the evaluations' files."""

import csv
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from reproduce_data import write_grid
from scipy import stats

from geossl.errors import GeosslError
from geossl.reproduce.grid import read_grid
from geossl.reproduce.page import Section, to_html, to_markdown
from geossl.reproduce.report import write_report
from geossl.reproduce.results import cell_folder, collect
from geossl.reproduce.statistics import over_seeds

SEEDS = [0, 1, 2]
ABOUT = {"train_images": 1200, "train_places": 300, "test_images": 400, "test_places": 100, "classes": 5}


@pytest.fixture
def grid(tmp_path):
    return read_grid(write_grid(tmp_path / "tiny.yaml", seeds=SEEDS))


def draw(grid, out):
    """Reports of all cells with drawn scores; gives the scores by (encoder, method, seed)."""
    rng, drawn = np.random.default_rng(0), {}
    for seed in SEEDS:
        for arm in grid.arms:
            parts = {"finetune/finetune.json": [(arm, "finetune")]} if arm == "supervised" else {}
            if arm != "supervised":
                parts["probe.json"] = [(arm, "linear"), (arm, "knn")]
                parts["probe.json"] += [("statistics", "linear")] if arm == "moco" else []
            for name, rows in parts.items():
                for row in rows:
                    drawn[(*row, seed)] = float(rng.uniform(0.2, 0.9))
                content = [
                    {
                        "encoder": encoder,
                        "method": method,
                        "labels": 100.0,
                        "scores": dict.fromkeys(("f1", "top1", "place_f1", "place_top1"), drawn[encoder, method, seed])
                        | {"top5": None},
                        "intervals": {"top1": [0.1, 0.95]},
                    }
                    for encoder, method in rows
                ]
                path = cell_folder(out, arm, seed) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(
                    json.dumps(ABOUT | {"index_hash": "abc", "notes": ["a note"], "rows": content}), encoding="utf-8"
                )
    return drawn


def expected(values, sign=""):
    """Mean and Student's t interval by scipy."""
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return f"{100 * np.mean(values):{sign}.1f} [{100 * low:.1f}, {100 * high:.1f}]"


class Tables(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.cell = [], None

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.cell = ""

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        if tag in {"td", "th"}:
            self.rows[-1].append(self.cell)
            self.cell = None


def test_the_figures_are_those_of_the_evaluations(grid, tmp_path, planet):
    drawn = draw(grid, tmp_path)
    write_report(grid, "tiny", tmp_path, data=planet, left_out={"imagenet": "no file"})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]

    def of(encoder, method):
        return [drawn[encoder, method, seed] for seed in SEEDS]

    paper = next(row for row in rows if row[0] == "MoCo-V2+Geo+TP")
    assert paper == [
        "MoCo-V2+Geo+TP",
        *(expected(of("geo_tp", "linear")), "63.13", "-", "66.56"),
        *(expected(of("geo_tp", "linear")), "66.33", "-", "70.60"),
    ]
    scratch = next(row for row in rows if row[0] == "Supervised, scratch")
    assert (scratch[1], scratch[3], scratch[4]) == ("-", expected(of("supervised", "finetune")), "64.71")
    baseline = next(row for row in rows if row[:2] == ["statistics", "linear"])
    assert baseline[3] == expected(of("statistics", "linear"))
    differences = np.subtract(of("geo_tp", "knn"), of("moco", "knn"))
    assert ["geo_tp less moco", "knn", *[expected(differences, "+")] * 4] in rows
    assert "trained on 1,200 images of 300 places, tested on 400 images of 100 places" in text
    assert text.count("- a note") == 1
    assert "- Left out: imagenet: no file." in text
    # HTML has the same tables.
    page = Tables()
    page.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.rows == [row for row in rows if not set("".join(row)) <= set("-: ")]
    # The CSV has every score as it is.
    with (tmp_path / "scores.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert {(row["arm"], row["method"], int(row["seed"])): float(row["f1"]) for row in table} == drawn
    assert {row["top5"] for row in table} == {""}
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (tmp_path / picture).stat().st_size > 1000


def test_what_differs_from_the_published_settings_is_listed(grid, tmp_path, planet):
    write_report(grid, "tiny", tmp_path, data=planet, left_out={})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("- moco: "))
    for said in ("epochs 2 (200)", "batch 8 (256)", "model.temperature 0.1 (0.02)", "model.queue 16 (65536)"):
        assert said in line
    assert "device" not in line
    assert "crop.scale" not in line, "as published"


def test_the_published_settings_differ_in_nothing(tmp_path, planet):
    arms = {"moco": {"method": "MoCo-V2", "recipes": ["paper_moco"]}}
    grid = read_grid(write_grid(tmp_path / "paper.yaml", arms=arms, recipes=[], config={}, compare=[]))
    write_report(grid, "paper", tmp_path, data=planet, left_out={})
    assert "- moco: as published." in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_one_seed_has_the_interval_of_its_places():
    assert over_seeds([0.5], within=[(0.4, 0.65)]) == "50.0 [40.0, 65.0]"
    assert over_seeds([0.5]) == "50.0"
    assert over_seeds([0.02], signed=True) == "+2.0"
    assert over_seeds([0.5, math.nan]) == "-"
    assert over_seeds([]) == "-"
    assert over_seeds([0.5, 0.6, 0.65]) == expected([0.5, 0.6, 0.65])


def test_words_do_not_break_the_page():
    section = Section(title="<a> & b", text=["1 < 2"], header=["x|y"], rows=[["<b>|"]], items=["&"])
    assert "| x&#124;y |" in to_markdown("t", [section])
    made = to_html("<t>", [section])
    for word in ("<a>", "<b>", "<t>", "1 < 2"):
        assert word not in made
    page = Tables()
    page.feed(made)
    assert page.rows == [["x|y"], ["<b>|"]]


def test_a_damaged_evaluation_is_named(grid, tmp_path):
    draw(grid, tmp_path)
    path = cell_folder(tmp_path, "moco", 1) / "probe.json"
    path.write_text(path.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    with pytest.raises(GeosslError, match=r"moco-1/probe\.json: not a report of an evaluation .*; remove it"):
        collect(grid, tmp_path)
