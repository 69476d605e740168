"""The loader's benchmark runs, and computes what it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHES = Path(__file__).parent.parent / "benches"


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHES))


def test_it_runs_end_to_end(tmp_path: Path) -> None:
    out, page, plot = tmp_path / "out.json", tmp_path / "page.md", tmp_path / "page.svg"
    asked = (
        "--sets 224 --images 6 --pairs 32 --repetitions 1 --threads 1 --modes temporal --sources files --peers pil,io"
    )
    folders = ["--data", tmp_path / "none", "--work", tmp_path / "work"]
    files = ["--json", out, "--report", page, "--plot", plot]
    command = [sys.executable, BENCHES / "loader.py", *asked.split(), *folders, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    results = json.loads(out.read_text())
    keys = {"command", "machine", "settings", "sets", "versions", "step", "runs", "absences"}
    assert results.keys() == keys
    assert results["absences"] == []
    assert [(run["set"], run["mode"], run["threads"], run["loader"]) for run in results["runs"]] == [
        ("224", "temporal", 1, loader) for loader in ("geossl files", "torchvision PIL", "torchvision.io")
    ]
    assert all(len(run["rates"]) == 1 and run["rates"][0] > 0 for run in results["runs"])
    assert results["sets"][0]["images"] == 6
    assert results["sets"][0]["origin"] == "made planet"
    assert "torchvision" in results["versions"]["torchvision PIL"]
    assert "| 224 | geossl files |" in page.read_text()
    assert "(page.svg)" in page.read_text()
    assert plot.read_text().lstrip().startswith("<?xml")


def test_ratios_are_medians_of_the_repetitions_own(benches: None) -> None:
    from figures import Figures
    from measure import Run

    def run(loader: str, threads: int, rates: list[float]) -> Run:
        return Run("900x700", "temporal", threads, loader, rates)

    # The machine is twice as slow in the second repetition: the ratios do not see it.
    figures = Figures(
        [
            run("geossl files", 1, [300, 150, 330]),
            run("geossl files", 2, [600, 300, 600]),
            run("torchvision PIL", 1, [100, 50, 100]),
            run("OpenCV", 1, [200, 110, 200]),
            run("floor", 1, [400, 200, 300]),
        ]
    )
    assert figures.best_peer("900x700", "temporal", 1) == "OpenCV"
    checks = {(check.what, check.threads): check for check in figures.checks()}

    def check(what: str, threads: str = "1") -> tuple[float | None, str]:
        found = checks[f"temporal, 900x700, files: {what}", threads]
        return found.measured, found.verdict

    assert check("against the best peer (OpenCV)") == (1.5, "met")
    assert check("against torchvision PIL") == (3.0, "missed")
    assert check("share of the floor") == (0.75, "missed")
    assert check("two threads against one", "2") == (2.0, "met")
    assert check("against torchvision PIL", "2") == (None, "not measured")


def test_windows_are_those_of_torchvision(benches: None) -> None:
    import torch
    from torchvision.transforms import RandomResizedCrop

    from work import RATIO, SCALE, window

    image = torch.empty(3, 700, 900)
    theirs = [RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(4000)]
    ours = [window(900, 700, SCALE) for _ in range(4000)]
    assert all(0 <= x <= 900 - w and 0 <= y <= 700 - h and w > 0 and h > 0 for x, y, w, h in ours)
    area = sum(w * h for _, _, w, h in ours) / sum(h * w for _, _, h, w in theirs)
    assert 0.97 < area < 1.03  # four standard errors


def test_geotiffs_ratios_and_targets(tmp_path: Path) -> None:
    def run(loader: str, rates: list[float]) -> dict:
        return {"set": "lzw", "loader": loader, "rates": rates}

    # The machine is twice as slow in the second repetition.
    runs = [
        run("geossl files", [60, 30, 66]),
        run("geossl lossless", [100, 50, 100]),
        run("rasterio", [40, 20, 44]),
        run("floor", [80, 40, 80]),
    ]
    row = {"name": "lzw", "bands": 8, "side": 512, "mebibytes": 1.5, "ratio": 1.4, "codec": "lzw", "predictor": 2}
    results = {
        "command": "python benches/geotiff.py",
        "machine": {"cpu": "a", "cores": 2, "siblings": "b", "system": "c", "load": 0.0, "load_after": 0.0},
        "settings": {"repetitions": 3, "crops": 64, "batch": 32, "size": 224, "scale": [0.2, 1]},
        "sets": [row | {"planar": False, "block": [256, 256], "images": 9}],
        "runs": runs,
        "absences": [{"loader": "torchgeo", "reason": "no network"}],
        "versions": {"rasterio": {"rasterio": "1"}},
    }
    told, page = tmp_path / "told.json", tmp_path / "page.md"
    told.write_text(json.dumps(results))
    command = [sys.executable, BENCHES / "geotiff.py", "--load", told, "--report", page, "--check"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=100)
    assert done.returncode == 1, done.stderr
    text = page.read_text()
    assert "| lzw: files against rasterio | 1.2x | 1.50 | met |" in text
    assert "| lzw: lossless pack against rasterio | 2.5x | 2.50 | met |" in text
    assert "| lzw: files, share of the codec alone | 0.85x | 0.75 | missed |" in text
    assert "| torchgeo | no network |" in text
    results["runs"][3]["rates"] = [70, 35, 77]
    told.write_text(json.dumps(results))
    subprocess.run(command, check=True, capture_output=True, timeout=100)


def test_other_results_are_a_missed_target(benches: None) -> None:
    from geography_report import Comparison, markdown, packed

    def comparison(*, agrees: bool, target: float) -> Comparison:
        # The machine is twice as slow in the second repetition.
        times = {"ours": [1.0, 2.0, 1.0], "theirs": [3.0, 6.0, 4.0]}
        return Comparison(what="work", peer="peer", **times, target=target, same="labels", agrees=agrees)

    made = [comparison(agrees=True, target=3), comparison(agrees=True, target=3.5), comparison(agrees=False, target=3)]
    assert [c.ratio for c in made] == [3, 3, 3]
    assert [c.verdict for c in made] == ["met", "missed", "missed: other results"]
    assert [Comparison(**row) for row in packed(made)] == made
    machine = {"cpu": "x", "cores": 2, "siblings": "y", "system": "z", "load": 0.0, "load_after": 0.5}
    page = markdown({"command": "run", "machine": machine, "versions": {"python": {"faiss-cpu": "1"}}}, made)
    assert "| work | peer | 4 s (3 s to 6 s) | 1 s (1 s to 2 s) | 3.0x | 3.5x | missed |" in page


def test_trainers_ratios_targets_and_curves(benches: None) -> None:
    import trainer_report

    def trainer(name: str, rates: list[float], losses: list[list[float]], passes: int = 1) -> dict:
        shape = {"size": 32, "batch": 64, "steps": 2}
        return shape | {"trainer": name, "passes": passes, "rates": rates, "losses": losses}

    # The machine is twice as slow in the second repetition.
    runs = [
        trainer("geossl", [80, 40, 80], [[1.0, 2.0], [1.0, 3.0], [1.0, 2.5]]),
        trainer("lightly", [50, 25, 40], [[1.5, 2.5]] * 3),
        trainer("solo-learn (symmetric loss)", [40, 20, 40], [[9.0, 9.0]] * 3, passes=2),
    ]
    step = {"batch": 64, "steps": 9, "ours_ms": 104.0, "by_hand_ms": 100.0, "quartiles": [0.01, 0.06]}
    step["losses_apart"] = 0.0
    results = {
        "command": "run",
        "set": "made",
        "machine": {"cpu": "x", "cores": 2, "siblings": "y", "system": "z", "load": 0.0, "load_after": 0.5},
        "overhead": [step | {"model": "small", "overhead": 0.02}, step | {"model": "large", "overhead": 0.04}],
        "wait": {"model": "ResNet-50", "steps": 2, "wait": 0.015, "spread": [0.01, 0.02], "secs": 8.0},
        "peers": {"runs": runs, "absences": {"other": "no network"}, "versions": {"lightly": {"lightly": "1"}}},
    }
    page = trainer_report.markdown(results)
    assert "| small, batch 64 | 9 | 100.0 | 104.0 | 2.0% (1.0% to 6.0%) | 3% | met | 0 |" in page
    assert "| 4.0% (1.0% to 6.0%) | 3% | missed | 0 |" in page
    assert "| ResNet-50 | 2 | 4.0 | 1.50% (1.00% to 2.00%) | 2% | met |" in page
    assert "| 32 pixels, batch 64 | lightly | 40.0 (25.0 to 50.0) | 1.60x | 1.3x | met |" in page
    assert "| solo-learn (symmetric loss) | 40.0 (20.0 to 40.0) | 1.00x | 1.3x | missed |" in page
    assert "| mean absolute difference from ours | 0.000 | 0.250 |" in page
    assert "| the same between two of our seeds | 0.500 |  |" in page
    assert "| other | no network |" in page
    assert trainer_report.missed(results)
