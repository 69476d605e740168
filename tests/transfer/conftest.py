"""A small made set of detection."""

import pytest

from geossl.data.synth.detection import make_detection
from geossl.data.xview import read_xview


@pytest.fixture(scope="session")
def xview(tmp_path_factory):
    """Index of a made xView, with its objects beside it."""
    folder = tmp_path_factory.mktemp("xview")
    make_detection(folder / "xview", images=8, size=320)
    read_xview(folder / "xview", test=2).write(folder / "xview.parquet")
    return folder / "xview.parquet"
