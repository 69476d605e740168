"""`geossl recipes`, and the settings that `geossl train` prints."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from geossl.cli import main
from geossl.config import make_config
from geossl.recipes import read_recipe, recipe_names


def test_every_recipe_is_listed_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    assert all(len(line.split()) > 4 and line.endswith(".") and len(line) <= 120 for line in lines)


def test_a_recipe_is_shown_and_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "show", "laptop"]) == 0
    shown = capsys.readouterr().out
    assert yaml.safe_load(shown) == read_recipe("laptop")
    assert main(["recipes", "copy", "laptop"]) == 0
    assert (tmp_path / "laptop.yaml").read_text() == shown

    mine = tmp_path / "mine.yaml"
    mine.write_text("batch: 7\n")
    capsys.readouterr()
    assert main(["recipes", "copy", "laptop", "mine.yaml"]) == 2
    assert "mine.yaml: exists already; replace it with --force" in capsys.readouterr().err
    assert mine.read_text() == "batch: 7\n"
    assert main(["recipes", "copy", "laptop", "mine.yaml", "--force"]) == 0
    assert mine.read_text() == shown
    assert main(["recipes", "copy", "laptop", "none/mine.yaml"]) == 2
    assert "none/mine.yaml: cannot be written (No such file or directory)" in capsys.readouterr().err
    assert main(["recipes", "show", "geotp"]) == 2
    assert "recipe geotp: no such recipe; did you mean geo_tp?" in capsys.readouterr().err


def test_recipes_then_files_then_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("epochs: 7\nbatch: 32\noptim: {lr: 0.1, momentum: 0.5}\n")
    (tmp_path / "b.yaml").write_text("optim: {lr: 0.2}\nbatch: 16\n")
    words = ["--recipe", "geo", "--recipe", "laptop", "--data", "x", "--out", "y", "--print-config"]
    assert main(["train", "--batch", "8", "--config", "a.yaml", "--config", "b.yaml", *words]) == 0
    text = capsys.readouterr().out
    made = make_config(yaml.safe_load(text))
    assert (made.arm, made.epochs, made.batch) == ("geo", 7, 8)
    assert (made.optim.lr, made.optim.momentum, made.crop.size) == (0.2, 0.5, 32)
    for line in ("arm: geo  # recipe geo", "size: 32  # recipe laptop", "epochs: 7  # a.yaml", "lr: 0.2  # b.yaml",
                 "batch: 8  # command line", "dim: 128  # default"):  # fmt: skip
        assert line in [given.strip() for given in text.splitlines()]
    (tmp_path / "c.yaml").write_text(text)
    assert main(["train", "--config", "c.yaml", "--print-config"]) == 0
    assert make_config(yaml.safe_load(capsys.readouterr().out)) == made
    assert main(["train", "--config", "b.yaml", "--config", "a.yaml", *words]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["optim"]["lr"] == 0.1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.yaml", "b.yaml", "c.yaml"]


def test_options_of_earlier_versions(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in [
        (["--model.init", "w.pth"], "model.init: is now init_from"),
        (["--color.blur-p", "0.1"], "color.blur_p: is now color.blur (probability, from, to)"),
        (["--loader.slots", "3"], "loader.slots: no longer a setting; four batches are held"),
    ]:
        assert main(["train", "--data", "x", "--out", "y", *words]) == 2
        assert capsys.readouterr().err == f"geossl: {said}\n"


@pytest.mark.parametrize(
    "words", [["recipes", "--help"], ["recipes", "list"], ["train", "--help"], ["train", "--print-config"]]
)
def test_these_import_no_torch(words: list[str]) -> None:
    script = f"import sys, geossl.cli; geossl.cli.main({words!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "False"
