"""A small made set of each task."""

import pytest

from geossl.data.spacenet import index_spacenet
from geossl.data.synth.detection import make_detection
from geossl.data.synth.spacenet import make_spacenet
from geossl.data.xview import read_xview


@pytest.fixture(scope="session")
def xview(tmp_path_factory):
    """Index of a made xView, with its objects beside it."""
    folder = tmp_path_factory.mktemp("xview")
    make_detection(folder / "xview", images=8, size=320)
    read_xview(folder / "xview", test=2).write(folder / "xview.parquet")
    return folder / "xview.parquet"


@pytest.fixture(scope="session")
def spacenet(tmp_path_factory):
    """Index of a made SpaceNet 1, with its footprints beside it."""
    folder = tmp_path_factory.mktemp("spacenet")
    make_spacenet(folder / "spacenet", images=30, size=96)
    index_spacenet(folder / "spacenet", out=folder / "spacenet.parquet", images="rgb", test=0.2, seed=0)
    return folder / "spacenet.parquet"
