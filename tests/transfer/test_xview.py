"""xView's release: its objects, its faults, its split."""

import json
import shutil

import numpy as np
import pytest
import rasterio
import shapely

from geossl.cli import main
from geossl.data.index import Index
from geossl.data.synth.detection import make_detection
from geossl.data.xview import CLASSES, LABELS, read_xview
from geossl.errors import UsageError
from geossl.transfer.objects import objects_file, read_objects


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release") / "xview"
    made = make_detection(folder, images=8, size=192)
    return folder, made


def test_there_are_sixty_classes():
    assert len(CLASSES) == 60


def test_every_fault_is_named_and_left_out(release):
    folder, made = release
    read = read_xview(folder)
    assert len(read.boxes) == made.objects, "all that were drawn, and no other"
    said = "\n".join(read.objects)
    for fault in (
        "1: type id 75, which is no class",
        "1: type id 82, which is no class",
        "1: of 1395.tif, which is not in train_images",
        "2: box outside its image",
        "1: box without an area",
        "1: no box in bounds_imcoords",
    ):
        assert fault in said
    assert "images without any: 1" in said
    sizes = dict(zip(read.index.column("path").to_pylist(), _sizes(read.index), strict=True))
    for path, (left, top, right, bottom) in zip(read.paths, read.boxes.tolist(), strict=True):
        width, height = sizes[path]
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def _sizes(index):
    return list(zip(*(index.column(name).to_pylist() for name in ("width", "height")), strict=True))


def test_boxes_and_places_are_those_of_the_labels(release):
    folder, _ = release
    read = read_xview(folder)
    labels = json.loads((folder / LABELS).read_text())["features"]
    first = labels[0]["properties"]
    given = [float(side) for side in first["bounds_imcoords"].split(",")]
    at = read.paths.index(f"train_images/{first['image_id']}")
    width, height = _sizes(read.index)[read.index.column("path").to_pylist().index(read.paths[at])]
    assert read.boxes[at].tolist() == np.clip(given, 0, [width, height, width, height]).tolist()
    assert read.categories[at] == CLASSES[first["type_id"]]
    for path, lat, lon in zip(*(read.index.column(name).to_pylist() for name in ("path", "lat", "lon")), strict=True):
        if lat is None:
            continue  # the image without objects
        with rasterio.open(folder / path) as file:
            assert file.bounds.bottom < lat < file.bounds.top
            assert file.bounds.left < lon < file.bounds.right


def test_the_split_is_the_papers_share_and_of_names_alone(release, tmp_path):
    folder, _ = release
    index = read_xview(folder).index
    splits = dict(zip(index.column("path").to_pylist(), index.column("split").to_pylist(), strict=True))
    assert list(splits.values()).count("val") == round(8 * 146 / 846)
    assert _splits(folder, test=3, seed=0) != _splits(folder, test=3, seed=1)
    shutil.copytree(folder, tmp_path / "fewer")
    (tmp_path / "fewer/train_images/3.tif").unlink()
    before, after = _splits(folder, test=3, seed=0), _splits(tmp_path / "fewer", test=3, seed=0)
    left = [path for path in before if before[path] == "val" and path in after]
    assert {after[path] for path in left} == {"val"}


def _splits(folder, *, test, seed):
    index = read_xview(folder, test=test, seed=seed).index
    return dict(zip(index.column("path").to_pylist(), index.column("split").to_pylist(), strict=True))


def test_objects_come_back_from_their_file(release, tmp_path):
    folder, made = release
    read = read_xview(folder)
    file = read.write(tmp_path / "xview.parquet")
    assert file == objects_file(tmp_path / "xview.parquet") == tmp_path / "xview.objects.parquet"
    objects = read_objects(Index.read(tmp_path / "xview.parquet"))
    assert len(objects) == made.objects
    paths = read.index.column("path").to_pylist()
    ours = sorted(
        (paths[row], objects.categories[code], tuple(box))
        for row, code, box in zip(objects.image, objects.category, objects.boxes.tolist(), strict=True)
    )
    assert ours == sorted(zip(read.paths, read.categories, map(tuple, read.boxes.tolist()), strict=True))
    assert shapely.area(objects.geometry).min() > 0


def test_what_is_wrong_is_said(release, tmp_path, capsys):
    folder, _ = release
    with pytest.raises(UsageError, match="xView has a folder train_images"):
        read_xview(tmp_path)
    with pytest.raises(UsageError, match="--test: 8 images to test on, of 8; give 1 to 7"):
        read_xview(folder, test=8)
    copy = tmp_path / "xview"
    shutil.copytree(folder, copy)
    (copy / LABELS).write_text('{"features": [{"properties": {}}]}')
    with pytest.raises(UsageError, match="not xView's labels: KeyError"):
        read_xview(copy)
    (copy / LABELS).unlink()
    with pytest.raises(UsageError, match=r"no xView_train\.geojson in it"):
        read_xview(copy)
    assert main(["data", "xview", str(folder), "-o", str(tmp_path / "x.parquet")]) == 0
    out = capsys.readouterr().out
    assert "next: geossl transfer detect RUN --data" in out
    assert "objects     " in out
    (tmp_path / "x.objects.parquet").unlink()
    with pytest.raises(UsageError, match=r"x\.objects\.parquet: no such file"):
        read_objects(Index.read(tmp_path / "x.parquet"))
    read_xview(folder).write(tmp_path / "y.parquet")
    read_xview(folder, seed=1).index.write(tmp_path / "y.parquet")
    with pytest.raises(UsageError, match="was made with another index"):
        read_objects(Index.read(tmp_path / "y.parquet"))
