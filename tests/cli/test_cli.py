"""The commands as a user types them: what they leave, and what they say to wrong input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from geossl.cli import main

TINY = [
    *("--crop.size", "32", "--model.backbone", "resnet18", "--batch", "16", "--model.queue", "32"),
    *("--model.bn-groups", "2", "--loader.threads", "2", "--device", "cpu"),
]


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def complaint(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that a wrong command says; its exit code is 2 and it prints nothing else."""
    code = run(*words)
    out, err = capsys.readouterr()
    assert code == 2, (out, err)
    assert err.startswith("geossl: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    return err


def copy_of(planet: Path, folder: Path) -> Path:
    shutil.copytree(planet.parent, folder, dirs_exist_ok=True)
    return folder / planet.name


@pytest.fixture(scope="session")
def trained(planet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "demo"
    assert run("train", "--recipe", "geo_tp", "--data", planet, "--out", out, *TINY, "--epochs", "2") == 0
    return out


def test_the_tour_leaves_a_run_and_its_scores(planet: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["checkpoints", "config.yaml", "metrics.csv", "metrics.jsonl", "tensorboard"]
    assert sorted(p.name for p in trained.iterdir()) == files
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "loss", "infonce", "geo", "pretext_acc", "feature_std", "images_per_sec", "loader_wait"} <= set(
        rows[0]
    )
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["arm"] == "geo_tp"
    assert config["crop"]["size"] == 32
    saved = torch.load(trained / "checkpoints" / "last.pt", weights_only=True)
    assert saved["arch"] == "resnet18"
    assert saved["state_dict"]["module.queue"].shape == (128, 32)
    assert saved["geo_dict"]["module.layers.1.weight"].shape == (8, 128)

    assert run("probe", trained, "--data", planet) == 0
    printed = capsys.readouterr().out
    assert "geo_tp" in printed
    assert "random" in printed
    report = json.loads((trained / "probe.json").read_text())
    assert {(r["encoder"], r["method"]) for r in report["rows"]} == {
        (encoder, method) for encoder in ("geo_tp", "random") for method in ("linear", "knn")
    }
    assert all(0 <= r["scores"][key] <= 1 for r in report["rows"] for key in ("top1", "f1", "place_top1"))


@pytest.mark.parametrize("arm", ["moco", "tp", "geo", "geoloc", "supervised", "paper_geo_tp"])
def test_every_recipe_trains(planet: Path, tmp_path: Path, arm: str) -> None:
    resize = ["--crop.resize", "40"] if arm.startswith("paper") else []
    words = ["train", "--recipe", arm, "--data", planet, "--out", tmp_path / "run", *TINY, *resize, "--epochs", "1"]
    assert run(*words) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    parts = {"moco": "infonce", "tp": "infonce", "supervised": "class_acc"}
    assert parts.get(arm, "geo") in rows[-1]


def test_four_band_geotiffs_train(tmp_path: Path) -> None:
    index = tmp_path / "p.parquet"
    assert run("data", "synth", tmp_path / "p", "--bands", "4", "--places", "30", "--size", "48", "--views", "3") == 0
    assert run("data", "index", tmp_path / "p", "-o", index) == 0
    table = pq.read_table(index)
    assert set(table["bands"].to_pylist()) == {4}
    assert set(table["dtype"].to_pylist()) == {"uint16"}
    assert run("train", "--recipe", "tp", "--data", index, "--out", tmp_path / "run", *TINY, "--epochs", "1") == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert len(config["color"]["mean"]) == 4, "measured, as there is no known mean of these bands"
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert saved["state_dict"]["module.encoder_q.conv1.weight"].shape[1] == 4
    assert run("probe", tmp_path / "run", "--data", index) == 0


def test_help_is_fast_to_load_and_imports_no_torch() -> None:
    heavy = "{'torch', 'sklearn', 'rasterio', 'pyarrow'}"
    script = f"import sys, geossl.cli; geossl.cli.main(['--help']); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Geography-aware" in done.stdout


def test_python_m_geossl_is_the_command(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "geossl", "data", "index", str(tmp_path / "none"), "-o", str(tmp_path / "x.parquet")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("geossl: ")


def test_missing_and_empty_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.parquet"
    assert str(tmp_path / "none") in complaint(capsys, "data", "index", tmp_path / "none", "-o", out)
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in complaint(capsys, "data", "index", tmp_path / "empty", "-o", out)
    assert not out.exists()
    missing = tmp_path / "none.parquet"
    for words in (["train", "--data", missing, "--out", tmp_path / "run"], ["data", "cluster", missing, "-k", "3"]):
        assert "none.parquet" in complaint(capsys, *words)
    assert "none" in complaint(capsys, "probe", tmp_path / "none", "--data", out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty"]


def test_an_index_whose_images_moved(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = copy_of(planet, tmp_path / "a")
    (tmp_path / "a" / "planet").rename(tmp_path / "moved")
    line = complaint(capsys, "train", "--recipe", "tp", "--data", index, "--out", tmp_path / "run", *TINY)
    assert "planet.parquet" in line
    assert "--loader.root" in line
    assert not (tmp_path / "run").exists()
    words = ["--loader.root", tmp_path / "moved", "--epochs", "1"]
    assert run("train", "--recipe", "tp", "--data", index, "--out", tmp_path / "run", *TINY, *words) == 0


def test_an_index_moves_with_its_images(planet: Path, tmp_path: Path) -> None:
    index = copy_of(planet, tmp_path / "elsewhere")
    words = ["--out", tmp_path / "run", *TINY, "--epochs", "1"]
    assert run("train", "--recipe", "moco", "--data", index, *words) == 0


def test_typos_get_a_suggestion(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--data", planet, "--out", tmp_path / "run"]
    assert "Did you mean --optim.lr?" in complaint(capsys, *words, "--optim.lrr", "1")
    assert "did you mean geo_tp?" in complaint(capsys, *words, "--recipe", "geo_tpp")
    (tmp_path / "c.yaml").write_text("optim:\n  learning: 1\nmodel:\n  temperatur: 0.1\nepochs: many\n")
    line = complaint(capsys, *words, "--config", tmp_path / "c.yaml")
    assert "model.temperatur: no such setting; did you mean model.temperature?" in line
    assert "optim.learning: no such setting" in line
    assert "epochs: Input should be a valid integer" in line
    (tmp_path / "bad.yaml").write_text("a: [")
    assert "bad.yaml: not valid YAML" in complaint(capsys, *words, "--config", tmp_path / "bad.yaml")
    assert "none.yaml: cannot read the config file" in complaint(capsys, *words, "--config", tmp_path / "none.yaml")
    assert "data: not given" in complaint(capsys, "train", "--out", tmp_path / "run")
    assert "batch: Input should be greater than or equal to 2" in complaint(capsys, *words, "--batch", "1")
    assert not (tmp_path / "run").exists()


def test_settings_that_do_not_go_together(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--recipe", "moco", "--data", planet, "--out", tmp_path / "run"]
    assert "multiple of model.bn_groups" in complaint(capsys, *words, "--batch", "30", "--model.bn-groups", "4")
    assert "crop.center" in complaint(capsys, *words, "--crop.center")
    assert "crop.scale" in complaint(capsys, *words, "--crop.scale", "0.5", "0.2")
    # A recipe's value and the command line's are checked together, not each with the defaults.
    (tmp_path / "c.yaml").write_text("batch: 30\nmodel:\n  bn_groups: 2\n  queue: 60\n")
    more = ["--crop.size", "32", "--model.backbone", "resnet18", "--device", "cpu", "--epochs", "1"]
    assert run(*words, "--config", tmp_path / "c.yaml", *more) == 0


def test_more_clusters_than_places(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.parquet"
    line = complaint(capsys, "data", "cluster", planet, "-k", "1000", "--out", out)
    assert "k = 1000" in line
    assert "from 1 to 60" in line
    assert not out.exists()


def test_an_image_that_is_cut_short(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = copy_of(planet, tmp_path / "a")
    image = next((tmp_path / "a" / "planet" / "train").rglob("*.jpg"))
    image.write_bytes(image.read_bytes()[:-200])
    words = ["train", "--recipe", "moco", "--data", index, *TINY, "--epochs", "1"]
    code = run(*words, "--out", tmp_path / "run")
    err = capsys.readouterr().err
    assert code == 2
    assert err.count("\n") == 1
    assert str(image) in err
    assert "cut short" in err
    assert "--loader.on_error substitute" in err
    options = ["--loader.on-error", "substitute"]
    assert run(*words, "--out", tmp_path / "run2", *options) == 0
    (failure,) = [json.loads(line) for line in (tmp_path / "run2" / "failures.jsonl").read_text().splitlines()]
    assert failure["path"] == str(image)


def test_temporal_without_places(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pq.read_table(planet, columns=["path"])["path"].to_pylist()
    (planet.parent / "plain.csv").write_text("path\n" + "".join(f"planet/{p}\n" for p in rows[:64]))
    index = tmp_path / "plain.parquet"
    assert run("data", "index", planet.parent / "plain.csv", "-o", index) == 0
    capsys.readouterr()
    line = complaint(capsys, "train", "--recipe", "tp", "--data", index, "--out", tmp_path / "run", *TINY)
    assert "location_id" in line or "place" in line
    line = complaint(capsys, "train", "--recipe", "geo", "--data", index, "--out", tmp_path / "run", *TINY)
    assert "geossl data cluster" in line
    line = complaint(capsys, "train", "--recipe", "supervised", "--data", index, "--out", tmp_path / "run", *TINY)
    assert "categor" in line
    assert "no image has coordinates" in complaint(capsys, "data", "cluster", index, "-k", "2")
    assert not (tmp_path / "run").exists()
    words = ["train", "--recipe", "moco", "--data", index, "--out", tmp_path / "run", *TINY, "--epochs", "1"]
    assert run(*words) == 0


def test_resume_with_changed_settings_shows_the_difference(
    planet: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "checkpoints" / "last.pt").read_bytes()
    words = ["train", "--recipe", "geo_tp", "--data", planet, "--out", trained, *TINY, "--epochs", "2"]
    assert "--resume auto" in complaint(capsys, *words)
    assert run(*words, "--resume", "auto", "--optim.lr", "0.5", "--seed", "9") == 2
    shown, line = capsys.readouterr()
    assert "  seed: was 0, now 9\n  optim.lr: was 0.03, now 0.5\n" in shown
    assert "cannot resume with changed settings (seed, optim.lr)" in line
    assert (trained / "checkpoints" / "last.pt").read_bytes() == before


def test_an_index_made_twice_is_the_same(planet: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.parquet"
    assert run("data", "index", planet.parent / "planet", "-o", out, "--threads", "1") == 0
    first, second = (pq.read_table(p).replace_schema_metadata(None) for p in (planet, out))
    assert first.equals(second)
