import hashlib
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geossl.data.synth import make_planet
from geossl.data.synth.planet import BLOCK_DEGREES, FREQUENCY, plan_places
from geossl.data.synth.scene import Scene
from geossl.data.synth.structures import DRAW
from geossl.errors import GeosslError, UsageError


def digest(root: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.is_file():
            total.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def corners(polygon: str) -> np.ndarray:
    """[5, 2] longitude and latitude of a WKT polygon."""
    text = re.fullmatch(r"POLYGON \(\((.*)\)\)", polygon).group(1)
    return np.array([[float(number) for number in point.split()] for point in text.split(", ")])


@pytest.fixture(scope="module")
def planet(tmp_path_factory):
    out = tmp_path_factory.mktemp("synth") / "planet"
    return out, make_planet(out, places=120, seed=3)


@pytest.fixture(scope="module")
def sidecars(planet):
    return {path: json.loads(path.read_text()) for path in sorted(planet[0].rglob("*.json"))}


def test_same_arguments_same_bytes_for_any_number_of_workers(tmp_path):
    options = {"places": 12, "views": 3.0, "size": 40}
    for name, seed, workers in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
        make_planet(tmp_path / name, **options, seed=seed, workers=workers)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")


def test_the_layout_is_that_of_fmow_rgb(planet, sidecars):
    out, summary = planet
    images = sorted(str(p.relative_to(out)) for p in out.rglob("*.jpg"))
    pattern = r"(train|val)/([a-z_]+)/\2_(\d+)/\2_\3_(\d+)_rgb\.jpg"
    assert all(re.fullmatch(pattern, name) for name in images)
    assert [p.with_suffix(".jpg") for p in sidecars] == [out / name for name in images]
    folders = {p.parent for p in sidecars}
    assert (summary.images, summary.places, summary.folder) == (len(images), len(folders), out)
    assert {p.parent.name for p in folders} == set(FREQUENCY)
    assert summary.categories == len(FREQUENCY)
    for category in out.glob("*/*"):  # numbers start from 0 in each split and category
        numbers = sorted(int(p.name.rsplit("_", 1)[1]) for p in category.iterdir())
        assert numbers == list(range(len(numbers)))
    assert not list(out.parent.glob(".*"))


def test_sidecars_hold_what_fmow_holds(sidecars):
    forms = Counter()
    for path, meta in sidecars.items():
        with Image.open(path.with_suffix(".jpg")) as image:
            assert image.size == (meta["img_width"], meta["img_height"])
            assert image.mode == "RGB"
        assert meta["img_filename"] == path.with_suffix(".jpg").name
        assert meta["timestamp"].endswith("Z")
        assert 2011 <= datetime.fromisoformat(meta["timestamp"]).year <= 2019
        assert 0 <= meta["cloud_cover"] <= 100
        assert 5 < meta["gsd"] < 20
        assert re.fullmatch(r"X[AB][A-Z-]", meta["country_code"])
        ring = corners(meta["raw_location"])
        (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
        assert (ring[0] == ring[4]).all()
        assert -66 < south < north < 76
        assert -180 < west < east < 180
        assert meta["utm"][:2] == f"{int((west + east + 360) / 2 // 6) + 1:02d}"
        metres = (north - south) * 111_320 / meta["img_height"]
        assert metres == pytest.approx(meta["gsd"], rel=1e-6)
        assert (east - west) / (north - south) * np.cos(np.radians((north + south) / 2)) == pytest.approx(
            meta["img_width"] / meta["img_height"], rel=1e-3
        )
        boxes = meta["bounding_boxes"]
        forms["dict" if isinstance(boxes, dict) else len(boxes)] += 1
        for box in [boxes] if isinstance(boxes, dict) else boxes:
            x, y, w, h = box["box"]
            assert 0 <= x < x + w <= meta["img_width"]
            assert 0 <= y < y + h <= meta["img_height"]
            assert box["category"] == path.parent.parent.name
            assert 0.3 < w * h / (meta["img_width"] * meta["img_height"]) < 0.7
            assert (box["ID"] == -1) == ("raw_location" in box)
            if box["ID"] == -1:  # its footprint is that part of the image's
                inner = corners(box["raw_location"])
                left = (inner[:, 0].min() - west) / (east - west) * meta["img_width"]
                top = (north - inner[:, 1].max()) / (north - south) * meta["img_height"]
                assert (left, top) == pytest.approx((x, y), abs=1e-3)
    assert min(forms["dict"], forms[1], forms[2]) > 0.05 * len(sidecars)
    assert any("." in meta["timestamp"] for meta in sidecars.values())
    assert 0.05 < np.mean([meta["img_width"] != meta["img_height"] for meta in sidecars.values()]) < 0.3
    assert 0.05 < np.mean([meta["cloud_cover"] > 0 for meta in sidecars.values()]) < 0.4


def test_views_and_dates_of_places(sidecars):
    dates = defaultdict(list)
    for path, meta in sidecars.items():
        dates[path.parent].append((int(path.stem.split("_")[-2]), datetime.fromisoformat(meta["timestamp"])))
    counts = np.array([len(views) for views in dates.values()])
    assert 4 < counts.mean() < 6
    assert 0.07 < (counts == 1).mean() < 0.25
    assert counts.max() > 8
    chronological = []
    for views in dates.values():
        views.sort()
        times = [time for _, time in views]
        assert [number for number, _ in views] == list(range(len(views)))
        assert len({time.date() for time in times}) == len(times)
        if len(times) > 3:
            chronological.append(times == sorted(times))
    assert np.mean(chronological) < 0.2


@pytest.mark.parametrize(("mean", "low", "high"), [(1.0, 1.0, 1.0), (1.5, 1.35, 1.65), (12.0, 11.0, 13.0)])
def test_the_mean_number_of_views_is_the_wanted_one(mean, low, high):
    assert low <= np.mean([place.views for place in plan_places(places=600, views=mean, val=0.25, seed=0)]) <= high


@pytest.mark.parametrize("seed", range(4))
def test_splits_are_apart_in_whole_blocks(seed):
    plan = plan_places(places=400, views=5.0, val=0.25, seed=seed)
    blocks = defaultdict(set)
    for place in plan:
        blocks[place.split].add((place.lat // BLOCK_DEGREES, place.lon // BLOCK_DEGREES))
    assert not blocks["train"] & blocks["val"]
    assert 0.2 < np.mean([place.split == "val" for place in plan]) <= 0.25
    assert {place.category for place in plan if place.split == "val"} == set(FREQUENCY)


def test_places_gather_and_geography_says_something_about_the_class():
    agreement, chance = [], []
    for seed in range(4):
        plan = plan_places(places=400, views=1.0, val=0.25, seed=seed)
        lat, lon = np.radians([[p.lat, p.lon] for p in plan]).T
        units = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
        cosine = units @ units.T - 2 * np.eye(len(units))
        nearest = np.degrees(np.arccos(cosine.max(axis=1)))
        assert np.median(nearest) < 1.5  # 400 uniform places on the sphere: about 5 degrees
        neighbours = np.argsort(-cosine, axis=1)[:, :5]
        category = np.array([p.category for p in plan])
        agreement.append((category[neighbours] == category[:, None]).mean())
        chance.append((category[:, None] == category).mean())
    assert 1.4 * np.mean(chance) < np.mean(agreement) < 0.5


def test_dates_change_the_colours_and_leave_the_structure(planet, sidecars):
    """Edges correlate between dates of a place, and not between places; colours vary within a place."""
    edges, colors = {}, {}
    for path, meta in sidecars.items():
        if meta["cloud_cover"] > 5 or meta["img_width"] != 96 or meta["img_height"] != 96:
            continue
        image = np.asarray(Image.open(path.with_suffix(".jpg")).convert("RGB"), dtype=float)
        x, y, w, h = (
            meta["bounding_boxes"] if isinstance(meta["bounding_boxes"], dict) else meta["bounding_boxes"][0]
        )["box"]
        top, left = y + h // 2 - 30, x + w // 2 - 30
        gray = image.mean(axis=-1)[top : top + 60, left : left + 60]
        strength = np.hypot(*np.gradient(gray)).reshape(12, 5, 12, 5).mean(axis=(1, 3))
        edges.setdefault(path.parent, []).append((strength - strength.mean()).ravel() / strength.std())
        colors.setdefault(path.parent, []).append(image.mean(axis=(0, 1)))
    pairs = [(a[0], a[1]) for a in edges.values() if len(a) > 1]
    same = np.mean([(a * b).mean() for a, b in pairs])
    other = np.mean([(a[0] * b[1]).mean() for a, b in zip(pairs, pairs[1:] + pairs[:1], strict=True)])
    assert len(pairs) > 40
    assert same > 0.5
    assert other < 0.25
    within = np.mean([np.std(values, axis=0) for values in colors.values() if len(values) > 3])
    between = np.std([np.mean(values, axis=0) for values in colors.values()], axis=0).mean()
    assert within > 10  # of 255
    assert within > 0.4 * between


def test_snow_falls_in_the_winter_of_the_hemisphere(sidecars):
    bright = {True: [], False: []}
    for path, meta in sidecars.items():
        lat = corners(meta["raw_location"])[:, 1].mean()
        if not 42 < abs(lat) < 62 or meta["cloud_cover"] > 0:
            continue
        month = (datetime.fromisoformat(meta["timestamp"]).month + (6 if lat < 0 else 0) - 1) % 12 + 1
        if month in {1, 2, 12, 6, 7, 8}:
            pixels = np.asarray(Image.open(path.with_suffix(".jpg")).convert("HSV"))
            white = (pixels[..., 1] < 40) & (pixels[..., 2] > 150)
            bright[month in {1, 2, 12}].append(white.mean())
    assert min(len(values) for values in bright.values()) >= 8
    assert np.mean(bright[True]) > np.mean(bright[False]) + 0.25


def test_colour_statistics_do_not_give_the_class_away(planet, sidecars):
    """A linear classifier of the bands' means and deviations stays far from solving the task."""
    split, labels, features = [], [], []
    for path in sidecars:
        image = np.asarray(Image.open(path.with_suffix(".jpg")), dtype=float)
        features.append(np.concatenate([image.mean(axis=(0, 1)), image.std(axis=(0, 1))]))
        split.append(path.parts[-4])
        labels.append(path.parts[-3])
    train, features, labels = np.array(split) == "train", np.array(features), np.array(labels)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(features[train], labels[train])
    assert model.score(features[~train], labels[~train]) < 0.5


def test_four_bands_are_geotiffs_of_reflectance(tmp_path):
    summary = make_planet(tmp_path / "ms", places=10, views=2.0, size=64, bands=4, seed=5)
    files = sorted((tmp_path / "ms").rglob("*.tif"))
    assert len(files) == summary.images
    infrared = []
    for file in files:
        assert re.fullmatch(r"[a-z_]+_\d+_\d+_ms\.tif", file.name)
        meta = json.loads(file.with_suffix(".json").read_text())
        ring = corners(meta["raw_location"])
        with rasterio.open(file) as source:
            assert source.dtypes == ("uint16",) * 4
            assert source.crs.to_epsg() == 4326
            assert source.profile["tiled"]
            assert source.compression.name == "deflate"
            assert (source.width, source.height) == (meta["img_width"], meta["img_height"])
            assert tuple(source.bounds) == pytest.approx((*ring.min(axis=0), *ring.max(axis=0)), abs=1e-9)
            samples = source.read().astype(float)
        assert 300 < samples.mean() < 9000
        assert samples.max() < 20_000
        green = samples[1] > 1.1 * samples[0]
        infrared.append(np.where(green, samples[3] / samples[0].clip(1), np.nan))
    assert np.nanmedian(np.concatenate([values.ravel() for values in infrared])) > 2.0  # vegetation


@pytest.mark.parametrize("size", [32, 33, 200])
def test_other_sizes(tmp_path, size):
    made = make_planet(tmp_path / "p", places=10, views=1.0, size=size, val=0.0)
    assert made.images == made.places == 10
    for path in made.folder.rglob("*.jpg"):
        with Image.open(path) as image:
            assert all(abs(side - size) <= 3 for side in image.size)
    assert not (made.folder / "val").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"places": 9}, "places: must be 10 or more, not 9"),
        ({"views": 0.5}, "views: must be 1 to 50, not 0.5"),
        ({"views": float("nan")}, "views: must be 1 to 50, not nan"),
        ({"size": 2000}, "size: must be 32 to 1024 pixels, not 2000"),
        ({"bands": 5}, r"bands: must be 3 \(JPEG\) or 4 \(GeoTIFF\), not 5"),
        ({"seed": -1}, "seed: must be 0 to"),
        ({"val": 1.0}, "val: must be 0 to 0.9, not 1.0"),
        ({"workers": -1}, "workers: must be 0"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        make_planet(tmp_path / "planet", **arguments)
    assert not list(tmp_path.iterdir())


def test_what_exists_is_left_alone(tmp_path):
    (tmp_path / "planet").mkdir()
    (tmp_path / "planet" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("planet", "file"):
        with pytest.raises(UsageError, match=f"{name}: exists and is not an empty folder"):
            make_planet(tmp_path / name, places=10, views=1.0, size=32)
    assert (tmp_path / "planet" / "thesis.tex").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "planet"]


def test_an_empty_folder_is_used_and_a_dead_run_cleaned_up(tmp_path):
    (tmp_path / "planet").mkdir()
    (tmp_path / ".planet.partial" / "train").mkdir(parents=True)
    made = make_planet(tmp_path / "planet", places=10, views=1.0, size=32)
    assert made.images == len(list((tmp_path / "planet").rglob("*.jpg"))) == 10
    assert [p.name for p in tmp_path.iterdir()] == ["planet"]


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    original = Image.Image.save

    def full(self, file, **options):
        if "airport" in str(file):
            raise OSError(28, "No space left on device")
        original(self, file, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(GeosslError, match=r"planet: cannot write the data set: .*No space left"):
        make_planet(tmp_path / "planet", places=60, views=1.0, size=32)
    assert not list(tmp_path.iterdir())


def test_synth_does_not_import_torch():
    code = "import sys, geossl.data.synth; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_class_is_drawn(tmp_path):
    """Each class changes a good part of the bare ground in the middle of the scene."""
    place = plan_places(places=10, views=1.0, val=0.0, seed=0)[0]
    for draw in DRAW.values():
        bare = Scene(place, np.random.default_rng(1), size=64)
        before = bare.surface.copy()
        draw(bare)
        assert (bare.surface != before)[40:-40, 40:-40].mean() > 0.1
