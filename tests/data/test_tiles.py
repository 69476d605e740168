"""Tiles of scenes: the same ground on every date."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
from made_geotiffs import NAIP, needs_naip, write_tiff

from geossl.data.index import GeoOptions, Index, build_index
from geossl.data.table import image_boxes, transforms
from geossl.errors import UsageError

UTM = "EPSG:32614"
AT = (485_900.0, 5_209_247.0)


def tiles_of(src: Path, side: int) -> Index:
    return build_index(src, layout="geotiff", geo=GeoOptions(tile=side))[0]


def ground(index: Index) -> np.ndarray:
    """float64 [N, 2, 2] x and y of each box's upper left and lower right corner."""
    a, _, c, _, e, f = transforms(index.table).T
    x, y, w, h = image_boxes(index.table).T
    return np.stack([np.stack([a * x + c, e * y + f], 1), np.stack([a * (x + w) + c, e * (y + h) + f], 1)], 1)


def by_place(index: Index) -> dict[str, np.ndarray]:
    places = np.array(index.table["location_id"].to_pylist())
    return {place: np.flatnonzero(places == place) for place in sorted(set(places))}


@needs_naip
def test_naip_tiles_show_the_same_ground(tmp_path):
    index = tiles_of(NAIP, 128)
    assert index.boxes == "tiles"
    index.write(tmp_path / "i.parquet")
    assert Index.read(tmp_path / "i.parquet").boxes == "tiles"
    corners = ground(index)
    places = by_place(index)
    assert len(places) == 7 * 5
    for place, rows in places.items():
        assert len(rows) == 10, place
        first = corners[rows[0]]
        assert np.abs(corners[rows] - first).max() <= 2.5, place  # half a pixel of 5 m
    boxes = image_boxes(index.table)
    assert set(boxes[:, 2:].ravel().tolist()) == {128}
    width, height = (index.table[name].to_numpy() for name in ("width", "height"))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= width).all()
    assert (boxes[:, 1] + boxes[:, 3] <= height).all()
    # Each tile's place is its centre's, as rasterio says.
    centre = corners.mean(axis=1)
    lon, lat = rasterio.warp.transform("EPSG:26914", "EPSG:4326", *centre.T.tolist())
    assert np.abs(index.table["lat"].to_numpy() - lat).max() < 5e-5
    assert np.abs(index.table["lon"].to_numpy() - lon).max() < 5e-5


def test_other_resolutions_and_extents(tmp_path):
    write_tiff(tmp_path / "a.tif", crs=UTM, origin=AT, size=(64, 48))
    write_tiff(tmp_path / "b.tif", crs=UTM, origin=(AT[0] + 3, AT[1] - 4), size=(32, 24), pixel=20.0)  # overhangs
    write_tiff(tmp_path / "c.tif", crs=UTM, origin=(AT[0] - 200, AT[1]), size=(84, 48))  # begins farther west
    write_tiff(tmp_path / "d.tif", crs=UTM, origin=(AT[0] + 70, AT[1]), size=(57, 48))
    index = tiles_of(tmp_path, 16)
    corners, boxes = ground(index), image_boxes(index.table)
    places = by_place(index)
    paths = np.array(index.table["path"].to_pylist())
    assert sorted(set(paths[places["a/0_0"]])) == ["a.tif", "b.tif", "c.tif"]  # d begins within it
    assert sorted(set(paths[places["a/2_3"]])) == ["a.tif", "b.tif", "c.tif", "d.tif"]
    assert set(paths[places["a/0_-1"]]) == {"c.tif"}
    assert len(places) == 3 * 4 + 3
    for rows in places.values():
        assert np.abs(corners[rows] - corners[rows].mean(axis=0)).max() <= 10 + 5
    assert set(map(tuple, boxes[paths == "b.tif", 2:].tolist())) == {(8, 8)}
    assert set(map(tuple, boxes[paths == "c.tif", 2:].tolist())) == {(16, 16)}
    # Sorted by image, then by the grid's rows and columns.
    assert paths.tolist() == sorted(paths)
    assert index.table["location_id"].to_pylist()[:5] == ["a/0_0", "a/0_1", "a/0_2", "a/0_3", "a/1_0"]


def test_a_grid_of_the_neighbouring_zone(tmp_path):
    write_tiff(tmp_path / "a.tif", crs=UTM, origin=AT, size=(96, 96))
    left, bottom, right, top = rasterio.warp.transform_bounds(UTM, "EPSG:32613", AT[0], AT[1] - 960, AT[0] + 960, AT[1])
    write_tiff(
        tmp_path / "b.tif",
        crs="EPSG:32613",
        origin=(left, top),
        size=(int(right - left) // 10, int(top - bottom) // 10),
    )
    write_tiff(
        tmp_path / "c.tif", crs=UTM, origin=AT, transform=rasterio.Affine(0, 10, AT[0], -10, 0, AT[1]), size=(96, 96)
    )
    index = tiles_of(tmp_path, 32)
    places = by_place(index)
    paths = np.array(index.table["path"].to_pylist())
    assert (len(places), len(paths)) == (9, 27)
    lat, lon = (index.table[name].to_numpy() for name in ("lat", "lon"))
    boxes, matrices = image_boxes(index.table), transforms(index.table)
    for rows in places.values():
        assert len(set(lat[rows])) == len(set(lon[rows])) == 1
        for row in rows:
            a, b, c, d, e, f = matrices[row]
            x, y, w, h = boxes[row]
            assert abs(w - 32) <= 1
            assert abs(h - 32) <= 1
            column, line = x + w / 2, y + h / 2
            ([east], [north]) = rasterio.warp.transform(
                "EPSG:4326", index.table["crs"][int(row)].as_py(), [lon[row]], [lat[row]]
            )
            assert abs(a * column + b * line + c - east) <= 10
            assert abs(d * column + e * line + f - north) <= 10


def test_what_cannot_be_tiled(tmp_path):
    write_tiff(tmp_path / "a.tif", crs=UTM, origin=AT, size=(20, 16))
    with pytest.raises(
        UsageError, match="--tile 17: no image holds a tile of 17 pixels a side; the largest is 20 x 16"
    ):
        tiles_of(tmp_path, 17)
    with pytest.raises(UsageError, match="--tile 0: pixels of a tile's side, 1 or more"):
        tiles_of(tmp_path, 0)
    (tmp_path / "l.csv").write_text("path,box_x,box_y,box_w,box_h\na.tif,0,0,8,8\n")
    with pytest.raises(UsageError, match="--tile: the list has boxes of its own"):
        tiles_of(tmp_path / "l.csv", 8)
    write_tiff(tmp_path / "b/a.tif", crs=None, origin=AT)
    with pytest.raises(UsageError, match=r"--tile 8: .*; none has a geotransform and a CRS"):
        tiles_of(tmp_path / "b", 8)
