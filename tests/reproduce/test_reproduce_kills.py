"""Killed at any operation on its files, the same command goes on, and ends with the same report."""

import random
import signal
from pathlib import Path

import pytest
from reproduce_data import write_grid

from forked import Forked

REPORT = ("report.md", "report.html", "scores.csv", "settings.yaml", "curves.png", "density.png", "clusters.png")


@pytest.fixture
def run(tmp_path):
    """Calls the server: (folder, operation at which it dies) -> exit code."""
    grid = write_grid(tmp_path / "tiny.yaml")
    with Forked(Path(__file__).with_name("reproduce_server.py")) as forked:
        yield lambda out, dies=None: forked(grid=grid, out=str(out), dies=dies)


def test_a_grid_that_is_killed_again_and_again(run, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert run(straight) == 0
    draw, kills = random.Random(0), 0
    while (code := run(killed, dies=draw.randint(15, 90))) == -signal.SIGKILL:
        kills += 1
        assert kills < 50, "it gets no further"
    assert code == 0
    assert kills >= 6
    for name in REPORT:
        assert (killed / name).read_bytes() == (straight / name).read_bytes(), name
    assert {path.name for path in killed.iterdir()} == {path.name for path in straight.iterdir()}
