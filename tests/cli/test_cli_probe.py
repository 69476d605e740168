"""`geossl probe` from the command line: what is printed, what is left, and what mistakes are called."""

import json
from pathlib import Path

import pytest
from test_cli import TINY, complaint, run


@pytest.fixture(scope="module")
def trained(planet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "geo"
    assert run("train", "--recipe", "geo", "--data", planet, "--out", out, *TINY, "--epochs", "1") == 0
    return out


def test_a_table_with_intervals_and_details(planet: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["probe", trained, "--data", planet, "--device", "cpu", "--threads", "1"]
    assert run(*words, "--methods", "knn, linear", "--labels", "10,100", "--baselines", "statistics") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["encoder", "method", "labels", "per"]
    made_by = [line.split()[:3] for line in lines[1:17:2]]
    assert made_by == [
        [encoder, method, share]
        for encoder in ("geo", "statistics")
        for method in ("knn", "linear")
        for share in ("10", "100")
    ]
    assert any(line.startswith("geo head: ") and " of 8 clusters right" in line for line in lines)
    assert "[" in lines[1]
    assert lines[-1] == f"-> {trained / 'probe.json'}, {trained / 'probe'}"
    assert not any(line.startswith("by country") for line in lines)
    assert sorted(file.name for file in (trained / "probe").iterdir()) == [
        "breakdowns.csv",
        "calibration.png",
        "classes.csv",
        "confusion.csv",
        "confusion.png",
        "predictions.parquet",
    ]
    report = json.loads((trained / "probe.json").read_text(encoding="utf-8"))
    assert [row["labels"] for row in report["rows"]] == [10, 100] * 4
    assert report["geo"]["images"] == report["test_images"]

    assert run(*words, "--methods", "knn", "--baselines", "none", "--details") == 0
    lines = capsys.readouterr().out.splitlines()
    for title in ("places: top-1, F1", "by country (geo, knn)", "by distance_km (geo, knn)", "the hardest classes"):
        assert any(line.startswith(title) for line in lines)
    report = json.loads((trained / "probe.json").read_text(encoding="utf-8"))
    assert [(row["encoder"], row["method"]) for row in report["rows"]] == [("geo", "knn")]


def test_mistakes_are_one_line(planet: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["probe", trained, "--data", planet]
    assert "--labels ten: give shares of the training places in per cent" in complaint(
        capsys, *words, "--labels", "ten"
    )
    assert "--methods svm: give some of: linear, knn, logistic" in complaint(capsys, *words, "--methods", "svm")
    known = "random, statistics, random_conv"
    assert f"give some of: {known}" in complaint(capsys, *words, "--baselines", "random,none")
