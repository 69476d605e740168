"""`geossl data stats` as a user types it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from geossl.cli import main
from geossl.data.band_stats import BandStats

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def copied(planet: Path, tmp_path: Path) -> Path:
    """An index of its own, so that no other test finds statistics."""
    shutil.copytree(planet.parent, tmp_path / "planet")
    return tmp_path / "planet" / planet.name


def test_statistics_from_the_command_line(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", str(copied), "--sample", "20", "--plot", str(tmp_path / "bands.png")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("20 images, 3 bands, uint8\n")
    assert all(name in said for name in ("red", "green", "blue"))
    assert "a sample of" in said
    found = BandStats.find(copied)
    assert found is not None
    assert found.images == 20
    with Image.open(tmp_path / "bands.png") as image:
        assert image.format == "PNG"
    assert main(["data", "stats", str(copied), "--whole", "--out", str(tmp_path / "whole.json")]) == 0
    assert "a sample of" not in capsys.readouterr().out
    whole = BandStats.read(tmp_path / "whole.json")
    assert whole.images == whole.total > 20


def test_mistakes(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--sample", "0"], "--sample 0"),
        (["--out", str(copied / "x.json")], "cannot be written"),
        (["--root", str(tmp_path)], "its images are not under"),
    ):
        assert main(["data", "stats", str(copied), *words]) == 2
        assert message in capsys.readouterr().err
