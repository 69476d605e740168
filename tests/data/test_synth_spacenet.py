"""The made SpaceNet 1: its files, its outlines, and that buildings can be told from the images."""

import hashlib
import json

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize
from shapely.geometry import shape
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import jaccard_score

from geossl.cli import main
from geossl.data.synth.spacenet import EMPTY, FAULTS, make_spacenet
from geossl.errors import UsageError


def digest(root):
    total = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.is_file():
            total.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_spacenet(tmp_path_factory.mktemp("synth") / "spacenet1", images=36, size=72, seed=3)


def test_the_layout_is_that_of_the_release(made):
    files = {str(path.relative_to(made.folder)) for path in made.folder.rglob("*") if path.is_file()}
    missing = {made.faults["no image"]: "tif", made.faults["no footprints"]: "geojson"}
    expected = set()
    for number in range(1, 37):
        name = f"AOI_1_RIO_img{number}"
        if missing.get(name) != "tif":
            expected |= {f"3band/3band_{name}.tif", f"8band/8band_{name}.tif"}
        if missing.get(name) != "geojson":
            expected.add(f"vectordata/geojson/Geo_{name}.geojson")
    assert files == expected
    with rasterio.open(made.folder / "3band/3band_AOI_1_RIO_img1.tif") as rgb:
        assert (rgb.count, rgb.dtypes[0], rgb.crs.to_epsg()) == (3, "uint8", 4326)
        assert rgb.width in (72, 73)
        assert rgb.height in (67, 68)
    with rasterio.open(made.folder / "8band/8band_AOI_1_RIO_img1.tif") as ms:
        assert (ms.count, ms.dtypes[0], ms.width, ms.height) == (8, "uint16", 18, rgb.height // 4)
    np.testing.assert_allclose(rgb.bounds, ms.bounds, atol=4 * 4.5e-6)
    assert -43.78 < rgb.bounds.left < -43.6
    assert -23 < rgb.bounds.bottom < -22.9


def test_same_arguments_same_files_for_any_number_of_workers(tmp_path):
    for name, seed, workers in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
        make_spacenet(tmp_path / name, images=30, size=64, seed=seed, workers=workers)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_every_fault_is_there(made):
    assert made.faults.keys() == {*FAULTS, *EMPTY}
    geojson = made.folder / "vectordata/geojson"
    assert (geojson / f"Geo_{made.faults['no bytes']}.geojson").stat().st_size == 0
    assert json.loads((geojson / f"Geo_{made.faults['no features']}.geojson").read_text())["features"] == []
    with pytest.raises(json.JSONDecodeError):
        json.loads((geojson / f"Geo_{made.faults['bad json']}.geojson").read_text())
    crossed = json.loads((geojson / f"Geo_{made.faults['crossed']}.geojson").read_text())
    valid = [shape(feature["geometry"]).is_valid for feature in crossed["features"]]
    assert valid == [True] * (len(valid) - 1) + [False]
    with pytest.raises(rasterio.errors.RasterioError):
        rasterio.open(made.folder / f"3band/3band_{made.faults['broken image']}.tif")


def pixels_and_masks(folder, numbers):
    images, masks = [], []
    for number in numbers:
        with rasterio.open(folder / f"3band/3band_AOI_1_RIO_img{number}.tif") as file:
            image, inverse = file.read().astype(float), ~file.transform
        text = (folder / f"vectordata/geojson/Geo_AOI_1_RIO_img{number}.geojson").read_text()
        drawn = [shape(feature["geometry"]) for feature in json.loads(text)["features"]]
        drawn = [shapely.affinity.affine_transform(shapely.force_2d(each), inverse.to_shapely()) for each in drawn]
        mask = rasterize(drawn, out_shape=image.shape[1:]) if drawn else np.zeros(image.shape[1:])
        context = [np.roll(image, (dy, dx), (1, 2)) for dy in (-2, 0, 2) for dx in (-2, 0, 2)]
        images.append(np.concatenate(context).reshape(27, -1).T)
        masks.append(mask.ravel())
    return np.concatenate(images), np.concatenate(masks)


def test_buildings_can_be_told_from_the_pixels(made):
    """A plain classifier of 5 x 5 pixels finds much more of them than any constant does."""
    clean = [n for n in range(1, 25) if f"AOI_1_RIO_img{n}" not in made.faults.values() and n % 10 != 5]
    train, test = (pixels_and_masks(made.folder, numbers) for numbers in (clean[:14], clean[14:]))
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(*train)
    score = jaccard_score(test[1], model.predict(test[0]))
    constant = test[1].mean()
    assert 0.05 < constant < 0.5
    assert score > constant + 0.3


def test_a_wrong_argument_leaves_nothing_behind(tmp_path):
    for more in ({"images": 29}, {"size": 63}, {"seed": -1}):
        with pytest.raises(UsageError, match="made SpaceNet"):
            make_spacenet(tmp_path / "a", **({"images": 30, "size": 64} | more))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        make_spacenet(tmp_path / "full", images=30, size=64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_the_command(tmp_path, capsys):
    out = tmp_path / "town"
    assert main(["data", "synth", str(out), "--task", "segment", "--places", "30", "--size", "64"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("30 images, ")
    assert f"next: geossl data spacenet {out} -o {out}.parquet" in text
