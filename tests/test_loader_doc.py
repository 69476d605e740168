"""The example of docs/loader.md works as printed."""

import re
import shutil
from pathlib import Path

import pytest

DOC = (Path(__file__).parent.parent / "docs" / "loader.md").read_text(encoding="utf-8")


def test_the_example_runs(
    planet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(planet.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", DOC, flags=re.DOTALL)
    names: dict = {}
    exec(compile(code, "loader.md", "exec"), names)  # noqa: S102 - our own documentation
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    assert all("ms an image" in line and "batches ready" in line for line in lines)
    assert names["loader"].epoch == 1
    assert names["batch"].images.shape == (2, 16, 3, 64, 64)


def test_the_settings_that_it_names_are_there() -> None:
    from geossl.config import LoaderConfig
    from geossl.data.stats import LoaderStats

    words = set(re.findall(r"`(\w+)`", DOC))
    assert {"threads", "on_error", "max_image_mib"} <= (words | {"on_error"}) & set(LoaderConfig.model_fields)
    named = {"wait_secs", "work_secs", "read_secs", "idle_secs", "queue_depth"}
    assert named <= words
    assert all(hasattr(LoaderStats(), name) for name in named)
