"""What a search finds is what comparing all pairs finds."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedding_data import BATCH, make_index, make_run, pixels, small_pieces
from sklearn.metrics.pairwise import cosine_similarity

from geossl.embedding import file as file_module
from geossl.embedding.embed import embed
from geossl.embedding.file import EmbeddingFile
from geossl.embedding.image import query_image
from geossl.embedding.search import Query, query_at, query_like, search
from geossl.errors import UsageError
from geossl.geo import distance_km


@pytest.fixture
def file(features, monkeypatch):
    """The embeddings of 60 images, read a few rows at a time."""
    monkeypatch.setattr(file_module, "SCAN_ROWS", 4)
    return EmbeddingFile(features)


def table_of(file):
    table = pq.read_table(file.path)
    return table, np.stack(table["embedding"].to_numpy()).astype(np.float64)


def test_the_nearest_are_those_of_all_pairs(file):
    table, x = table_of(file)
    similar = cosine_similarity(x)
    for position in (0, 17, 59):
        row = table["row"][position].as_py()
        query = query_like(file, row)
        assert query.positions.tolist() == [position]
        np.testing.assert_array_equal(query.vector, x[position].astype(np.float32))
        for k in (1, 7, 59, 1000):
            found = search(file, query, k=k)
            others = [i for i in np.argsort(-similar[position], kind="stable") if i != position][:k]
            np.testing.assert_allclose(found.similarity, similar[position][others], atol=1e-12)
            assert found.positions.tolist() == others
            assert found.table["path"].to_pylist() == table["path"].take(others).to_pylist()
            assert found.table["row"].to_pylist() == table["row"].take(others).to_pylist()


def test_distances_are_those_of_the_query(file):
    table, _ = table_of(file)
    query = query_like(file, table["row"][5].as_py())
    found = search(file, query, k=59)
    lat, lon = (table[name].to_numpy()[found.positions] for name in ("lat", "lon"))
    known = np.isfinite(lat)
    assert known.any()
    assert not known.all()
    assert np.isnan(found.km[~known]).all()
    wanted = distance_km(table["lat"][5].as_py(), table["lon"][5].as_py(), lat[known], lon[known])
    np.testing.assert_allclose(found.km[known], wanted)
    nowhere = query_like(file, table["row"][59].as_py())
    assert table["lat"][59].as_py() is None
    assert np.isnan(search(file, nowhere).km).all()


def test_tiles_by_their_paths(file):
    table, _ = table_of(file)
    for position in (3, 30):
        path = table["path"][position].as_py()
        for name in (path, str(file.root / path)):
            assert query_like(file, name).positions.tolist() == [position]
    with pytest.raises(UsageError, match=r"has no such path; its paths are such as \d+\.jpg"):
        query_like(file, "nowhere.jpg")
    with pytest.raises(UsageError, match="has no such row"):
        query_like(file, 60)


def test_tiles_of_one_image_are_told_apart_by_their_rows(run, tmp_path):
    boxes = {"box_x": [0, 20] * 3, "box_y": [0] * 6, "box_w": [20] * 6, "box_h": [20] * 6}
    data = make_index(tmp_path, 6, path=[f"{i // 2:03}.jpg" for i in range(6)], **boxes)
    embed(run, data=data, out=tmp_path / "f.parquet", batch=BATCH, device="cpu", threads=1)
    file = EmbeddingFile(tmp_path / "f.parquet")
    with pytest.raises(UsageError, match=r"the image has 2 tiles; give one by its row: [23], [23]$"):
        query_like(file, "001.jpg")
    assert query_like(file, "3").title == "row 3, 001.jpg"


def test_a_coordinate_is_its_nearest_tile(file):
    table, x = table_of(file)
    lat, lon = (table[name].to_numpy() for name in ("lat", "lon"))
    for at in ((10.0, 20.0), (-60.0, 179.9), (85.0, -100.0)):
        query = query_at(file, *at)
        km = np.full(60, np.inf)
        known = np.isfinite(lat)
        km[known] = distance_km(*at, lat[known], lon[known])
        # Three dates a place.
        nearest = np.flatnonzero(km == km.min())
        assert query.positions.tolist() == nearest.tolist()
        directions = x[nearest] / np.linalg.norm(x[nearest], axis=1, keepdims=True)
        np.testing.assert_allclose(query.vector, directions.mean(axis=0), rtol=1e-5)
        found = search(file, query, k=60)
        assert set(found.positions.tolist()) == set(range(60)) - set(nearest.tolist())
        np.testing.assert_allclose(found.similarity[0], cosine_similarity(x, query.vector[None])[found.positions[0], 0])
        there = np.isfinite(found.km)
        np.testing.assert_allclose(found.km[there], km[found.positions[there]])
    assert len(nearest) > 1
    assert f"{len(nearest)} tiles, {km.min():,.1f} km from 85, -100" == query.title
    for at in ((91, 0), (0, 361), (float("nan"), 0)):
        with pytest.raises(UsageError, match="--at"):
            query_at(file, *at)


def test_a_place_can_be_left_out(file):
    table, _ = table_of(file)
    places = table["location_id"].to_pylist()
    position = next(i for i, place in enumerate(places) if places.count(place) == 3)
    query = query_like(file, table["row"][position].as_py())
    with_them, without = (search(file, query, k=60, exclude_place=out) for out in (False, True))
    own = {i for i, place in enumerate(places) if place == places[position]}
    assert set(with_them.positions) == set(range(60)) - {position}
    assert set(without.positions) == set(range(60)) - own
    # A tile without a location_id is a place of its own; others without one are other places.
    alone = places.index(None)
    query = query_like(file, table["row"][alone].as_py())
    assert len(search(file, query, k=60, exclude_place=True).positions) == 59


def test_equal_tiles_come_in_the_files_order(run, tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    monkeypatch.setattr(file_module, "SCAN_ROWS", 3)
    data = make_index(tmp_path, 30, path=["000.jpg"] * 30, **{f"box_{side}": [None] * 30 for side in "xywh"})
    embed(run, data=data, out=tmp_path / "f.parquet", batch=BATCH, device="cpu", threads=1)
    file = EmbeddingFile(tmp_path / "f.parquet")
    query = query_like(file, file.take(np.array([4]), ["row"])["row"][0].as_py())
    found = search(file, query, k=5)
    np.testing.assert_allclose(found.similarity, 1)
    assert found.positions.tolist() == [0, 1, 2, 3, 5]


def test_int8_is_searched_too(run, index, features, tmp_path):
    out = tmp_path / "f.parquet"
    embed(run, data=index, out=out, dtype="int8", batch=BATCH, device="cpu", threads=2)
    small, large = EmbeddingFile(out), EmbeddingFile(features)
    q = np.stack(pq.read_table(out)["embedding"].to_numpy()).astype(np.float64)
    found = search(small, query_like(small, 7), k=59)
    position = query_like(small, 7).positions[0]
    np.testing.assert_allclose(found.similarity, cosine_similarity(q)[position][found.positions], atol=1e-6)
    wanted = search(large, query_like(large, 7), k=59)
    np.testing.assert_allclose(found.similarity, wanted.similarity, atol=2e-3)


def test_an_image_file(run, file, index):
    path = file.root / "000.jpg"
    query = query_image(file, path, run=run, device="cpu")
    (position,) = query_like(file, "000.jpg").positions
    np.testing.assert_allclose(query.vector, file.vectors(np.array([position]))[0], rtol=1e-4, atol=1e-5)
    found = search(file, query, k=3)
    assert found.table["path"][0].as_py() == "000.jpg"
    assert found.similarity[0] == pytest.approx(1)
    assert np.isnan(found.km).all()
    with pytest.raises(UsageError, match="--exclude-place"):
        search(file, query, exclude_place=True)


def test_images_and_encoders_that_do_not_go_together(run, file, tmp_path):
    pixels(0).convert("L").save(tmp_path / "gray.png")
    (tmp_path / "text.jpg").write_text("no image")
    for name, message in (
        ("none.jpg", "none.jpg: no such file"),
        ("text.jpg", "not a JPEG, PNG or TIFF"),
    ):
        with pytest.raises(UsageError, match=message):
            query_image(file, tmp_path / name, run=run)
    other = make_run(tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match="is not the encoder of"):
        query_image(file, file.root / "000.jpg", run=other)
    length = Query(vector=np.ones(3, np.float32), positions=np.empty(0, np.int64), lat=0, lon=0, title="q")
    with pytest.raises(UsageError, match="embeddings of 512 dimensions, the query has 3"):
        search(file, length)
    zero = Query(vector=np.zeros(512, np.float32), positions=np.empty(0, np.int64), lat=0, lon=0, title="q")
    with pytest.raises(UsageError, match="q: its embedding is zero"):
        search(file, zero)
    with pytest.raises(UsageError, match="-k 0"):
        search(file, zero, k=0)


def test_files_that_are_none(index, tmp_path):
    with pytest.raises(UsageError, match="no such file; make it with: geossl embed"):
        EmbeddingFile(tmp_path / "none.parquet")
    with pytest.raises(UsageError, match="but not one of geossl embed"):
        EmbeddingFile(index)
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(UsageError, match="not a Parquet file"):
        EmbeddingFile(tmp_path / "text.parquet")


def test_rows_are_taken_in_the_order_wanted(file):
    table, x = table_of(file)
    positions = np.array([59, 0, 30, 11, 10, 30])
    assert file.take(positions, ["path"])["path"].to_pylist() == table["path"].take(positions).to_pylist()
    np.testing.assert_array_equal(file.vectors(positions), x[positions].astype(np.float32))
    assert file.take(np.empty(0, np.int64), ["path"]).num_rows == 0
    assert Path(file.root / "000.jpg").is_file()
