"""The examples of docs/evaluation.md work as printed, and it names what there is."""

import re
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from made_predictions import index_of, predictions, random_case

from geossl.evaluate.baselines import BASELINES
from geossl.evaluate.bootstrap import METRICS
from geossl.evaluate.classifiers import METHODS
from geossl.evaluate.metrics import Scores
from geossl.evaluate.predictions import writing_predictions

DOC = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
COMPARE, OWN = re.findall(r"```python\n(.*?)```", DOC, flags=re.DOTALL)


def run(code: str) -> dict:
    names: dict = {}
    exec(compile(code, "evaluation.md", "exec"), names)  # noqa: S102 - our own documentation
    return names


def test_the_commands_are_known():
    from geossl.cli import app

    lines = re.findall(r"^(?:\$ )?geossl (.*)$", DOC, flags=re.MULTILINE)
    assert len(lines) == 9
    for line in lines:
        app.parse_args(line.split(), exit_on_error=False, print_error=False)


def test_two_runs_are_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    probabilities, labels, places = random_case(n=80, places=20)
    index = index_of(tmp_path, location_id=[str(place) for place in places])
    better = (probabilities + 0.5 * np.eye(9, dtype="f4")[labels]) / 1.5
    for arm, made in (("moco", probabilities), ("tp", better)):
        file = Path("runs") / arm / "probe" / "predictions.parquet"
        with writing_predictions(file, index=index, classes=[f"class {i}" for i in range(9)]) as write:
            write(predictions(made, labels, index.places, encoder=arm))
    run(COMPARE)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(METRICS)
    assert all(line.split(": ")[1].startswith("+") for line in lines)


def test_predictions_of_ones_own_are_reported(planet, tmp_path, monkeypatch, capsys):
    shutil.copytree(planet.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names = run(OWN)
    assert names["row"].scores.images == len(names["test"])
    assert "Interval(low=" in capsys.readouterr().out
    assert {file.name for file in Path("mine").iterdir()} >= {"predictions.parquet", "breakdowns.csv"}
    assert all(f"`{file.name}`" in DOC.replace("probe/", "") for file in Path("mine").iterdir())


@pytest.mark.parametrize("name", [*METHODS, *BASELINES])
def test_every_method_and_baseline_is_described(name):
    assert f"- **{name}**:" in DOC


def test_every_score_is_described():
    of_images = {field.name for field in fields(Scores)} - {"images", "places"}
    named = set(re.findall(r"`(\w+)`", DOC))
    assert {name for name in of_images if not name.startswith("place_")} <= named
    assert "with `place_` before the name" in DOC
