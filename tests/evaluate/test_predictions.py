import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from made_predictions import index_of, predictions, random_case

from geossl.errors import UsageError
from geossl.evaluate import predictions as module
from geossl.evaluate.bootstrap import compare
from geossl.evaluate.predictions import Fit, read_predictions, writing_predictions

CLASSES = [f"class {letter}" for letter in "abcdefghi"]


@pytest.fixture
def written(tmp_path):
    """A file of three predictions of 50 of an index's 80 images, and what it was made from."""
    rng = np.random.default_rng(0)
    ids = [f"place {p}" if p else None for p in rng.integers(0, 12, 80)]
    index = index_of(tmp_path, location_id=ids)
    rows = rng.permutation(80)[:50]
    made = []
    for method, share, seed in (("linear", 1.0, 0), ("linear", 100.0, 1), ("knn", 100.0, 2)):
        probabilities = random_case(n=50, places=10, seed=seed)[0]
        truth = random_case(n=50, places=10)[1]
        made.append(predictions(probabilities, truth, index.places[rows], rows=rows, method=method, share=share))
    path = tmp_path / "probe" / "predictions.parquet"
    with writing_predictions(path, index=index, classes=CLASSES) as write:
        for each in made:
            write(each)
    return path, index, made


def test_what_is_read_is_what_was_written(written):
    path, _, made = written
    got, classes = read_predictions(path)
    assert classes == CLASSES
    assert [each.fit for each in got] == [Fit(encoder="geo_tp", method=m.fit.method, labels=m.fit.labels) for m in made]
    for read, own in zip(got, made, strict=True):
        for name in ("probabilities", "labels", "rows"):
            assert torch.equal(getattr(read, name), getattr(own, name))
        # The codes may differ, but not which images are of one place; those without a location_id are by themselves.
        for one, other in ((read.places, own.places), (own.places, read.places)):
            assert len(torch.unique(torch.stack([one, other], dim=1), dim=0)) == len(torch.unique(one))
    assert all(tuple(d) == (0, 0, 0) for d in compare(got[0], got[0]).values())


def test_the_file_is_for_everybody(written):
    path, index, made = written
    schema = pq.read_schema(path)
    assert json.loads(schema.metadata[b"geossl"]) == {"classes": CLASSES, "index_hash": index.content_hash}
    assert str(schema.field("probabilities").type) == "fixed_size_list<element: float>[9]"
    table = pq.read_table(path).slice(50, 1).to_pylist()[0]  # the first of the second predictions
    row = int(made[1].rows[0])
    assert table["row"] == row
    assert table["path"] == f"{row}.png"
    assert table["location_id"] == index.table["location_id"][row].as_py()
    assert (table["encoder"], table["method"], table["labels"]) == ("geo_tp", "linear", 100)
    assert table["category"] == CLASSES[made[1].labels[0]]
    assert table["predicted"] == CLASSES[made[1].probabilities[0].argmax()]
    assert table["probabilities"] == made[1].probabilities[0].tolist()


def test_some_of_the_predictions(written):
    path, _, made = written
    (got,), _ = read_predictions(path, method="linear", labels=100)
    assert torch.equal(got.probabilities, made[1].probabilities)
    assert len(read_predictions(path, encoder="geo_tp")[0]) == 3
    with pytest.raises(UsageError, match="no predictions of method logistic, labels 10"):
        read_predictions(path, method="logistic", labels=10)


def test_row_groups_are_bounded(written, tmp_path, monkeypatch):
    path, index, made = written
    monkeypatch.setattr(module, "GROUP_VALUES", 9 * 20)
    small = tmp_path / "small.parquet"
    with writing_predictions(small, index=index, classes=CLASSES) as write:
        for each in made:
            write(each)
    file = pq.ParquetFile(small)
    assert [file.metadata.row_group(i).num_rows for i in range(9)] == [20, 20, 10] * 3
    assert pq.read_table(small).equals(pq.read_table(path))
    assert len(read_predictions(small)[0]) == 3


def test_a_failure_leaves_the_file_as_it_was(written):
    path, index, made = written
    before = path.read_bytes()

    def fail_half_way():
        with writing_predictions(path, index=index, classes=CLASSES) as write:
            write(made[0])
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["predictions.parquet"]


def test_other_files_are_refused(written, tmp_path):
    with pytest.raises(UsageError, match=r"none\.parquet: no such file; geossl probe makes it"):
        read_predictions(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UsageError, match=r"text\.parquet: not a file of predictions"):
        read_predictions(tmp_path / "text.parquet")
    _, index, _ = written
    index.write(tmp_path / "index.parquet")
    with pytest.raises(UsageError, match=r"index\.parquet: not a file of predictions"):
        read_predictions(tmp_path / "index.parquet")
