"""`geossl embed` and `geossl search` as a user types them: what they print, draw, and say to wrong input."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from embedding_data import BATCH, make_index
from matplotlib.collections import PathCollection
from PIL import Image

from geossl.cli import main
from geossl.embedding.file import EmbeddingFile
from geossl.embedding.image import image_index, picture
from geossl.embedding.search import Query, query_at, query_like, search
from geossl.errors import UsageError
from geossl.viz import search as drawing

WORDS = ["--batch", BATCH, "--device", "cpu", "--threads", "2"]


def geossl(*words) -> int:
    return main([str(word) for word in words])


def complaint(capsys, *words) -> str:
    """The one line that a wrong command says."""
    capsys.readouterr()
    assert geossl(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("geossl: ")
    assert err.count("\n") == 1
    return err


def test_embed_tells_what_it_did(run, tmp_path, capsys):
    data, out = make_index(tmp_path, 40), tmp_path / "f.parquet"
    image = tmp_path / "images" / "011.jpg"
    image.write_bytes(image.read_bytes()[:-300])
    assert geossl("embed", run, "--data", data, "-o", out, "--dtype", "int8", *WORDS) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"unreadable: {image}: ")
    assert lines[1].startswith("int8: the cosine to the float32 embedding is 0.99")
    assert lines[2].startswith("39 rows in ")
    assert "images/s, " in lines[2]
    assert lines[2].endswith(f" -> {out}")
    assert geossl(*lines[3].removeprefix("next: geossl ").split()) == 0
    assert len(capsys.readouterr().out.splitlines()) == 22
    assert geossl("embed", run, "--data", data, "-o", out, "--dtype", "int8", *WORDS) == 0
    assert "is complete: made by the same command" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("f.*")) == [
        "f.parquet",
        "f.parquet.failures.jsonl",
        "f.stac.json",
    ]


def test_too_many_unreadable_images_are_a_failure(run, tmp_path, capsys):
    data = make_index(tmp_path, 40)
    for number in (3, 5):
        (tmp_path / "images" / f"{number:03}.jpg").write_text("no image")
    assert geossl("embed", run, "--data", data, "-o", tmp_path / "f.parquet", *WORDS) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "2 of 40 images could not be read, more than the 1 that may be left out" in err


def test_search_prints_a_table(features, capsys):
    assert geossl("search", features, "--like", "7", "-k", "4") == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "nearest of 60 tiles to row 7, 007.jpg"
    assert header.split() == ["rank", "similarity", "row", "path", "place", "category", "date", "lat", "lon", "km"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
    file = EmbeddingFile(features)
    found = search(file, query_like(file, 7), k=4)
    assert [row.split()[3] for row in rows] == found.table["path"].to_pylist()
    assert [float(row.split()[1]) for row in rows] == pytest.approx(found.similarity.tolist(), abs=1e-6)
    # A coordinate south of the equator begins with a hyphen.
    assert geossl("search", features, "--at", "-33.87,151.21", "-k", "1", "--exclude-place") == 0
    assert "km from -33.87, 151.21" in capsys.readouterr().out


def test_search_does_without_torch(features):
    words = ["search", str(features), "--at", "48.86,2.35", "-k", "2"]
    script = f"import sys, geossl.cli; geossl.cli.main({words!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert len(done.stdout.splitlines()) == 5


def test_search_draws(run, features, tmp_path, capsys):
    sheet, world = tmp_path / "sheet.png", tmp_path / "world.png"
    file = EmbeddingFile(features)
    image = file.root / "003.jpg"
    words = ["--image", image, "--run", run, "--device", "cpu", "-k", "9"]
    assert geossl("search", features, *words, "--draw", sheet, "--map", world) == 0
    assert capsys.readouterr().out.endswith(f"-> {sheet}\n-> {world}\n")
    for path in (sheet, world):
        with Image.open(path) as drawn:
            assert drawn.format == "PNG"
            assert drawn.width > 500


def test_a_sheet_has_the_query_and_all_that_was_found(features, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(drawing, "save", lambda figure, _out: drawn.append(figure))
    file = EmbeddingFile(features)
    query = query_like(file, 7)
    found = search(file, query, k=9)
    drawing.plot_sheet(tmp_path / "x.png", file=file, query=query, found=found)
    panels = [axes for axes in drawn[0].axes if axes.images]
    assert len(panels) == 10
    for axes, row in zip(panels, [7, *found.table["row"].to_pylist()], strict=True):
        shown = np.asarray(axes.images[0].get_array())
        whole = picture(image_index(file.root, f"{row:03}.jpg"), size=drawing.SIDE, context=True)
        assert np.array_equal(shown, whole) == (row % 5 != 4), "every fifth has a box"
    assert panels[0].get_xlabel().startswith("query\nclass 3\n")
    assert panels[1].get_xlabel().startswith(f"1: {found.similarity[0]:.4f}\n")
    # What is not there is told in its place.
    drawing.plot_sheet(tmp_path / "x.png", file=file, query=query, found=found, root=tmp_path)
    texts = [axes.texts[0].get_text() for axes in drawn[1].axes if axes.images]
    assert len(texts) == 10
    assert all("no such file" in text for text in texts)


def test_a_map_has_the_tiles_and_the_query(features, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(drawing, "save", lambda figure, _out: drawn.append(figure))
    file = EmbeddingFile(features)
    query = query_at(file, 10.0, 20.0)
    found = search(file, query, k=30)
    drawing.plot_map(tmp_path / "x.png", query=query, found=found)
    points, star = (c for c in drawn[0].axes[0].collections if isinstance(c, PathCollection))
    placed = sum(lat is not None for lat in found.table["lat"].to_pylist())
    assert (len(points.get_offsets()), len(star.get_offsets())) == (placed, 1)
    assert np.asarray(points.get_array())[-1] == found.similarity[np.isfinite(found.km)][0], "the best lies on top"
    assert f"{30 - placed} without coordinates" in drawn[0].axes[0].get_title()
    nowhere = Query(vector=query.vector, positions=query.positions, lat=np.nan, lon=np.nan, title="an image")
    drawing.plot_map(tmp_path / "x.png", query=nowhere, found=search(file, nowhere, k=30))
    assert sum(isinstance(c, PathCollection) for c in drawn[1].axes[0].collections) == 1


def test_pictures_of_other_samples(tmp_path):
    draw = np.random.default_rng(0)
    samples = draw.integers(1000, 3000, (40, 40, 4), np.uint16)
    tifffile.imwrite(tmp_path / "four.tif", samples)
    seen = picture(image_index(tmp_path, "four.tif"), size=40, context=True).astype(int)
    low, high = np.percentile(samples[..., :3], (2, 98))
    wanted = ((samples[..., :3] - low) / (high - low)).clip(0, 1) * 255
    assert np.abs(seen - wanted).max() <= 0.5
    tifffile.imwrite(tmp_path / "one.tif", np.full((40, 40), 7.5, np.float32))
    assert picture(image_index(tmp_path, "one.tif"), size=20, context=True).max() < 10
    Image.fromarray(samples[..., 0].astype(np.uint8)).save(tmp_path / "gray.png")
    gray = picture(image_index(tmp_path, "gray.png"), size=40, context=True)
    assert np.array_equal(gray, np.repeat(samples[..., :1].astype(np.uint8), 3, axis=2))
    with pytest.raises(UsageError, match=r"none.png: no such file"):
        image_index(tmp_path, "none.png")


def test_mistakes_of_a_search(features, index, run, tmp_path, capsys):
    for words, message in (
        ([], "one of --like, --at and --image says what to look for; none is given"),
        (["--like", "1", "--at", "1,2"], "--like and --at are given"),
        (["--like", "1", "--run", run], "--run is for --image"),
        (["--image", "x.jpg"], "--image needs the encoder that embeds it (--run)"),
        (["--image", "x.jpg", "--run", run], "x.jpg: "),
        (["--at", "somewhere"], "give latitude and longitude with a comma between"),
        (["--at", "1,2,3"], "give latitude and longitude with a comma between"),
        (["--at", "95,2"], "latitude -90 to 90"),
        (["--like", "99"], "has no such row"),
        (["--like", "x.jpg"], "has no such path; its paths are such as"),
        (["--like", "1", "-k", "0"], "-k 0: must be at least 1"),
    ):
        assert message in complaint(capsys, "search", features, *words)
    assert "not one of geossl embed" in complaint(capsys, "search", index, "--like", "1")
    assert "no such file" in complaint(capsys, "search", tmp_path / "none.parquet", "--like", "1")


def test_mistakes_of_embed(index, run, tmp_path, capsys):
    out = tmp_path / "f.parquet"
    for words, message in (
        ([tmp_path / "none", "--data", index, "-o", out], "no such run or checkpoint"),
        ([run, "--data", tmp_path / "none.parquet", "-o", out], "no such index"),
        ([run, "--data", index, "-o", tmp_path / "f.csv"], "must end in .parquet"),
        ([run, "--data", index, "-o", out, "--split", "dev"], "no image of the split 'dev'"),
        ([run, "--data", index, "-o", out, "--dtype", "int4"], "int4"),
        ([run, "--data", index, "-o", out, "--clusters", tmp_path / "c.parquet"], "no such clusters file"),
        ([run, "--data", index, "-o", out, "--root", tmp_path], "its images are not under"),
        ([run, "--data", index, "-o", out, "--pack", tmp_path], "no pack"),
    ):
        assert message in complaint(capsys, "embed", *words)
    assert list(tmp_path.iterdir()) == []


def test_the_page_of_the_documentation_works(run, index, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs" / "embeddings.md").read_text(encoding="utf-8")
    from geossl.cli import app

    for block in text.split("```")[1::2]:
        if block.startswith("\n"):
            for line in block.strip().splitlines():
                words = line.split()
                assert words[0] == "geossl"
                app.parse_args(words[1:], exit_on_error=False, print_error=False)
    (code,) = (block.removeprefix("python\n") for block in text.split("```")[1::2] if block.startswith("python\n"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(run)
    make_index(tmp_path).rename(tmp_path / "planet.parquet")
    exec(compile(code, "embeddings.md", "exec"), {})  # noqa: S102 - our own page
    assert capsys.readouterr().out.count("\n") == 5
    assert json.loads((tmp_path / "features.stac.json").read_text())["id"] == "features"
    assert pq.ParquetFile(tmp_path / "features.parquet").metadata.num_rows == 60
