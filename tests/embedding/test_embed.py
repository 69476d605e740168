"""An embedding file has the features that `extract` gives, each image's own, in spatial order."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
from embedding_data import BATCH, DIMENSIONS, make_index, make_run, small_pieces

from geossl.config import LoaderConfig
from geossl.data.clustering import cluster_places
from geossl.data.clusters import default_path
from geossl.data.index import Index, build_index
from geossl.data.pack import make_pack
from geossl.embedding import encode
from geossl.embedding.embed import embed
from geossl.embedding.failures import failures_path
from geossl.embedding.file import EmbeddingFile
from geossl.embedding.order import spatial_order
from geossl.errors import GeosslError, UsageError
from geossl.evaluate.features import extract
from geossl.models.weights import load_backbone


def run_embed(run, data, out, **options):
    settings = {"batch": BATCH, "device": "cpu", "threads": 2} | options
    return embed(run, data=data, out=out, **settings)


def order_of(index, rows=None):
    rows = index.rows() if rows is None else rows
    return rows[spatial_order(*(index.table[name].to_numpy()[rows] for name in ("lat", "lon")))]


def extracted(run, index, rows):
    """What `extract` gives for these rows, in their order."""
    encoder = load_backbone(run)
    found = extract(
        encoder.module,
        index=index,
        rows=rows,
        **encoder.preparation,
        device=torch.device("cpu"),
        batch=BATCH,
        loader=LoaderConfig(threads=1, on_error="skip"),
    )
    return found.x.numpy()


def vectors(path):
    return np.stack(pq.read_table(path)["embedding"].to_numpy())


def spoil(index_path, *numbers):
    for number in numbers:
        path = index_path.parent / "images" / f"{number:03}.jpg"
        path.write_bytes(path.read_bytes()[:-300])


def test_features_are_those_of_extract_bit_for_bit(run, index, features):
    read = Index.read(index)
    order = order_of(read)
    table = pq.read_table(features)
    assert table["row"].to_pylist() == order.tolist()
    assert table.schema.field("embedding").type.list_size == DIMENSIONS
    assert np.array_equal(vectors(features), extracted(run, read, order))
    for name in ("path", "location_id", "timestamp", "lat", "lon", "category", "split", "box_x", "box_h"):
        assert table[name].to_pylist() == read.table[name].take(order).to_pylist(), name


def test_the_bytes_do_not_depend_on_threads_stretches_or_the_call(run, index, features, tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    monkeypatch.setattr(encode, "STRETCH_ROWS", 3 * BATCH + 1)
    report = run_embed(run, index, tmp_path / features.name, threads=1)
    assert (report.images, report.earlier, report.failures, report.notes) == (60, 0, [], [])
    # The names of what it was made from may lie elsewhere, as seen from the file; the rest is equal.
    ours, theirs = (pq.ParquetFile(path).metadata for path in (report.out, features))
    assert report.bytes == report.out.stat().st_size
    assert pq.read_table(report.out).equals(pq.read_table(features))
    assert [ours.row_group(i).num_rows for i in range(ours.num_row_groups)] == [11, 11, 11, 11, 11, 5]
    assert ours.num_row_groups == theirs.num_row_groups
    before = report.out.read_bytes()
    report.out.unlink()
    run_embed(run, index, report.out)
    assert report.out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.parquet", "features.stac.json"]


def test_int8_is_as_near_as_its_scale(run, index, features, tmp_path):
    report = run_embed(run, index, tmp_path / "f.parquet", dtype="int8")
    file = EmbeddingFile(report.out)
    table, x = pq.read_table(report.out), vectors(features)
    q, scale = vectors(report.out), table["scale"].to_numpy()
    assert q.dtype == np.int8
    assert (np.abs(q * scale[:, None].astype(np.float64) - x).max(axis=1) <= 0.5001 * scale).all()
    np.testing.assert_array_equal(file.vectors(np.arange(60)), q.astype(np.float32) * scale[:, None])
    cosines = (q * x).sum(axis=1) / np.linalg.norm(q.astype(float), axis=1) / np.linalg.norm(x, axis=1)
    assert report.least_cosine == pytest.approx(cosines.min(), rel=1e-6)
    assert file.about["least_cosine"] == report.least_cosine
    # A byte a component in the file's pages, where Parquet's integers have four.
    group = pq.ParquetFile(report.out).metadata.row_group(0)
    (column,) = (c for c in map(group.column, range(group.num_columns)) if c.path_in_schema.startswith("embedding"))
    assert column.total_uncompressed_size < 1.1 * q.size


def test_a_split_alone(run, index, tmp_path):
    read = Index.read(index)
    out = run_embed(run, index, tmp_path / "f.parquet", split="val").out
    order = order_of(read, read.rows(split="val"))
    assert pq.read_table(out)["row"].to_pylist() == order.tolist()
    assert np.array_equal(vectors(out), extracted(run, read, order))
    with pytest.raises(UsageError, match="no image of the split 'dev'; it has: test, train, val"):
        run_embed(run, index, tmp_path / "g.parquet", split="dev")


def test_clusters_of_the_index_are_a_column(run, tmp_path):
    data = make_index(tmp_path, 24, location_id=[None] * 24)  # each image is a place, some without coordinates
    read = Index.read(data)
    clusters = cluster_places(read, k=3, threads=1)
    elsewhere = tmp_path / "clusters.parquet"
    clusters.write(elsewhere)
    out = tmp_path / "f.parquet"
    run_embed(run, data, out, clusters=elsewhere)
    label = clusters.labels(read)[order_of(read)]
    assert (label < 0).any()
    assert pq.read_table(out)["cluster"].to_pylist() == [None if c < 0 else c for c in label.tolist()]
    # Beside the index they are found by themselves; those of another index are told of.
    clusters.write(default_path(data))
    run_embed(run, data, tmp_path / "g.parquet")
    assert pq.read_table(tmp_path / "g.parquet").equals(pq.read_table(out))
    other = read.with_table(read.table.slice(0, 12))
    cluster_places(other, k=2, threads=1).write(default_path(data))
    report = run_embed(run, data, tmp_path / "h.parquet")
    assert "is of another index than" in report.notes[0]
    assert "cluster" not in pq.read_schema(tmp_path / "h.parquet").names
    with pytest.raises(UsageError, match="made from another index"):
        run_embed(run, data, tmp_path / "i.parquet", clusters=default_path(data))


def test_images_of_a_pack(run, index, features, tmp_path):
    read = Index.read(index)
    make_pack(read, tmp_path / "whole")
    out = run_embed(run, index, tmp_path / "a.parquet", pack=tmp_path / "whole").out
    assert np.array_equal(vectors(out), vectors(features))
    make_pack(read, tmp_path / "sized", short_side=32)
    out = run_embed(run, index, tmp_path / "b.parquet", pack=tmp_path / "sized").out
    assert not np.array_equal(vectors(out), vectors(features))
    assert EmbeddingFile(out).about["images"]["pack"]["short_side"] == 32


def test_unreadable_images_are_left_out_and_named(run, tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    monkeypatch.setattr("geossl.embedding.embed.MAX_FAILURES", 0.5)
    data = make_index(tmp_path, 40)
    read = Index.read(data)
    order = order_of(read)
    # A whole part among them, and with it whole batches.
    bad = sorted([*order[16:32].tolist(), int(order[3])])
    spoil(data, *bad)
    report = run_embed(run, data, tmp_path / "f.parquet")
    kept = [row for row in order.tolist() if row not in bad]
    assert pq.read_table(report.out)["row"].to_pylist() == kept
    lines = [json.loads(line) for line in failures_path(report.out).read_text().splitlines()]
    assert sorted(line["row"] for line in lines) == bad
    assert {line["path"] for line in lines} == {str(read.root / f"{row:03}.jpg") for row in bad}
    assert all("cut short" in line["reason"] for line in lines)
    assert report.failures == [(line["path"], line["reason"]) for line in lines]
    assert EmbeddingFile(report.out).about["unreadable"] == 17
    # Batches are of the same images, whatever is left out.
    x = vectors(report.out)
    for i in range(40):
        if order[i] in kept:
            batch = order[i - i % BATCH : i - i % BATCH + BATCH]
            seen = [row for row in batch.tolist() if row in kept]
            whole = extracted(run, read, np.array(seen))
            assert np.array_equal(x[kept.index(order[i])], whole[seen.index(order[i])])


def test_too_many_unreadable_images_are_an_error(run, tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    data = make_index(tmp_path, 40)
    last = order_of(Index.read(data))[-2:].tolist()
    spoil(data, *last)
    out = tmp_path / "f.parquet"
    with pytest.raises(GeosslError, match=r"2 of 40 images could not be read, more than the 1 that .*\.jpg: .*cut"):
        run_embed(run, data, out)
    assert not out.exists()
    # What was done before is kept; images that were mended since are read.
    assert len(list((tmp_path / "f.parquet.parts").glob("0*.parquet"))) == 2
    make_index(tmp_path, 40)
    assert run_embed(run, data, out).earlier == 32
    spoil(data, *range(40))
    monkeypatch.setattr("geossl.embedding.embed.MAX_FAILURES", 1.0)
    with pytest.raises(GeosslError, match="none of the 40 images could be read"):
        run_embed(run, data, tmp_path / "g.parquet")


def test_unfinished_work_is_of_one_command(run, tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    data, out = make_index(tmp_path, 40), tmp_path / "f.parquet"
    last = order_of(Index.read(data))[-2:].tolist()
    spoil(data, *last)
    with pytest.raises(GeosslError):
        run_embed(run, data, out)
    parts = tmp_path / "f.parquet.parts"
    before = {path.name: path.read_bytes() for path in parts.iterdir()}
    other = make_run(tmp_path / "other", seed=1)
    for words, arguments in (
        (r"\(features\.dtype differ", {"run": run, "dtype": "int8"}),
        (r"\(images\.split differ", {"run": run, "split": "val"}),
        (r"\(features\.batch differ", {"run": run, "batch": 4}),
        (r"\(model\.weights_sha256 differ", {"run": other}),
    ):
        with pytest.raises(UsageError, match=words):
            run_embed(arguments.pop("run"), data, out, **arguments)
    assert {path.name: path.read_bytes() for path in parts.iterdir()} == before
    # A damaged part is named, and made anew when it is gone.
    make_index(tmp_path, 40)
    damaged = bytearray(before["000001.parquet"])
    damaged[len(damaged) // 2] ^= 1
    (parts / "000001.parquet").write_bytes(damaged)
    with pytest.raises(GeosslError, match=r"000001\.parquet: damaged .*: delete it, and give the same command again"):
        run_embed(run, data, out)
    (parts / "000001.parquet").unlink()
    assert run_embed(run, data, out).earlier == 16
    straight = run_embed(run, data, tmp_path / "g.parquet").out
    assert out.read_bytes() == straight.read_bytes()


def test_a_finished_file_is_left_alone(run, index, tmp_path):
    out = tmp_path / "f.parquet"
    run_embed(run, index, out)
    before = out.stat().st_mtime_ns
    report = run_embed(run, index, out)
    assert out.stat().st_mtime_ns == before
    assert (report.images, report.earlier) == (60, 60)
    assert "to make it anew, delete it" in report.notes[0]
    # Another command's file takes its place, and its unfinished work is its own.
    assert run_embed(run, index, out, dtype="int8").earlier == 0
    assert "scale" in pq.read_schema(out).names


def test_names_that_cannot_be(run, index, tmp_path):
    for out, message in (
        (tmp_path / "f.csv", "must end in .parquet"),
        (tmp_path / "none" / "f.parquet", "its folder does not exist"),
        (index, "is the index itself"),
    ):
        with pytest.raises(UsageError, match=message):
            run_embed(run, index, out)
    (tmp_path / "d.parquet").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        run_embed(run, index, tmp_path / "d.parquet")
    with pytest.raises(UsageError, match="--batch 0"):
        run_embed(run, index, tmp_path / "f.parquet", batch=0)
    with pytest.raises(UsageError, match="--dtype float16"):
        run_embed(run, index, tmp_path / "f.parquet", dtype="float16")
    four = make_run(tmp_path / "four", bands=4)
    with pytest.raises(UsageError, match=r"images of 3 bands; the encoder of .* reads 4"):
        run_embed(four, index, tmp_path / "f.parquet")
    assert not (tmp_path / "f.parquet.parts").exists()


def test_an_encoder_that_diverged_is_an_error(run, index, tmp_path):
    saved = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    saved["state_dict"]["module.encoder_q.features.0.weight"][0] = np.nan
    torch.save(saved, tmp_path / "nan.pt")
    with pytest.raises(GeosslError, match="not finite"):
        run_embed(tmp_path / "nan.pt", index, tmp_path / "f.parquet")


def test_images_without_any_place(run, tmp_path):
    data = make_index(tmp_path, 9, lat=[None] * 9, lon=[None] * 9, timestamp=[None] * 9, location_id=[None] * 9)
    out = run_embed(run, data, tmp_path / "f.parquet").out
    table = pq.read_table(out)
    assert table["row"].to_pylist() == list(range(9))
    assert table["geometry"].null_count == table["bbox"].null_count == 9


def test_scenes_of_sixteen_bits(tmp_path):
    run = make_run(tmp_path / "run", bands=4)
    draw = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(6):
        tifffile.imwrite(tmp_path / "images" / f"{i:03}.tif", draw.integers(0, 9000, (40, 40, 4), np.uint16))
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"images/{i:03}.tif\n" for i in range(6)))
    read, _ = build_index(tmp_path / "list.csv")
    read.write(tmp_path / "index.parquet")
    out = run_embed(run, tmp_path / "index.parquet", tmp_path / "f.parquet").out
    assert np.array_equal(vectors(out), extracted(run, read, np.arange(6)))
