"""What `geossl predict` writes of a classifier: its categories, where they lie, and what it refuses."""

import csv
import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from finetune_data import COLOURS, SIZE, make_data, make_run, run
from PIL import Image
from rich.console import Console

from geossl.cli import main
from geossl.data.index import Index
from geossl.data.table import SCHEMA
from geossl.errors import UsageError
from geossl.evaluate.predictions import read_predictions
from geossl.predict import predict


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a classifier, and the index that it has learnt from: boxes with context, half with coordinates."""
    folder = tmp_path_factory.mktemp("trained")
    data = make_data(folder / "images", shape=(48, 64))
    index = Index.read(data)
    columns = {name: index.table[name].to_pylist() for name in SCHEMA.names}
    for row in range(len(index)):
        box = (row % 20, 5, 20, 16 + row % 8)
        for name, value in zip(("box_x", "box_y", "box_w", "box_h"), box, strict=True):
            columns[name][row] = value
        if row % 2:
            columns["lat"][row], columns["lon"][row] = 50.25 - row, -120.5 + row
        # Pixels that tell the box and its context from the rest of the image.
        with Image.open(index.root / columns["path"][row]) as image:
            pixels = np.array(image)
        pixels[:, 40:] = 255 - pixels[:, 40:]
        Image.fromarray(pixels).save(index.root / columns["path"][row])
    table = pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
    index.with_table(table).write(data)
    result, _ = run(make_run(folder / "run"), data, epochs=6, lr=0.01)
    return result.out, data


def written(out):
    with (out / "classes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def call(trained, source, out, **options):
    """The files, and what was said."""
    console = Console(file=io.StringIO(), width=300)
    files = predict(trained[0], source, out=out, device="cpu", console=console, **options)
    return files, console.file.getvalue()


def write_tiff(file, pixels):
    """A GeoTIFF of uint8 [bands, h, w] whose upper left corner is 70 degrees west and 10 north."""
    bands, height, width = pixels.shape
    profile = {"driver": "GTiff", "dtype": "uint8", "count": bands, "height": height, "width": width}
    place = {"crs": "EPSG:4326", "transform": rasterio.Affine(0.5, 0, -70, 0, -0.25, 10)}
    with rasterio.open(file, "w", **profile, **place) as made:
        made.write(pixels)


def test_predictions_are_those_of_the_test(trained, tmp_path):
    folder, data = trained
    assert main(["predict", str(folder), str(data), "-o", str(tmp_path), "--device", "cpu"]) == 0
    rows, index = written(tmp_path), Index.read(data)
    assert [row["path"] for row in rows] == index.column("path").to_pylist()
    assert list(rows[0])[3:] == ["lat", "lon", "box_x", "box_y", "box_w", "box_h"]
    (test,), classes = read_predictions(folder / "test" / "predictions.parquet")
    assert len(test.rows) == 8
    best, codes = test.probabilities.max(1)
    ours = [rows[row] for row in test.rows.tolist()]
    assert [row["category"] for row in ours] == [classes[code] for code in codes.tolist()]
    assert [float(row["probability"]) for row in ours] == pytest.approx(best.tolist(), abs=1e-5)
    assert len(set(codes.tolist())) > 1, "images that differ, so that an exchange would show"
    assert [int(row["box_x"]) for row in rows] == index.column("box_x").to_pylist()


def test_points_have_the_coordinates_of_the_index(trained, tmp_path):
    _, data = trained
    files, _ = call(trained, data, tmp_path)
    assert [file.name for file in files] == ["classes.csv", "classes.geojson"]
    content = json.loads(files[1].read_text())
    assert set(content) == {"type", "features"}, "RFC 7946 has no member crs"
    index, rows = Index.read(data), {row["path"]: row for row in written(tmp_path)}
    want = {path: [lon, lat] for path, lat, lon in zip(*map(index.column, ("path", "lat", "lon")), strict=True)}
    want = {path.as_py(): [x.as_py() for x in at] for path, at in want.items() if at[0].is_valid}
    found = {one["properties"]["path"]: one["geometry"]["coordinates"] for one in content["features"]}
    assert len(found) == 16
    assert found == want
    for one in content["features"]:
        row = rows[one["properties"]["path"]]
        assert one["geometry"]["type"] == "Point"
        assert one["properties"]["category"] == row["category"]
        assert one["properties"]["probability"] == float(row["probability"])
        assert [float(row["lon"]), float(row["lat"])] == one["geometry"]["coordinates"]
    assert {row["lat"] for path, row in rows.items() if path not in found} == {""}


def test_unreadable_images_are_left_out(trained, tmp_path):
    _, data = trained
    images = tmp_path / "images"
    images.mkdir()
    for name in ("0_0.png", "1_0.png", "1_1.png", "2_0.png"):
        shutil.copy(data.parent / name, images)
    for name in ("1_0.png", "1_1.png"):  # more than the one that training would bear
        whole = (images / name).read_bytes()
        (images / name).write_bytes(whole[: len(whole) // 2])  # the header is whole
    (images / "3_0.png").write_bytes(b"no image")
    files, said = call(trained, images, tmp_path / "out", draw=True)
    assert [file.name for file in files] == ["classes.csv", "classes.png"], "no image has coordinates"
    rows = written(tmp_path / "out")
    assert [row["path"] for row in rows] == ["0_0.png", "2_0.png"]
    assert list(rows[0]) == ["path", "category", "probability", "lat", "lon"]
    assert "1_0.png: left out: " in said
    assert "1_1.png: left out: " in said
    assert "3_0.png: left out: " in said
    with Image.open(files[1]) as picture:
        assert picture.width > 200


def test_an_image_has_the_place_of_its_georeference(trained, tmp_path):
    pixels = np.full((3, SIZE, SIZE), np.array(COLOURS["ice"], "u1")[:, None, None])
    write_tiff(tmp_path / "a.tif", pixels)
    files, _ = call(trained, tmp_path / "a.tif", tmp_path / "out")
    (one,) = json.loads(files[1].read_text())["features"]
    assert one["geometry"]["coordinates"] == pytest.approx([-70 + 0.5 * SIZE / 2, 10 - 0.25 * SIZE / 2])


def test_the_least_probability(trained, tmp_path):
    _, data = trained
    call(trained, data, tmp_path / "all")
    values = [float(row["probability"]) for row in written(tmp_path / "all")]
    least = sorted(values)[20] - 1e-6
    sure = [value for value in values if value >= least]
    assert 0 < len(sure) < len(values)
    _, said = call(trained, data, tmp_path / "sure", least=least)
    assert [float(row["probability"]) for row in written(tmp_path / "sure")] == sure
    assert f"{32 - len(sure)} of 32 images are left out" in said
    assert call(trained, data, tmp_path / "none", least=1.0)[0] == [tmp_path / "none" / "classes.csv"]
    assert written(tmp_path / "none") == []


def test_what_is_refused(trained, tmp_path):
    _, data = trained
    call(trained, data, tmp_path / "out")
    before = (tmp_path / "out" / "classes.csv").read_bytes()
    with pytest.raises(UsageError, match=r"classes\.csv: exists already; remove it, or name another folder"):
        call(trained, data.parent / "0_0.png", tmp_path / "out")
    assert (tmp_path / "out" / "classes.csv").read_bytes() == before
    (tmp_path / "out" / "classes.csv").unlink()
    with pytest.raises(UsageError, match=r"classes\.geojson: exists already"):
        call(trained, data.parent / "0_0.png", tmp_path / "out")
    write_tiff(tmp_path / "four.tif", np.zeros((4, SIZE, SIZE), "u1"))
    with pytest.raises(UsageError, match="images of 4 bands; the classifier reads 3"):
        call(trained, tmp_path / "four.tif", tmp_path / "four")
    with pytest.raises(UsageError, match=r"no run of `geossl transfer` or `geossl finetune`"):
        call((tmp_path,), data, tmp_path / "no")
    assert not (tmp_path / "four").exists()
    assert not (tmp_path / "no").exists()


def test_a_run_without_a_network_is_refused(planet, tmp_path):
    words = ["--arm", "moco", "--data", str(planet), "--out", str(tmp_path / "run"), "--epochs", "1", "--batch", "8"]
    words += ["--model.backbone", "timm/test_resnet", "--crop.size", "32", "--device", "cpu", "--loader.threads", "1"]
    assert main(["train", *words]) == 0
    with pytest.raises(UsageError, match=r"`geossl transfer detect .*`geossl finetune"):
        call((tmp_path / "run",), planet, tmp_path / "out")
    assert not (tmp_path / "out").exists()
