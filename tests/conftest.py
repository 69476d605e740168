"""What several tests share."""

import os
from pathlib import Path

import pytest

# Small tensors on several threads are slower than on one, and far slower beside other work. Set before torch is
# imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def planet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Index of a small made planet, with clusters beside it."""
    from geossl.cli import main

    folder = tmp_path_factory.mktemp("planet")
    index = folder / "planet.parquet"
    assert main(["data", "synth", str(folder / "planet"), "--places", "60", "--size", "48", "--views", "4"]) == 0
    assert main(["data", "index", str(folder / "planet"), "-o", str(index)]) == 0
    assert main(["data", "cluster", str(index), "-k", "8"]) == 0
    return index


@pytest.fixture(scope="session")
def spacenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Index of a made SpaceNet 1, with its footprints beside it."""
    from geossl.data.spacenet import index_spacenet
    from geossl.data.synth.spacenet import make_spacenet

    folder = tmp_path_factory.mktemp("spacenet")
    make_spacenet(folder / "spacenet", images=30, size=96)
    index_spacenet(folder / "spacenet", out=folder / "spacenet.parquet", images="rgb", test=0.2, seed=0)
    return folder / "spacenet.parquet"
