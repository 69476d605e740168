"""`--update`: what is read again, and that the result is a fresh index."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from geossl.data.index import Index, build_index
from geossl.data.stored import IndexFile
from geossl.errors import UsageError

SQUARE = "POLYGON ((10 20, 12 20, 12 22, 10 22, 10 20))"


def add(root: Path, place: str, view: int, *, boxes: int = 1, **more: object) -> Path:
    path = root / "train" / "airport" / place / f"{place}_{view}_rgb.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path)
    listed = [{"ID": i, "category": "airport", "box": [i, 5, 20, 15]} for i in range(boxes)]
    meta = {"gsd": 0.5, "timestamp": "2012-04-02T10:32:22Z", "raw_location": SQUARE, "bounding_boxes": listed} | more
    path.with_suffix(".json").write_text(json.dumps(meta))
    return path


@pytest.fixture
def made(tmp_path):
    """A set of two places, and its index's file."""
    root = tmp_path / "fmow"
    for place in ("airport_0", "airport_1"):
        for view in range(3):
            add(root, place, view)
    file = tmp_path / "index.parquet"
    build_index(root)[0].write(file)
    return root, file


def updated(root: Path, file: Path, **options) -> str:
    """What an update says it did, once it is the same as a fresh index; it is written."""
    index, report = build_index(root, update=file, **options)
    fresh, fresh_report = build_index(root, **options)
    assert index.content_hash == fresh.content_hash
    assert index.table.equals(fresh.table)
    assert index.origin.stamps.tolist() == fresh.origin.stamps.tolist()
    said, *others = [note for note in report.notes if note.startswith("update: ")]
    assert not others
    assert [note for note in report.notes if note != said] == fresh_report.notes
    assert (report.rejected, report.nulled) == (fresh_report.rejected, fresh_report.nulled)
    index.write(file)
    return said.removeprefix("update: ")


def test_what_has_not_changed_is_kept(made):
    root, file = made
    assert updated(root, file) == "6 kept, 0 read again, 0 new, 0 gone"


def test_a_changed_sidecar_or_image_reads_its_place_again(made):
    root, file = made
    path = add(root, "airport_0", 1, gsd=0.75)
    assert updated(root, file) == "3 kept, 3 read again, 0 new, 0 gone"
    assert Index.read(file).table["gsd"].to_pylist()[1] == 0.75
    Image.new("RGB", (50, 30)).save(path)
    assert updated(root, file) == "3 kept, 3 read again, 0 new, 0 gone"
    os.utime(path, (1, 1))
    assert updated(root, file) == "3 kept, 3 read again, 0 new, 0 gone"


def test_new_and_removed_files(made):
    root, file = made
    add(root, "airport_2", 0)
    path = root / "train/airport/airport_1/airport_1_2_rgb.jpg"
    path.unlink()
    assert updated(root, file) == "3 kept, 2 read again, 1 new, 1 gone"
    path.with_name("airport_1_1_rgb.json").unlink()
    assert updated(root, file) == "4 kept, 2 read again, 0 new, 0 gone"


def test_a_date_with_two_boxes_splits_the_place_on_all_dates(made):
    root, file = made
    path = add(root, "airport_0", 3, boxes=2)
    assert updated(root, file) == "3 kept, 3 read again, 1 new, 0 gone"
    assert Index.read(file).table["location_id"].to_pylist()[0].endswith("#0")
    path.unlink()
    assert updated(root, file) == "3 kept, 3 read again, 0 new, 1 gone"


def test_what_was_bad_is_tried_again(made):
    root, file = made
    path = add(root, "airport_2", 0)
    path.write_bytes(b"")
    add(root, "airport_3", 0, timestamp="yesterday")
    assert updated(root, file) == "6 kept, 0 read again, 1 new, 0 gone"
    # Its value that became null is named again.
    assert updated(root, file) == "6 kept, 1 read again, 0 new, 0 gone"
    add(root, "airport_2", 0)
    assert updated(root, file) == "6 kept, 1 read again, 1 new, 0 gone"


def test_the_set_and_its_index_can_be_moved(made):
    root, file = made
    moved = root.parent / "elsewhere"
    moved.mkdir()
    root.rename(moved / "fmow")
    shutil.move(file, moved / "index.parquet")
    assert updated(moved / "fmow", moved / "index.parquet") == "6 kept, 0 read again, 0 new, 0 gone"


def test_the_categories_of_the_test_set(made):
    root, file = made
    folder = root / "test/0000007"
    folder.mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "0000007_4_rgb.jpg")
    assert updated(root, file) == "6 kept, 0 read again, 1 new, 0 gone"
    mapping = [{"input": "test_gt/zoo/zoo_5", "output": "test/0000007"}]
    (root / "test_gt_mapping.json").write_text(json.dumps(mapping))
    assert updated(root, file) == "6 kept, 1 read again, 0 new, 0 gone"
    assert Index.read(file).table["category"].to_pylist()[0] == "zoo"


def test_other_kinds_of_image(made):
    root, file = made
    folder = root / "train/airport/airport_0"
    Image.new("RGB", (40, 30)).save(folder / "airport_0_0_msrgb.jpg")
    assert updated(root, file).startswith("6 kept")
    said = updated(root, file, images="msrgb")
    assert said == f"all is read: {file} was made with other options (images)"
    # There is no rgb image left, so that the first kind is another.
    only = root.parent / "only"
    (only / "zoo_1").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(only / "zoo_1/zoo_1_0_msrgb.jpg")
    assert updated(only, file.with_name("only.parquet")).startswith("all is read: ")
    assert updated(only, file.with_name("only.parquet")) == "1 kept, 0 read again, 0 new, 0 gone"


def test_places_by_radius(made):
    root, file = made
    far = SQUARE.replace("20", "24").replace("22", "26")
    add(root, "airport_2", 0, raw_location=far)
    options = {"places": "radius", "radius_km": 5.0}
    assert updated(root, file, **options).startswith("all is read: ")
    assert updated(root, file, **options) == "7 kept, 0 read again, 0 new, 0 gone"
    assert len(set(Index.read(file).table["location_id"].to_pylist())) == 2
    add(root, "airport_1", 7, raw_location=far)
    assert updated(root, file, **options) == "4 kept, 3 read again, 1 new, 0 gone"


def test_what_cannot_be_updated(made, tmp_path):
    root, file = made
    read = Index.read(file)
    Index(read.table, read.root, read.content_hash).write(file)
    assert not IndexFile(file).has_stamps
    assert updated(root, file).startswith("all is read: ")
    other = tmp_path / "other.parquet"
    other.write_bytes(b"no index")
    with pytest.raises(UsageError, match="not an index"):
        build_index(root, update=other)
    (root / "list.csv").write_text("label,path\nx,train/airport/airport_0/airport_0_0_rgb.jpg\n")
    _, report = build_index(root / "list.csv", update=file)
    assert "update: all is read anew; only fMoW's layout and photos are updated, this is csv" in report.notes


def test_photos(tmp_path):
    root, file = tmp_path / "photos", tmp_path / "photos.parquet"
    (root / "zoo").mkdir(parents=True)
    for name in ("a.jpg", "zoo/b.png"):
        Image.new("RGB", (40, 30)).save(root / name)
    assert updated(root, file, layout="photos").startswith("all is read: ")
    Image.new("RGB", (50, 30)).save(root / "zoo/b.png")
    assert updated(root, file, layout="photos") == "1 kept, 1 read again, 0 new, 0 gone"
