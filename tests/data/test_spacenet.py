"""SpaceNet's folders become an index with footprints, whatever is wrong with their files."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from made_geotiffs import write_tiff
from rasterio.features import rasterize

from geossl.cli import main
from geossl.data.index import Index
from geossl.data.spacenet import FOOTPRINTS, IMAGE, _scene, index_spacenet
from geossl.data.synth.spacenet import make_spacenet
from geossl.errors import UsageError
from geossl.transfer.objects import read_objects

PIXEL = 1e-5
ORIGIN = (-43.6, -22.9)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_spacenet(tmp_path_factory.mktemp("spacenet") / "spacenet1", images=40, size=64, seed=1)


@pytest.fixture(scope="module")
def indexed(made):
    out = made.folder.with_suffix(".parquet")
    report = index_spacenet(made.folder, out=out, threads=1)
    index = Index.read(out)
    return index, read_objects(index), report


def place(*points, height=None):
    """Points of an image of `tile` in degrees."""
    more = () if height is None else (height,)
    return [[ORIGIN[0] + x * PIXEL, ORIGIN[1] - y * PIXEL, *more] for x, y in points]


def polygon(*points, height=None):
    return {"type": "Polygon", "coordinates": [place(*points, height=height)]}


def square(x, y, side=5, **more):
    return polygon((x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y), **more)


def tile(file: Path, **more):
    options = {"crs": "EPSG:4326", "origin": ORIGIN, "pixel": PIXEL, "size": (40, 30), "bands": 3, "dtype": "uint8"}
    return write_tiff(file, **(options | more))


def labels(file: Path, *geometries, **more):
    file.parent.mkdir(parents=True, exist_ok=True)
    features = [{"type": "Feature", "properties": {}, "geometry": each} for each in geometries]
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features} | more))


def scene(root: Path, number: int, *geometries, **more):
    tile(root / f"3band/3band_AOI_1_RIO_img{number}.tif")
    labels(root / f"vectordata/geojson/Geo_AOI_1_RIO_img{number}.geojson", *geometries, **more)


def read(root: Path, **options):
    out = root.parent / f"{root.name}.parquet"
    report = index_spacenet(root, out=out, test=0.5, threads=1, **options)
    index = Index.read(out)
    return index, read_objects(index), report


def only(objects, row=0):
    (one,) = objects.geometry[objects.of(row)]
    return one


def test_footprints_are_in_pixels(tmp_path):
    root = tmp_path / "set"
    scene(root, 1, square(3, 4, height=0.0), square(20, 10, 8))
    scene(root, 2)
    index, objects, report = read(root)
    assert index.column("path").to_pylist() == [f"3band/3band_AOI_1_RIO_img{i}.tif" for i in (1, 2)]
    assert index.column("location_id").to_pylist() == ["AOI_1_RIO_img1", "AOI_1_RIO_img2"]
    assert index.column("band_names").to_pylist() == ["red,green,blue"] * 2
    assert sorted(index.column("split").to_pylist()) == ["train", "val"]
    np.testing.assert_allclose(index.column("lat").to_pylist(), ORIGIN[1] - 15 * PIXEL)
    np.testing.assert_allclose(objects.boxes, [[3, 4, 8, 9], [20, 10, 28, 18]], atol=1e-6)
    assert objects.image.tolist() == [0, 0]
    assert objects.categories == ["building"]
    assert not shapely.has_z(objects.geometry).any()
    assert (report.buildings, report.empty, report.left_out, report.mended) == (2, 1, [], [])


def test_each_outline_that_is_no_building_is_named(tmp_path):
    root = tmp_path / "set"
    good = square(3, 4)
    corner = place((1, 1))[0]
    faults = [
        (None, "a feature without geometry"),
        ({"type": "Point", "coordinates": corner}, "not a polygon: Point"),
        ({"type": "LineString", "coordinates": place((1, 1), (2, 2))}, "not a polygon: LineString"),
        ({"type": "Polygon", "coordinates": [[corner, place((2, 1))[0], corner]]}, "fewer than 3 corners"),
        ({"type": "Polygon", "coordinates": []}, "an outline without numbers"),
        ({"type": "Polygon", "coordinates": [[[None, 1], [2, 3], [4, 5], [None, 1]]]}, "an outline"),
        ({"type": "Blob", "coordinates": []}, "an outline that cannot be drawn"),
        (square(50, 4), "an outline beyond the image"),
        (square(3, 4, 0.3), "an outline of less than 0.1 square pixels"),
        (polygon((1, 1), (9, 9), (5, 5), (1, 1)), "an outline of less than 0.1 square pixels"),
        (polygon((1, 1), (9, 9), (1, 1), (9, 9), (1, 1)), "an outline of less than 0.1 square pixels"),
    ]
    for number, (geometry, _) in enumerate(faults, 1):
        scene(root, number, good, geometry)
    index, objects, report = read(root)
    assert len(index) == len(objects) == len(faults)
    told = dict(report.left_out)
    for number, (geometry, reason) in enumerate(faults, 1):
        assert reason in told[f"vectordata/geojson/Geo_AOI_1_RIO_img{number}.geojson"], geometry
    assert shapely.equals_exact(objects.geometry, shapely.box(3, 4, 8, 9), 1e-6, normalize=True).all()
    text = "\n".join(report.lines())
    assert f"left out    {len(faults)} outlines" in text
    assert "2 x not a polygon, e.g. vectordata/geojson/Geo_AOI_1_RIO_img2.geojson (Point)" in text


def test_outlines_are_mended(tmp_path):
    root = tmp_path / "set"
    both = {"type": "MultiPolygon", "coordinates": [square(1, 1)["coordinates"], square(11, 1)["coordinates"]]}
    point = {"type": "Point", "coordinates": place((1, 1))[0]}
    scene(root, 1, polygon((0, 0), (10, 10), (10, 0), (0, 10), (0, 0)))
    scene(root, 2, both)
    scene(root, 3, {"type": "GeometryCollection", "geometries": [point, square(5, 5), both]})
    scene(root, 4, square(37, 27))
    scene(root, 5, polygon((5, 5), (9, 5), (9, 9)))  # not closed
    # A bar with two prongs that reach back into the image: two pieces of one outline.
    scene(root, 6, polygon((30, 5), (45, 5), (45, 20), (30, 20), (30, 15), (42, 15), (42, 10), (30, 10), (30, 5)))
    _, objects, report = read(root)
    areas = [shapely.area(objects.geometry[objects.of(row)]).round(3).tolist() for row in range(6)]
    assert areas == [[25, 25], [25, 25], [25, 25, 25], [9], [8], [50, 50]]
    assert shapely.is_valid(objects.geometry).all()
    assert [(path[-9], reason.partition(":")[0]) for path, reason in report.mended] == [
        ("1", "an outline that was not valid"),
        ("2", "a MultiPolygon, whose polygons are taken"),
        ("3", "a GeometryCollection, whose polygons are taken"),
        ("4", "an outline that reached beyond the image"),
        ("6", "an outline that reached beyond the image"),
    ]
    assert report.left_out == []


def test_files_that_do_not_belong_together_or_cannot_be_read_are_named(tmp_path):
    root = tmp_path / "set"
    scene(root, 1, square(3, 4))
    scene(root, 2)
    tile(root / "3band/3band_AOI_1_RIO_img3.tif")
    labels(root / "vectordata/geojson/Geo_AOI_1_RIO_img4.geojson", square(3, 4))
    for number, text in ((5, '{"type": "Feature'), (6, '["no collection"]'), (7, "")):
        scene(root, number)
        (root / f"vectordata/geojson/Geo_AOI_1_RIO_img{number}.geojson").write_text(text)
    scene(root, 8, square(1, 1))
    (root / "3band/3band_AOI_1_RIO_img8.tif").write_bytes(b"II*\0")
    scene(root, 9, square(1, 1))
    tile(root / "3band/3band_AOI_1_RIO_img9.tif", crs=None)
    tile(root / "srcData/013022223103.tif")  # a mosaic, of which nothing is said
    index, objects, report = read(root)
    assert [path[-5] for path in index.column("path").to_pylist()] == ["1", "2", "7"]
    assert len(objects) == 1
    assert report.empty == 2
    told = {path.rpartition("/")[2]: reason for path, reason in report.index.rejected}
    images = {f"3band_AOI_1_RIO_img{number}.tif" for number in (3, 5, 6, 8, 9)}
    assert told.keys() == images | {"Geo_AOI_1_RIO_img4.geojson"}
    assert told["3band_AOI_1_RIO_img3.tif"] == "an image without footprints"
    assert told["Geo_AOI_1_RIO_img4.geojson"] == "footprints without an image"
    assert "cannot be read: vectordata/geojson/Geo_AOI_1_RIO_img5.geojson" in told["3band_AOI_1_RIO_img5.tif"]
    assert told["3band_AOI_1_RIO_img6.tif"].endswith("not a FeatureCollection")
    assert "without a georeference" in told["3band_AOI_1_RIO_img9.tif"]


def test_images_of_another_crs_and_footprints_of_another_crs(tmp_path):
    root = tmp_path / "set"
    utm = rasterio.Affine(0.5, 0, 0, 0, -0.5, 0)
    (x,), (y,) = rasterio.warp.transform("EPSG:4326", "EPSG:32723", [ORIGIN[0]], [ORIGIN[1]])
    tile(root / "3band/3band_AOI_1_RIO_img1.tif", crs="EPSG:32723", transform=rasterio.Affine.translation(x, y) @ utm)
    inside = [(x + 2, y - 2), (x + 6, y - 2), (x + 6, y - 6), (x + 2, y - 6), (x + 2, y - 2)]
    lon, lat = rasterio.warp.transform("EPSG:32723", "EPSG:4326", *zip(*inside, strict=True))
    degrees = {"type": "Polygon", "coordinates": [list(zip(lon, lat, strict=True))]}
    labels(root / "vectordata/geojson/Geo_AOI_1_RIO_img1.geojson", degrees)
    scene(
        root,
        2,
        {"type": "Polygon", "coordinates": [inside]},
        crs={"type": "name", "properties": {"name": "EPSG:32723"}},
    )
    index, objects, _ = read(root)
    np.testing.assert_allclose(shapely.bounds(only(objects)), [4, 4, 12, 12], atol=1e-4)
    lon, lat = np.array(lon), np.array(lat)
    expected = [(lon.min() - ORIGIN[0]) / PIXEL, (ORIGIN[1] - lat.max()) / PIXEL]
    np.testing.assert_allclose(shapely.bounds(only(objects, 1))[:2], expected, atol=1e-4)
    assert index.column("crs").to_pylist() == ["EPSG:32723", "EPSG:4326"]


NAMES = [
    ("rgb", "3band/3band_AOI_1_RIO_img12.tif", "vectordata/geojson/Geo_AOI_1_RIO_img12.geojson"),
    ("ms", "8band/8band_AOI_1_RIO_img12.tif", "geojson/Geo_AOI_1_RIO_img12.geojson"),
    ("rgb", "3band/3band_013022223130_Public_img5.tif", "vectorData/geojson/013022223130_Public_img5_Geo.geojson"),
    *[
        (
            kind,
            f"AOI_2_Vegas_Train/{folder}/{folder}_AOI_2_Vegas_img7.tif",
            "AOI_2_Vegas_Train/geojson/buildings/buildings_AOI_2_Vegas_img7.geojson",
        )
        for kind, folder in (("rgb", "RGB-PanSharpen"), ("ps-ms", "MUL-PanSharpen"), ("ms", "MUL"), ("pan", "PAN"))
    ],
    (
        "rgb",
        "AOI_2_Vegas/PS-RGB/SN2_buildings_train_AOI_2_Vegas_PS-RGB_img7.tif",
        "AOI_2_Vegas/geojson_buildings/SN2_buildings_train_AOI_2_Vegas_geojson_buildings_img7.geojson",
    ),
    ("rgb", "sn1_AOI_1_RIO_img3/RGB.tif", "sn1_AOI_1_RIO_img3-labels/labels.geojson"),
    ("ms", "sn1_AOI_1_RIO_img3/8Band.tif", "sn1_AOI_1_RIO_img3-labels/labels.geojson"),
]
BANDS = {"rgb": (3, "red,green,blue"), "pan": (1, "pan")}
EIGHT = (8, "coastal,blue,green,yellow,red,red_edge,nir,nir2")


@pytest.mark.parametrize(("kind", "image", "label"), NAMES)
def test_names_of_all_releases(tmp_path, kind, image, label):
    root = tmp_path / "set"
    count, names = BANDS.get(kind, EIGHT)
    for number in (7, 8):  # and a second scene, so that there are two splits
        files = [re.sub(r"img\d+", f"img{number}", name) for name in (image, label)]
        tile(root / files[0], bands=count, dtype="uint16", photometric="minisblack")
        labels(root / files[1], square(3, 4))
    index, objects, report = read(root, images=kind)
    assert report.index.rejected == []
    assert len(index) == len(objects) == 2
    assert set(index.column("band_names").to_pylist()) == {names}
    assert set(index.column("dtype").to_pylist()) == {"uint16"}
    places = index.column("location_id").to_pylist()
    assert [place.rpartition("_")[2] for place in places] == ["img7", "img8"]
    assert not any(word in place for place in places for word in ("band", "Pan", "RGB", "MUL", "labels"))


def test_files_of_other_names_are_no_scenes():
    for path in ("3band/mosaic.tif", "a/AOI_1_RIO_img1.tif", "summaryData/AOI_1_RIO_img1_3bandx.tif"):
        assert _scene(path, IMAGE) is None
    for path in ("geojson_roads/SN3_roads_train_AOI_2_Vegas_geojson_roads_img1.geojson", "geojson/index.geojson"):
        assert _scene(path, FOOTPRINTS) is None


def test_a_test_part_with_the_same_names_keeps_out_of_the_labels(tmp_path):
    root = tmp_path / "set"
    scene(root / "train", 1, square(3, 4))
    scene(root / "train", 2, square(3, 4))
    tile(root / "test/3band/3band_AOI_1_RIO_img1.tif")
    tile(root / "test/3band/3band_AOI_2_RIO_img1.tif")
    index, _, report = read(root)
    assert [path.partition("/")[0] for path in index.column("path").to_pylist()] == ["train", "train"]
    taken = "another image of its scene is taken: train/3band/3band_AOI_1_RIO_img1.tif"
    assert dict(report.index.rejected) == {
        "test/3band/3band_AOI_1_RIO_img1.tif": taken,
        "test/3band/3band_AOI_2_RIO_img1.tif": "an image without footprints",
    }


def test_the_split_depends_on_the_scenes_and_the_seed(made, indexed, tmp_path):
    index, _, _ = indexed
    val = dict(zip(index.column("location_id").to_pylist(), index.column("split").to_pylist(), strict=True))
    assert sum(split == "val" for split in val.values()) == round(len(index) * 1940 / 6940)
    index_spacenet(made.folder, out=tmp_path / "ms.parquet", images="ms", threads=2)
    other = Index.read(tmp_path / "ms.parquet")
    assert val == dict(zip(other.column("location_id").to_pylist(), other.column("split").to_pylist(), strict=True))
    index_spacenet(made.folder, out=tmp_path / "seed.parquet", seed=1, test=5)
    splits = Index.read(tmp_path / "seed.parquet").column("split").to_pylist()
    assert splits.count("val") == 5
    assert {i for i, split in enumerate(splits) if split == "val"} - {
        i for i, v in enumerate(val.values()) if v == "val"
    }


@pytest.mark.parametrize("test", [0, 1.5, -0.1, 36, 0.001])
def test_a_split_without_images_is_an_error(made, tmp_path, test):
    with pytest.raises(UsageError, match="--test"):
        index_spacenet(made.folder, out=tmp_path / "a.parquet", test=test)
    assert not list(tmp_path.iterdir())


def test_what_is_not_there_is_said(tmp_path, made):
    out = tmp_path / "a.parquet"
    with pytest.raises(
        UsageError, match=r"no images of the kind pan \(PAN\); give another with --images: rgb 39, ms 39"
    ):
        index_spacenet(made.folder, out=out, images="pan")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="none of its files has one of SpaceNet's names"):
        index_spacenet(empty, out=out)
    tile(empty / "3band/3band_AOI_1_RIO_img1.tif")
    with pytest.raises(UsageError, match="none of its images has footprints: 1 x an image without footprints"):
        index_spacenet(empty, out=out)
    scene(empty, 1)
    with pytest.raises(UsageError, match="none of its 1 images has a building"):
        index_spacenet(empty, out=out)
    with pytest.raises(UsageError, match=r"is a \.parquet file"):
        index_spacenet(made.folder, out=tmp_path / "a.csv")


def test_the_made_sets_faults_are_all_found(made, indexed):
    index, objects, report = indexed
    scenes = index.column("location_id").to_pylist()
    gone = {made.faults[fault] for fault in ("bad json", "no footprints", "no image", "broken image")}
    assert set(scenes) == {f"AOI_1_RIO_img{i}" for i in range(1, 41)} - gone
    assert len(report.index.rejected) == 4
    left_out = {path.rpartition("Geo_")[2].removesuffix(".geojson"): reason for path, reason in report.left_out}
    mended = {path.rpartition("Geo_")[2].removesuffix(".geojson"): reason for path, reason in report.mended}
    for fault, told, words in (
        ("three points", left_out, "fewer than 3 corners"),
        ("beyond", left_out, "beyond the image"),
        ("no geometry", left_out, "without geometry"),
        ("point", left_out, "not a polygon: Point"),
        ("crossed", mended, "not valid"),
        ("multipolygon", mended, "MultiPolygon"),
        ("collection", mended, "GeometryCollection"),
        ("across the edge", mended, "reached beyond"),
    ):
        assert words in told[made.faults[fault]], fault
    for fault in ("no bytes", "no features"):
        row = scenes.index(made.faults[fault])
        assert objects.of(row).start == objects.of(row).stop
    assert report.empty >= 3
    sizes = np.stack([index.column("width").to_numpy(), index.column("height").to_numpy()], 1)[objects.image]
    assert (objects.boxes[:, :2] >= 0).all()
    assert (objects.boxes[:, 2:] <= sizes + 1e-6).all()
    assert shapely.is_valid(objects.geometry).all()


def test_masks_of_both_kinds_of_images_agree(made, indexed, tmp_path):
    index, objects, _ = indexed
    index_spacenet(made.folder, out=tmp_path / "ms.parquet", images="ms")
    other = Index.read(tmp_path / "ms.parquet")
    theirs = read_objects(other)
    row = int(np.bincount(objects.image).argmax())
    at = other.column("location_id").to_pylist().index(index.column("location_id")[row].as_py())
    areas = [
        sum(shapely.area(each.geometry[each.of(r)])) / (i.column("width")[r].as_py() * i.column("height")[r].as_py())
        for each, i, r in ((objects, index, row), (theirs, other, at))
    ]
    assert areas[0] == pytest.approx(areas[1], rel=0.08)


def test_the_command(made, tmp_path, capsys):
    root = tmp_path / "spacenet1"
    shutil.copytree(made.folder, root)
    assert main(["data", "spacenet", str(root), "-o", str(tmp_path / "s.parquet"), "--test", "10"]) == 0
    text = capsys.readouterr().out
    assert "splits      train 26, val 10" in text
    assert f"-> {tmp_path / 's.parquet'}" in text
    assert "next: geossl transfer segment" in text
    assert len(read_objects(Index.read(tmp_path / "s.parquet"))) > 100
    assert main(["data", "spacenet", str(tmp_path / "none"), "-o", str(tmp_path / "s.parquet")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_rasterised_footprints_are_the_painted_roofs(made, indexed):
    """Roofs are brighter or redder than what lies around them, so that the mask tells the image's pixels apart."""
    index, objects, _ = indexed
    inside, outside = [], []
    for row in index.rows():
        polygons = objects.geometry[objects.of(int(row))]
        if len(polygons) < 10:
            continue
        with rasterio.open(index.full_path(index.column("path")[int(row)].as_py())) as file:
            image = file.read().astype(float)
        mask = rasterize(polygons.tolist(), out_shape=image.shape[1:]) > 0
        inside.append(image[:, mask].mean(1))
        outside.append(image[:, ~mask].mean(1))
    gap = (np.array(inside) - np.array(outside)).mean(0)
    assert (gap > 10).all()
