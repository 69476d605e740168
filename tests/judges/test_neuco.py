"""The CSV of NeuCo-Bench, by its documentation, and as its own code reads it."""

import csv

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA

from geossl.cli import main
from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.data.table import SCHEMA
from geossl.errors import GeosslError, UsageError
from geossl.evaluate.features import extract
from geossl.judges.neuco import _reduced, write_neuco
from geossl.models.weights import load_backbone


def make_data(folder, ids, *, split=None):
    """Images of places, by their ids; None is an image by itself."""
    rng = np.random.default_rng(0)
    rows = []
    for k, place in enumerate(ids):
        path = f"{place or 'alone'}/{k:02d}_x.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype="u1")).save(folder / path)
        row = {"path": path, "location_id": place, "width": 16, "height": 16, "bands": 3, "dtype": "uint8"}
        rows.append(row | {"split": None if split is None else split[k]})
    index = Index(table=pa.Table.from_pylist(rows, schema=SCHEMA), root=folder, content_hash="0")
    index.write(folder / "data.parquet")
    return folder / "data.parquet"


def features(run, data):
    encoder, index = load_backbone(run), Index.read(data)
    found = extract(
        encoder.module,
        index=index,
        rows=index.rows(),
        **encoder.preparation,
        device=torch.device("cpu"),
        loader=LoaderConfig(threads=1),
        quiet=True,
    )
    return found.x.double().numpy()


def read(out):
    """As the benchmark's `load_submission`: the ids, and the columns whose names are digits."""
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted((name for name in rows[0] if name.isdigit()), key=int)
    assert list(rows[0]) == ["id", *names]
    assert names == [str(k) for k in range(len(names))]
    return [row["id"] for row in rows], np.array([[float(row[name]) for name in names] for row in rows])


def test_an_embedding_is_the_mean_of_a_places_dates(run, tmp_path, capsys):
    data, out = make_data(tmp_path, ["b", "a", "b", "a", "b", None]), tmp_path / "out" / "demo.csv"
    assert main(["neuco", str(run), "--data", str(data), "-o", str(out), "--threads", "1", "--device", "cpu"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["3 embeddings of 512 dimensions, the means of 6 images", f"-> {out}"]
    ids, got = read(out)
    x = features(run, data)
    assert ids == ["b", "a", "05_x"]
    want = np.stack([x[[0, 2, 4]].mean(0), x[[1, 3]].mean(0), x[5]])
    np.testing.assert_array_equal(got.astype(np.float32), want.astype(np.float32))


def test_wider_features_become_principal_components(run, tmp_path):
    data, out = make_data(tmp_path, [f"p{k}" for k in range(12)]), tmp_path / "demo.csv"
    report = write_neuco(run, data=data, out=out, dim=4, threads=1, device="cpu")
    x = features(run, data)
    pca = PCA(n_components=4, svd_solver="full").fit(x)
    _, got = read(out)
    np.testing.assert_allclose(got, pca.transform(x), rtol=1e-4, atol=1e-5)
    assert report.kept == pytest.approx(pca.explained_variance_ratio_.sum())
    assert report.lines()[1].startswith("principal components of 512 features, with ")
    # Fewer rows than dimensions have fewer components, which the benchmark fills up with zeros.
    assert write_neuco(run, data=data, out=out, dim=100, threads=1, device="cpu").dimensions == 12
    with pytest.raises(UsageError, match="--dim 4: one place has no principal components; its feature is 512 wide"):
        write_neuco(run, data=make_data(tmp_path / "one", ["p"]), out=out, dim=4, threads=1, device="cpu")


def test_features_that_are_all_the_same_have_nothing_to_lose():
    embeddings, kept = _reduced(np.ones((5, 8)), 3)
    assert (embeddings == 0).all()
    assert kept == 1.0


def test_the_same_command_gives_the_same_bytes(run, tmp_path):
    data, first, second = make_data(tmp_path, list("abcdef")), tmp_path / "1.csv", tmp_path / "2.csv"
    write_neuco(run, data=data, out=first, dim=3, threads=1, device="cpu")
    write_neuco(run, data=data, out=second, dim=3, threads=2, device="cpu")
    assert first.read_bytes() == second.read_bytes()


def test_a_split_alone(run, tmp_path):
    data, out = make_data(tmp_path, list("abc"), split=["train", "val", "train"]), tmp_path / "demo.csv"
    write_neuco(run, data=data, out=out, split="train", threads=1, device="cpu")
    assert read(out)[0] == ["a", "c"]


def test_an_unreadable_image_ends_it(run, tmp_path):
    data, out = make_data(tmp_path, list("abc")), tmp_path / "demo.csv"
    (tmp_path / "b" / "01_x.png").write_bytes(b"no image")
    with pytest.raises(GeosslError, match=r"01_x\.png"):
        write_neuco(run, data=data, out=out, threads=1, device="cpu")
    assert not out.exists()


def test_mistakes(run, make_run, tmp_path):
    data, out = make_data(tmp_path, ["a", "00_x"]), tmp_path / "demo.csv"
    same = make_data(tmp_path / "same", [None, "00_x"])
    for change, message in (
        ({"dim": 0}, "--dim 0: must be at least 1"),
        ({"batch": 0}, "--batch 0"),
        ({"split": "test"}, "no images of the split 'test'"),
        ({"data": tmp_path / "no.parquet"}, "no such index"),
        ({"data": same}, "two places would have the id '00_x'"),
        ({"run": make_run(bands=4, mean=(0,) * 4, std=(1,) * 4)}, "images of 3 bands; the encoder of .* reads 4"),
    ):
        options = {"run": run, "data": data, "out": out} | change
        with pytest.raises(UsageError, match=message):
            write_neuco(options.pop("run"), **options)
    assert not out.exists()
