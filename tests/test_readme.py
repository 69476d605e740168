"""What the README shows works as printed."""

import re
import shutil
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_example_runs(planet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(planet.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own README
    assert names["query"].shape == names["key"].shape == (32, 3, 64, 64)


def test_the_commands_options_and_recipes_are_known() -> None:
    from geossl.cli import app

    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith("geossl ")]
    assert {line.split()[1] for line in lines} >= {"data", "train", "probe", "finetune", "embed", "export", "reproduce"}
    for line in lines:
        app.parse_args(line.split()[1:], exit_on_error=False, print_error=False)


def test_the_recipes_are_the_shipped_ones() -> None:
    from geossl.config import make_config
    from geossl.recipes import read_recipe, recipe_names

    table = README[README.index("| `--recipe`") :].split("\n\n")[0]
    listed = set(re.findall(r"`([a-z_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:])))
    assert listed | {"laptop"} == set(recipe_names())
    for name in recipe_names():
        make_config(read_recipe(name), {"data": "x.parquet", "out": "run"})
