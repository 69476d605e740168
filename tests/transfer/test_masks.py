"""Masks of chips lie where the loader cut the chips, and are what rasterio burns."""

import numpy as np
import pyarrow as pa
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from geossl.config import CropConfig, LoaderConfig
from geossl.data.index import Index, build_index
from geossl.data.loader import Loader
from geossl.transfer.masks import IGNORE, chip_maps, has_data, rasterise, windows

# x, y, width, height of windows in an image of 300 x 200; None is the whole image.
WINDOWS = [
    None,
    (0, 0, 200, 200),
    (10, 20, 64, 64),
    (40, 8, 128, 96),
    (40, 8, 37, 190),
    (251, 151, 49, 49),
    (280, 3, 40, 40),
]


def painted(tmp_path, edges):
    """An index of one image, dark but for what lies right of and below `edges`, once for every window."""
    image = np.zeros((2, 200, 300), np.float32)
    image[0, :, edges[0] :] = 1
    image[1, edges[1] :] = 1
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=300, height=200, count=2, dtype="float32",
        crs="EPSG:4326", transform=rasterio.Affine(1e-5, 0, -43, 0, -1e-5, -22),
    ) as file:  # fmt: skip
        file.write(image)
    index, _ = build_index(tmp_path, layout="geotiff")
    table = pa.concat_tables([index.table] * len(WINDOWS))
    for side, name in enumerate(("box_x", "box_y", "box_w", "box_h")):
        values = pa.array([None if window is None else window[side] for window in WINDOWS], pa.int32())
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return Index(table, index.root, index.content_hash, boxes="tiles")


def chips(index, size):
    source = Loader(
        index, rows=np.arange(len(index)), batch=len(index), views=1, temporal=False, crop=CropConfig(size=size),
        color=None, seed=0, train=False, loader=LoaderConfig(threads=1),
    )  # fmt: skip
    return next(iter(source)).images[0].numpy()


@pytest.mark.parametrize("size", [64, 50, 33, 96])
def test_an_edge_is_where_the_map_says(tmp_path, size):
    edges = (297, 180), (60, 40), (283, 30), (70, 172)
    seen = 0
    for i, edge in enumerate(edges):
        (tmp_path / str(i)).mkdir()
        index = painted(tmp_path / str(i), edge)
        maps = chip_maps(windows(index.table), size=size)
        for chip, to_chip in zip(chips(index, size), maps, strict=True):
            for axis in (0, 1):
                scale, offset = to_chip[[0, 2]] if axis == 0 else to_chip[[4, 5]]
                at = scale * edge[axis] + offset
                if 2 < at < size - 2:
                    # Resampling spreads an edge about its place: how much is dark, in pixels, says where.
                    dark = size - chip[axis].mean(axis=axis).sum()
                    assert dark == pytest.approx(at, abs=0.15)
                    seen += 1
    assert seen >= 16


def test_masks_are_the_images_own_masks_where_nothing_is_resized(tmp_path):
    rng = np.random.default_rng(0)
    polygons = shapely.buffer(shapely.points(rng.uniform(0, 300, 60), rng.uniform(0, 200, 60)), rng.uniform(3, 15, 60))
    classes = rng.integers(1, 4, 60)
    whole = rasterize(list(zip(polygons, classes.tolist(), strict=True)), out_shape=(200, 300), dtype="int32")
    chip = np.array([[37, 21, 128, 128]])
    (to_chip,) = chip_maps(chip, size=128)
    mask = rasterise(polygons, classes, to_chip=to_chip, size=128)
    assert mask.dtype == np.int64
    np.testing.assert_array_equal(mask, whole[21:149, 37:165])
    assert set(np.unique(mask)) == {0, 1, 2, 3}


def test_a_mask_follows_a_resize():
    square = np.array([shapely.box(40, 20, 80, 60)], object)
    chip = np.array([[0, 0, 200, 100]])
    (to_chip,) = chip_maps(chip, size=50)
    # Halved to 100 x 50, of which the central 50 columns begin at 25.
    mask = rasterise(square, np.array([1]), to_chip=to_chip, size=50)
    expected = np.zeros((50, 50), np.int64)
    expected[10:30, 0:15] = 1
    np.testing.assert_array_equal(mask, expected)


def test_later_polygons_lie_over_earlier_ones_and_pixels_without_data_are_ignored():
    polygons = np.array([shapely.box(0, 0, 6, 6), shapely.box(4, 4, 8, 8), shapely.box(90, 90, 99, 99)], object)
    images = np.full((2, 8, 8), 5, np.uint8)
    images[:, 0, :3] = 0
    images[0, 7] = 0  # one band without data is not a pixel without data
    mask = rasterise(
        polygons, np.array([1, 2, 3]), to_chip=np.array([1, 0, 0, 0, 1, 0.0]), size=8, valid=has_data(images, nodata=0)
    )
    assert (mask[0, :3] == IGNORE).all()
    assert (mask == IGNORE).sum() == 3
    assert (mask[4:, 4:] == 2).all()
    assert mask[3, 3] == mask[5, 3] == 1
    assert mask[7, 0] == 0
    assert has_data(np.full((3, 2, 4, 4), np.nan, np.float32), nodata=np.nan).sum() == 0
    assert has_data(images[None], nodata=None).all()


def test_no_polygons_give_background():
    none = np.array([], object)
    assert rasterise(none, np.array([], int), to_chip=np.array([1, 0, 0, 0, 1, 0.0]), size=4).sum() == 0
