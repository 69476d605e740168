import numpy as np
import pyarrow as pa
import pytest

from geossl.data.index import Index
from geossl.data.table import SCHEMA
from geossl.errors import UsageError
from geossl.evaluate.split import count_oblong, split_rows


def index_of(tmp_path, **columns):
    """An index in memory; what is not given is null."""
    n = len(next(iter(columns.values())))
    filled = {
        "path": [f"{i}.png" for i in range(n)],
        "width": [8] * n,
        "height": [8] * n,
        "bands": [3] * n,
    } | columns
    table = pa.table({f.name: pa.array(filled.get(f.name, [None] * n), f.type) for f in SCHEMA}, schema=SCHEMA)
    return Index(table=table, root=tmp_path, content_hash="0", source=tmp_path / "planet.parquet")


def split(index, **options):
    return split_rows(index, **({"train": "train", "test": "val", "seed": 0} | options))


def test_splits_of_the_index(tmp_path):
    index = index_of(
        tmp_path,
        category=["a", "b", "a", None, "b", "a"],
        location_id=list("pqrstu"),
        split=["val", "train", "train", "train", "test", None],
    )
    got = split(index)
    assert got.train.tolist() == [1, 2]
    assert got.test.tolist() == [0]
    assert got.notes == ["1 of 3 images of 'train' have no category: left out"]
    assert split(index, test="test").test.tolist() == [4]
    several = split(index, test="test, val,test")
    assert (several.train.tolist(), several.test.tolist(), several.notes) == ([1, 2], [0, 4], got.notes)
    with pytest.raises(UsageError, match="--split-train and --split-test share val: the scores would mean nothing"):
        split(index, train="train,val", test="val,test")
    with pytest.raises(UsageError, match="no split 'tset'; give --split-test one of: test, train, val"):
        split(index, test="val,tset")


def test_without_splits_whole_places_are_drawn(tmp_path):
    places = np.repeat(np.arange(50), np.arange(50) % 4 + 1)
    index = index_of(tmp_path, category=[f"c{p % 3}" for p in places], location_id=[str(p) for p in places])
    got = split(index)
    train, test = set(places[got.train].tolist()), set(places[got.test].tolist())
    assert not train & test
    assert (len(train), len(test)) == (40, 10)
    assert sorted([*got.train, *got.test]) == list(range(len(places)))
    assert got.notes == ["the index has no splits: 20% of the places, drawn with seed 0, test"]
    assert split(index).test.tolist() == got.test.tolist()
    assert split(index, seed=1).test.tolist() != got.test.tolist()


def test_leaks_and_unseen_classes_are_named(tmp_path):
    index = index_of(
        tmp_path,
        category=["a", "b", "a", "dam", "b"],
        location_id=["p", "q", "p", "r", "s"],
        split=["train", "train", "val", "val", "val"],
    )
    assert split(index).notes == [
        "warning: places with training and test images: 1; the scores flatter",
        "no training images of: dam; their test images count as wrong",
    ]


def test_boxes_that_are_not_square_are_counted(tmp_path):
    index = index_of(
        tmp_path,
        category=["a", "b", "a", "b"],
        location_id=list("pqrs"),
        split=["train", "train", "train", "val"],
        box_w=[4, None, 5, 5],
        box_h=[3, None, 5, 2],
        width=[8, 8, 9, 8],
    )
    assert count_oblong(index, split(index).train) == 1
    assert count_oblong(index, split(index).test) == 1
    assert split(index).notes == []


def test_wrong_indices(tmp_path):
    def of(**columns):
        return index_of(tmp_path, location_id=list("pqr"), **columns)

    both = {"category": ["a", "b", "a"], "split": ["train", "train", "val"]}
    cases = [
        (of(split=["train", "train", "val"]), {}, r"planet\.parquet: no image has a category"),
        (of(**both), {"test": "test"}, r"no split 'test'; give --split-test one of: train, val"),
        (of(**both), {"train": "val"}, r"--split-train and --split-test are both 'val'"),
        (
            of(category=["a", "b", None], split=both["split"]),
            {},
            r"no image of the split 'val' has a category",
        ),
        (of(category=["a", "a", "b"], split=both["split"]), {}, r"have one category, 'a': a probe needs two"),
    ]
    for index, options, message in cases:
        with pytest.raises(UsageError, match=message):
            split(index, **options)
    one = index_of(tmp_path, category=["a", "b"], location_id=["p", "p"])
    with pytest.raises(UsageError, match="no splits and a single place"):
        split(one)
