"""What a program uses: the names of `geossl`, the examples in their docstrings, and docs/api.md as printed."""

import doctest
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import geossl
from geossl.errors import UsageError

DOC = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = ["api", "augment", "losses", "data.loader", "models.heads", "models.moco"]
"""Modules of the building blocks."""


@pytest.fixture
def here(planet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the planet that the examples use, which is the current one."""
    shutil.copytree(planet.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_are_imported_when_they_are_used() -> None:
    script = """
import sys
import geossl

def loaded(*names):
    return [name for name in names if name in sys.modules]

print(geossl.__version__ != "", loaded("torch", "numpy", "pydantic", "pyarrow", "rich"))
print(geossl.make_config, loaded("torch"))
print([name for name in geossl.__all__ if getattr(geossl, name)] == geossl.__all__, loaded("torch"))
print(callable(geossl.train), set(geossl.__all__) <= set(dir(geossl)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    first, second, third, last = done.stdout.splitlines()
    assert first == "True []"
    assert second.endswith("[]")
    assert third == "True ['torch']"
    assert last == "True True"
    with pytest.raises(AttributeError, match="module 'geossl' has no attribute 'trian'"):
        geossl.trian  # noqa: B018


def test_every_name_is_documented() -> None:
    named = set(re.findall(r"`(?:geossl\.)?(\w+)`", DOC.split("\n## ")[0]))
    assert set(geossl.__all__) - {"__version__"} <= named


@pytest.mark.parametrize("name", BLOCKS)
def test_the_examples_of_docstrings_run(here: Path, name: str) -> None:
    module = import_module(f"geossl.{name}")
    found = [t for t in doctest.DocTestFinder().find(module, extraglobs={"torch": torch}) if t.examples]
    assert found
    for test in sorted(found, key=lambda test: test.lineno or 0):
        told: list[str] = []
        torch.manual_seed(0)
        failed = doctest.DocTestRunner().run(test, out=told.append).failed
        assert not failed, "".join(told)


def test_every_block_has_an_example() -> None:
    for block in (geossl.train, geossl.load_backbone, geossl.Loader, geossl.augment.augment, geossl.MoCo,
                  geossl.build_encoder, geossl.GeoHead, geossl.losses.info_nce):  # fmt: skip
        assert ">>> " in (block.__doc__ or ""), block


def test_the_examples_of_the_page_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, loop = re.findall(r"```python\n(.*?)```", DOC, flags=re.DOTALL)
    names: dict = {}
    exec(compile(run, "api.md", "exec"), names)  # noqa: S102 - our own documentation
    assert names["result"].finished
    names = {}
    exec(compile(loop, "api.md", "exec"), names)  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["0", "1"]
    saved, trained = geossl.load_backbone("mine.pth"), names["moco"].encoder_q.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in saved.module.state_dict().items())


def test_settings_by_name_or_a_config(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"data: not given.*; epochs: "):
        geossl.train(out="run", epochs=0)
    config = geossl.make_config({"data": "none.parquet", "out": "run"})
    with pytest.raises(UsageError, match=r"none\.parquet"):
        geossl.train(config)
    with pytest.raises(UsageError, match="a config, or settings by name, not both"):
        geossl.train(config, epochs=3)
    with pytest.raises(UsageError, match="did you mean geo_tp"):
        geossl.train(recipe="geotp", data="planet.parquet", out="run")
    with pytest.raises(UsageError, match="no such run"):
        geossl.load_backbone("none")
    assert capsys.readouterr().out == ""
