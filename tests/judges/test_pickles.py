"""Pickles are data here: what they ask to be run is not."""

import os
import pickle
from collections import OrderedDict
from datetime import UTC, date, datetime

import numpy as np
import pytest
import rasterio

from geossl.judges.pickles import Record, read_pickle


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_what_a_pickle_asks_for_is_noted_and_not_run(tmp_path):
    data = pickle.dumps({"bomb": Bomb(str(tmp_path / "made")), "label": 3})
    got = read_pickle(data)
    assert got["label"] == 3
    assert isinstance(got["bomb"], Record)
    assert (got["bomb"].kind, got["bomb"].args) == ("mkdir", (str(tmp_path / "made"),))
    assert not (tmp_path / "made").exists()
    pickle.loads(data)  # noqa: S301 - shows that there was something to run
    assert (tmp_path / "made").exists()


def test_plain_values_are_themselves_and_objects_records():
    values = {
        "numbers": [1, 2.5, None, True],
        "date": date(2016, 3, 1),
        "instant": datetime(2016, 3, 1, 4, tzinfo=UTC),
        "ordered": OrderedDict(a=1),
        "int64": np.int64(7),
        "float32": np.float32(0.5),
    }
    assert read_pickle(pickle.dumps(values)) == values
    transform = read_pickle(pickle.dumps(rasterio.Affine(1, 2, 3, 4, 5, 6)))
    assert transform.args[:6] == (1, 2, 3, 4, 5, 6)
    assert transform.get("a") == 1
    crs = read_pickle(pickle.dumps(rasterio.CRS.from_epsg(32633)))
    assert rasterio.CRS.from_wkt(crs.state).to_epsg() == 32633
    assert crs.get("anything") is None

    assert isinstance(read_pickle(pickle.dumps(np.arange(3))), Record), "an array is an object like others"


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps([1, 2])[:-3]])
def test_what_is_no_pickle_is_a_value_error(data):
    with pytest.raises(ValueError, match="not a pickle"):
        read_pickle(data)
