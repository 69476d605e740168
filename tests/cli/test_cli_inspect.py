"""`geossl data inspect`, and what training says of its pairs."""

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_cli import TINY, complaint, run

from geossl.data.index import Index
from geossl.data.pairs import count_pairs


def without(index: Path, out: Path, *names: str) -> Path:
    """The index with these columns empty."""
    read = Index.read(index, images=False)
    table = read.table
    for name in names:
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), pa.nulls(len(table), table.schema.field(name).type))
    Index(table=table, root=read.root, content_hash="changed").write(out)
    return out


def test_it_prints_views_gaps_and_pairs_without_the_images(
    planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = Path(shutil.copy(planet, tmp_path))
    plot = tmp_path / "plot.png"
    words = ["--pairs.season", "other", "--pairs.gap_days", "100", "none", "--threads", "1"]
    assert run("data", "inspect", index, "--plot", plot, *words) == 0
    out = capsys.readouterr().out
    read = Index.read(index, images=False)
    table = pq.read_table(index)
    assert f"{len(table):,}: 3 bands uint8" in out
    assert re.search(rf"cloud cover {len(table):,}\n", out)
    assert "sensors     4\n" in out
    for count in count_pairs(read):
        assert re.search(
            rf"  {re.escape(count.name)} +{count.images:,} \(\S+\) +{count.pairs:,} +{count.places:,}\n", out
        )
    pairs = re.search(r"the settings given +[\d,]+ \(\S+\) +([\d,]+)", out)
    assert pairs
    # Each image is on a bar, and each pair.
    views, gaps = (re.findall(r"^  .*?  +([\d,]+)  +[\d.]+%", part, re.MULTILINE) for part in out.split("\n\n")[1:3])
    assert sum(int(n.replace(",", "")) for n in views) == len(table["location_id"].unique())
    assert sum(int(n.replace(",", "")) for n in gaps) == count_pairs(read)[0].pairs
    assert out.endswith(f"-> {plot}\n")
    with Image.open(plot) as image:
        assert min(image.size) > 500


def test_an_index_may_lack_dates_places_and_classes(
    planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = without(planet, tmp_path / "undated.parquet", "timestamp", "sensor", "category")
    assert run("data", "inspect", index, "--plot", tmp_path / "undated.png") == 0
    out = capsys.readouterr().out
    assert "none: no place has two dates that are known" in out
    assert re.search(r"another season +0 \(0.0%\) +0 +0\n", out)
    index = without(planet, tmp_path / "nowhere.parquet", "location_id")
    assert run("data", "inspect", index, "--plot", tmp_path / "nowhere.png") == 0
    assert "no image has a location_id: there are no places, and no pairs" in capsys.readouterr().out


def test_what_it_cannot_do(planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such index" in complaint(capsys, "data", "inspect", tmp_path / "no.parquet")
    assert "pairs.gap_days: 0 <=" in complaint(capsys, "data", "inspect", planet, "--pairs.gap-days", "30", "10")


def test_training_says_how_many_images_have_no_allowed_date(
    planet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--recipe", "tp", "--data", planet, *TINY, "--epochs", "1", "--pairs.season", "other"]
    assert run(*words, "--out", tmp_path / "run", "--pairs.alone", "leave_out") == 0
    out = capsys.readouterr().out
    images, left = re.search(r"([\d,]+) images, ", out), re.search(r"pairs: (\d+) images have no allowed", out)
    assert images
    assert left
    read = Index.read(planet)
    assert int(images[1]) + int(left[1]) == len(read.rows(split="train"))
    assert "have no allowed other date: left out" in out
    line = complaint(capsys, *words, "--out", tmp_path / "run2", "--pairs.gap_days", "9999", "none")
    assert "no two dates of a place" in line
    assert "geossl data inspect" in line
    line = complaint(capsys, *words[:2], "moco", *words[3:], "--out", tmp_path / "run3")
    assert "pairs.season: for two dates of a place; the arm moco shows one" in line
    # A run does not go on with other pairs.
    line = complaint(capsys, *words, "--out", tmp_path / "run", "--resume", "auto")
    assert "pairs" in line
