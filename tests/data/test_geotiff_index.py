"""Indexes of GeoTIFFs: places and dates from the files, against rasterio."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
from made_geotiffs import NAIP, needs_naip, write_tiff
from PIL import Image

from geossl.cli import main
from geossl.data.index import GeoOptions, Index, build_index
from geossl.data.table import transforms
from geossl.errors import UsageError

UTM = "EPSG:32633"
SINUSOIDAL = "+proj=sinu +lon_0=0 +R=6371007.181 +units=m"  # MODIS's, which has no EPSG code
FEET = "EPSG:2264"


def index_of(src: Path, *, root: Path | None = None, threads: int = 2, **options) -> Index:
    return build_index(src, layout="geotiff", root=root, geo=GeoOptions(**options), threads=threads)[0]


def lines_of(src: Path, **options) -> dict[str, str]:
    report = build_index(src, layout="geotiff", geo=GeoOptions(**options))[1]
    return {line[:12].strip(): line[12:] for line in report.lines()}


def column(index: Index, name: str) -> list:
    return index.table[name].to_pylist()


def made(root: Path) -> dict[str, Path]:
    return {
        "north.tif": write_tiff(root / "north.tif", crs="EPSG:32614", origin=(485_900, 5_209_247)),
        "south.tif": write_tiff(root / "south.tif", crs="EPSG:32719", origin=(400_000, 6_300_000), turn=25.0),
        "degrees.tif": write_tiff(root / "degrees.tif", crs="EPSG:4326", origin=(-60.5, -10.25), pixel=0.001),
        "mercator.tif": write_tiff(root / "mercator.tif", crs="EPSG:3857", origin=(1_000_000, 8_400_000)),
        "polar.tif": write_tiff(root / "polar.tif", crs="EPSG:3031", origin=(-100, 80)),
        "sinusoidal.tif": write_tiff(root / "sinusoidal.tif", crs=SINUSOIDAL, origin=(1_111_950.5, 5_559_752.6)),
        "feet.tif": write_tiff(root / "feet.tif", crs=FEET, origin=(1_500_000, 600_000)),
        "fiji.tif": write_tiff(root / "fiji.tif", crs="EPSG:32760", origin=(820_000, 8_100_000), size=(200, 160)),
        "wrapped.tif": write_tiff(root / "wrapped.tif", crs="EPSG:4326", origin=(359.5, 12), pixel=0.01),
    }


def test_places_against_rasterio(tmp_path):
    made(tmp_path)
    index = index_of(tmp_path)
    paths = column(index, "path")
    assert len(paths) == 9
    for i, path in enumerate(paths):
        with rasterio.open(tmp_path / path) as file:
            np.testing.assert_allclose(transforms(index.table)[i], list(file.transform)[:6], rtol=1e-15, err_msg=path)
            crs = rasterio.CRS.from_user_input(column(index, "crs")[i])
            assert crs == file.crs, path
            a, b, c, d, e, f = file.transform[:6]
            x, y = a * file.width / 2 + b * file.height / 2 + c, d * file.width / 2 + e * file.height / 2 + f
            ([lon], [lat]) = rasterio.warp.transform(file.crs, "EPSG:4326", [x], [y])
            lon = (lon + 180) % 360 - 180
            assert (column(index, "lat")[i], column(index, "lon")[i]) == pytest.approx((lat, lon), abs=1e-9), path
    gsd = dict(zip(paths, column(index, "gsd"), strict=True))
    assert gsd["north.tif"] == gsd["south.tif"] == gsd["sinusoidal.tif"] == 10
    assert gsd["feet.tif"] == pytest.approx(3.048, rel=1e-4)
    assert gsd["mercator.tif"] == pytest.approx(10 * np.cos(np.radians(60.2)), rel=0.01)
    # A thousandth of a degree at 10 degrees south: 110.6 m by 109.6 m.
    assert gsd["degrees.tif"] == pytest.approx(np.sqrt(110.61 * 109.64), rel=1e-3)
    assert column(index, "location_id") == [path.removesuffix(".tif") for path in paths]


def test_views_are_grouped_by_the_first_founder(tmp_path):
    west = (500_000, 4_000_000)

    def add(name: str, east: float, **more) -> None:
        write_tiff(tmp_path / name, crs="EPSG:32614", origin=(west[0] + east, west[1]), size=(20, 20), **more)

    for i, east in enumerate((0, 50, 100, 150)):  # each shares 0.6 of the union with the next, 1/3 with the one after
        add(f"a{i}.tif", east)
    add("b_coarse.tif", 0, pixel=20.0, dtype="uint8")  # four times the area of a0
    write_tiff(tmp_path / "c.tif", crs="EPSG:32614", origin=west, size=(100, 100), pixel=2.0)  # a0's ground, finer
    # The same ground in the neighbouring zone's grid, and in degrees.
    corners = rasterio.warp.transform_bounds("EPSG:32614", "EPSG:32613", west[0], west[1] - 200, west[0] + 200, west[1])
    write_tiff(tmp_path / "d.tif", crs="EPSG:32613", origin=(corners[0], corners[3]), size=(20, 20))
    ground = rasterio.warp.transform_bounds("EPSG:32614", "EPSG:4326", west[0], west[1] - 200, west[0] + 200, west[1])
    write_tiff(tmp_path / "e.tif", crs="EPSG:4326", origin=(ground[0], ground[3]), size=(20, 20), pixel=0.0001)
    index = index_of(tmp_path)
    names = [
        f"{path[:-4]}:{place}" for path, place in zip(column(index, "path"), column(index, "location_id"), strict=True)
    ]
    assert names == ["a0:a0", "a1:a0", "a2:a2", "a3:a2", "b_coarse:b_coarse", "c:a0", "d:a0", "e:a0"]


def test_views_across_the_antimeridian(tmp_path):
    write_tiff(tmp_path / "a.tif", crs="EPSG:4326", origin=(179.9, 5), size=(20, 20), pixel=0.01)
    write_tiff(tmp_path / "b.tif", crs="EPSG:4326", origin=(-180.08, 5), size=(20, 20), pixel=0.01)
    write_tiff(tmp_path / "c.tif", crs="EPSG:4326", origin=(-179.9, 5), size=(20, 20), pixel=0.01)
    index = index_of(tmp_path)
    assert column(index, "location_id") == ["a", "a", "c"]
    assert [abs(lon) for lon in column(index, "lon")] == pytest.approx([180, 179.98, 179.8])


def test_names_of_places_differ(tmp_path):
    for name, origin in (("x/B2.tif", (5e5, 4e6)), ("y/B2.tif", (6e5, 4e6)), ("y/B2.tiff", (7e5, 4e6))):
        write_tiff(tmp_path / name, crs=UTM, origin=origin)
    assert column(index_of(tmp_path), "location_id") == ["x/B2", "y/B2.tif", "y/B2.tiff"]


def test_what_has_no_place(tmp_path):
    write_tiff(tmp_path / "a.tif", crs=None, origin=(0, 0))
    write_tiff(tmp_path / "b.tif", crs=UTM, origin=(5e5, 4e6))
    write_tiff(tmp_path / "c.tif", crs='LOCAL_CS["arbitrary",UNIT["metre",1]]', origin=(0, 0))
    write_tiff(tmp_path / "d.tif", crs=UTM, origin=(1e30, 4e6))
    index, report = build_index(tmp_path, layout="geotiff")
    assert column(index, "location_id") == [None, "b", None, None]
    assert [lat is None for lat in column(index, "lat")] == [True, False, True, True]
    assert (report.missing_places, report.missing_coordinates) == (3, 3)
    assert [path for path, _ in report.nulled] == ["c.tif", "d.tif"]
    assert index.places.tolist() == [0, 1, 2, 3]
    tiled, report = build_index(tmp_path, layout="geotiff", geo=GeoOptions(tile=8))
    assert set(column(tiled, "path")) == {"b.tif"}
    assert [path for path, _ in report.rejected] == ["a.tif", "c.tif", "d.tif"]


def test_bands_and_nodata(tmp_path):
    at = {"crs": UTM, "origin": (5e5, 4e6)}
    write_tiff(tmp_path / "described.tif", **at, bands=4, names=("B04", "B03", "B02", "near, infrared"))
    write_tiff(tmp_path / "half.tif", **at, bands=4, names=("B04",), nodata=-1, dtype="int16")
    write_tiff(tmp_path / "rgb.tif", **at, bands=3, dtype="uint8", photometric="RGB")
    write_tiff(tmp_path / "alpha.tif", **at, bands=4, dtype="uint8", photometric="RGB", ALPHA="YES")
    write_tiff(tmp_path / "mask.tif", **at, bands=3, dtype="float32", mask=np.full((16, 20), 255, np.uint8))
    index = index_of(tmp_path, bands=("red", "green", " blue", "nir"))
    got = {path: (names, value) for path, names, value in zip(
        *(column(index, name) for name in ("path", "band_names", "nodata")), strict=True
    )}  # fmt: skip
    assert got["described.tif"] == ("B04,B03,B02,near infrared", None)
    assert got["half.tif"] == ("red,green,blue,nir", -1)
    assert got["rgb.tif"] == ("red,green,blue", None)
    assert got["alpha.tif"][0] == "red,green,blue,nir", "some writers mark any fourth band as alpha"
    assert np.isnan(got["alpha.tif"][1])
    assert got["mask.tif"][0] is None
    assert np.isnan(got["mask.tif"][1])
    lines = lines_of(tmp_path, bands=("a", "b", "c", "d"))
    assert lines["nodata"] == "mask, alpha or NaN 2, none 2, -1 1"
    assert lines["crs"] == "EPSG:32633 5"
    assert lines["band names"] == "B04,B03,B02,near infrared 1, a,b,c,d 2, red,green,blue 1"
    with pytest.raises(UsageError, match=r"--bands: 2 names \(a,b\) for images of 3, 4 bands"):
        index_of(tmp_path, bands=("a", "b"))
    with pytest.raises(UsageError, match="--bands a,a: give each band a name of its own"):
        index_of(tmp_path, bands=("a", "a"))


def test_dates_and_where_they_are_from(tmp_path):
    at = {"crs": UTM, "origin": (5e5, 4e6)}
    write_tiff(tmp_path / "2020/a_20200101.tif", **at, tags={"TIFFTAG_DATETIME": "2021:01:01 00:00:00"})
    write_tiff(tmp_path / "b.tif", **at, tags={"ACQUISITIONDATETIME": "2020-02-02T03:04:05Z", "OTHER": "2000-01-01"})
    write_tiff(tmp_path / "c.tif", **at, tags={"TIFFTAG_DATETIME": "2020:03:03 01:02:03"})
    write_tiff(tmp_path / "d.tif", **at)
    (tmp_path / "dates.csv").write_text("file,date\nd.tif,2020-04-04\n")
    index = index_of(tmp_path, dates=tmp_path / "dates.csv")
    assert column(index, "timestamp") == [
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020, 2, 2, 3, 4, 5, tzinfo=UTC),
        datetime(2020, 3, 3, 1, 2, 3, tzinfo=UTC),
        datetime(2020, 4, 4, tzinfo=UTC),
    ]
    lines = lines_of(tmp_path, dates=tmp_path / "dates.csv")
    assert lines["dates"] == "2020-01-01 to 2020-04-04; from --dates 1, file names 1, tags 2"
    assert (
        lines_of(tmp_path, date_pattern="%Y")["dates"]
        == "2020-01-01 to 2020-03-03; from file names 1, tags 2 (1 without)"
    )


def test_lists(tmp_path):
    write_tiff(tmp_path / "20200101.tif", crs=UTM, origin=(5e5, 4e6))
    write_tiff(tmp_path / "20200202.tif", crs=UTM, origin=(5e5, 4e6))
    write_tiff(tmp_path / "far.tif", crs=UTM, origin=(7e5, 4e6))
    url = f"file://{write_tiff(tmp_path / 'elsewhere/20200303.tif', crs=UTM, origin=(5e5, 4e6))}"
    source = tmp_path / "lists/list.csv"
    source.parent.mkdir()
    source.write_text(
        "path,timestamp,category,location_id,lat,lon\n"
        "far.tif,1999-09-09,town,mine,1,2\n"
        "20200202.tif,,,,,\n"
        f"{url},,,,,\n"
        "/vsimem/nothing.tif,,,,,\n"
        "none.tif,,,,,\n"
        "20200101.tif,,,,,\n"
    )
    index, report = build_index(source, layout="geotiff", root=tmp_path)
    assert column(index, "path") == ["far.tif", "20200202.tif", url, "20200101.tif"]
    # The founder is the first by path, whatever the list's order.
    assert column(index, "location_id") == ["mine", "20200101", "20200101", "20200101"]
    assert column(index, "category") == ["town", None, None, None]
    assert [date.isoformat()[:10] for date in column(index, "timestamp")] == [
        "1999-09-09", "2020-02-02", "2020-03-03", "2020-01-01",
    ]  # fmt: skip
    assert column(index, "lat")[0] == 1
    assert column(index, "reader") == [None, None, "rasterio", None]
    assert index.full_path(url) == url
    assert index.full_path("far.tif") == str(tmp_path / "far.tif")
    assert [path for path, _ in report.rejected] == ["/vsimem/nothing.tif", "none.tif"]
    assert report.dates_from == {"the list": 1, "file names": 3}
    assert report.fallbacks == {"URL": 1}
    index.write(tmp_path / "i.parquet")
    assert Index.read(tmp_path / "i.parquet").table.equals(index.table)
    # A plain list has the files' bands, samples and ground too, but not their places.
    plain, _ = build_index(source, layout="csv", root=tmp_path)
    assert column(plain, "location_id") == ["mine", None, None, None]
    assert column(plain, "crs") == [UTM] * 4
    assert column(plain, "dtype") == ["uint16"] * 4


def test_what_rasterio_reads(tmp_path):
    first = write_tiff(tmp_path / "a_20200101.tif", crs=UTM, origin=(5e5, 4e6), bands=3, dtype="uint8")
    jp2 = tmp_path / "b_20200202.jp2"
    shutil.copy(first, tmp_path / "broken.ntf")
    (tmp_path / "broken.ntf").write_bytes(b"hello, this is no image")
    vrt = tmp_path / "c_20200303.vrt"
    with rasterio.open(first) as file:
        rasterio.shutil.copy(file, vrt, driver="VRT")
        profile = file.profile | {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "nodata": 7}
        with rasterio.open(jp2, "w", **{k: v for k, v in profile.items() if "block" not in k and k != "tiled"}) as out:
            out.write(file.read())
    lerc = write_tiff(tmp_path / "d_20200404.tif", crs=UTM, origin=(5e5, 4e6), bands=3, dtype="uint8", compress="LERC")
    write_tiff(tmp_path / "e.tif", crs=UTM, origin=(5e5, 4e6), dtype="int64")
    index, report = build_index(tmp_path, layout="geotiff")
    assert column(index, "path") == [first.name, jp2.name, vrt.name, lerc.name]
    assert column(index, "reader") == [None, "rasterio", "rasterio", "rasterio"]
    assert column(index, "location_id") == ["a_20200101"] * 4
    assert column(index, "dtype") == ["uint8"] * 4
    assert column(index, "bands") == [3] * 4
    assert column(index, "nodata") == [None, 7, None, None]
    assert column(index, "crs") == [UTM] * 4
    np.testing.assert_array_equal(transforms(index.table), [[10, 0, 5e5, 0, -10, 4e6]] * 4)
    assert "reader      by rasterio, slower: 3 (JPEG 2000 1, LERC compression 1, VRT 1)" in report.lines()
    assert report.rejected[0] == ("broken.ntf", "not a JPEG, PNG or TIFF")
    assert report.rejected[1][0] == "e.tif"
    assert report.rejected[1][1].startswith("not read here: int64 samples; nor by rasterio: ")


def test_reading_does_not_depend_on_threads(tmp_path):
    made(tmp_path)
    assert len({index_of(tmp_path, threads=n).content_hash for n in (1, 2, 5)}) == 1


def test_other_layouts_have_the_columns_of_their_tiffs(tmp_path):
    at = {"crs": "EPSG:4326", "origin": (10, 20), "pixel": 1e-5}
    folder = tmp_path / "fmow/val/zoo/zoo_1"
    write_tiff(folder / "zoo_1_0_ms.tif", **at, bands=8, nodata=0)
    write_tiff(folder / "zoo_1_1_ms.tif", **at, bands=4, dtype="float32")
    write_tiff(folder / "zoo_1_2_ms.tif", **at, bands=4, names=("a", "b", "c", "d"))
    index, _ = build_index(tmp_path / "fmow")
    assert column(index, "band_names") == [
        "coastal,blue,green,yellow,red,red_edge,nir,nir2", "blue,green,red,nir", "a,b,c,d",
    ]  # fmt: skip
    assert column(index, "dtype") == ["uint16", "float32", "uint16"]
    assert column(index, "nodata") == [0, None, None]
    assert column(index, "crs") == ["EPSG:4326"] * 3
    np.testing.assert_array_equal(transforms(index.table), [[1e-5, 0, 10, 0, -1e-5, 20]] * 3)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    (tmp_path / "l.csv").write_text("path\na.jpg\nfmow/val/zoo/zoo_1/zoo_1_0_ms.tif\n")
    index, _ = build_index(tmp_path / "l.csv")
    assert column(index, "band_names") == ["red,green,blue", None]
    assert column(index, "nodata") == [None, 0]


@needs_naip
def test_naip(tmp_path, capsys):
    assert (
        main(
            [
                "data",
                "index",
                str(NAIP),
                "--layout",
                "geotiff",
                "--bands",
                "red,green,blue,nir",
                "-o",
                str(tmp_path / "n.parquet"),
            ]
        )
        == 0
    )
    assert "dates       2009-08-18 to 2020-08-31; from file names 10" in capsys.readouterr().out
    index = Index.read(tmp_path / "n.parquet")
    assert index.boxes == "objects"
    assert set(column(index, "location_id")) == {"m_4709963_se_14_1_20090818"}
    assert [date.year for date in column(index, "timestamp")] == [2009, 2010, 2012, 2014, *range(2015, 2021)]
    assert set(column(index, "gsd")) == {5}
    assert set(column(index, "nodata")) == {0}
    for path, matrix in zip(column(index, "path"), transforms(index.table), strict=True):
        with rasterio.open(NAIP / path) as file:
            assert list(file.transform)[:6] == matrix.tolist()


def test_geotiffs_are_told_of_where_fmow_is_looked_for(tmp_path):
    write_tiff(tmp_path / "a.tif", crs=UTM, origin=(5e5, 4e6))
    with pytest.raises(
        UsageError, match=re.escape("e.g. a.tif; if they are GeoTIFFs, add --layout geotiff; else list")
    ):
        build_index(tmp_path)
    with pytest.raises(UsageError, match="are for --layout geotiff"):
        build_index(tmp_path, geo=GeoOptions(tile=8))
