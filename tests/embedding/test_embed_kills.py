"""Killed at any operation on its files, the same command goes on, and ends with the same bytes."""

import json
import random
import shutil
import signal
from itertools import count
from pathlib import Path

import pytest
from embedding_data import make_index

from forked import Forked

KILLED = -signal.SIGKILL


@pytest.fixture
def data(tmp_path):
    """An index of 40 images, one of which is broken: three parts."""
    path = make_index(tmp_path, 40)
    image = tmp_path / "images" / "020.jpg"
    image.write_bytes(image.read_bytes()[:-300])
    return path


@pytest.fixture
def embed(run, data):
    """Starts `embed` at once: (out, operation at which it dies) -> exit code."""
    with Forked(Path(__file__).with_name("embed_server.py")) as forked:
        yield lambda out, dies=None: forked(run=str(run), data=str(data), out=str(out), dies=dies)


def contents(folder):
    """All files by name, but for the time in the item."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    item = json.loads(found["features.stac.json"])
    del item["properties"]["processing:datetime"]
    return found | {"features.stac.json": item}


def parts(folder):
    return list(folder.glob("features.parquet.parts/0*.parquet"))


def test_a_command_that_is_killed_again_and_again(embed, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    straight.mkdir()
    killed.mkdir()
    assert embed(straight / "features.parquet") == 0
    wanted = contents(straight)
    assert set(wanted) == {"features.parquet", "features.stac.json", "features.parquet.failures.jsonl"}

    # From what each left, on to the next, until one survives.
    draw = random.Random(0)
    kept = []
    while (code := embed(killed / "features.parquet", dies=draw.randint(2, 9))) == KILLED:
        if not (killed / "features.parquet").exists():
            kept.append(len(parts(killed)))
    assert code == 0
    assert kept[0] < 2
    assert kept[-1] == 3
    assert kept == sorted(kept), "finished parts are kept"
    assert contents(killed) == wanted

    # The end, when all parts are there: at every single operation.
    full, again = tmp_path / "full", tmp_path / "again"
    full.mkdir()
    while len(parts(full)) < 3:
        assert embed(full / "features.parquet", dies=6) == KILLED  # with one more part
    assert not (full / "features.parquet").exists()
    for number in count(1):
        shutil.copytree(full, again)
        code = embed(again / "features.parquet", dies=number)
        if code == KILLED:
            assert embed(again / "features.parquet") == 0
        assert contents(again) == wanted, number
        shutil.rmtree(again)
        if code == 0:
            break
    assert number > 12
