"""Photos with EXIF, and GeoImageNet."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, TiffImagePlugin

from geossl.data.index import Index, build_index
from geossl.errors import UsageError

RATIONAL = TiffImagePlugin.IFDRational


def angle(value: float) -> tuple[RATIONAL, RATIONAL, RATIONAL]:
    degrees, rest = divmod(abs(value) * 3600, 3600)
    return RATIONAL(int(degrees), 1), RATIONAL(int(rest // 60), 1), RATIONAL(round(rest % 60 * 10_000), 10_000)


def exif(lat: float, lon: float, taken: str | None = None, offset: str | None = None, **more: str) -> Image.Exif:
    out = Image.Exif()
    out[ExifTags.Base.Make] = "camera"  # Pillow takes EXIF without a field of its own for none
    gps = out.get_ifd(ExifTags.IFD.GPSInfo)
    gps |= {1: "N" if lat >= 0 else "S", 2: angle(lat), 3: "E" if lon >= 0 else "W", 4: angle(lon)}
    fields = {"DateTimeOriginal": taken, "OffsetTimeOriginal": offset} | more
    inner = out.get_ifd(ExifTags.IFD.Exif)
    inner |= {ExifTags.Base[name].value: value for name, value in fields.items() if value is not None}
    return out


def add(path: Path, made: Image.Exif | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (40, 30), (10, 200, 30))
    if made is not None and path.suffix == ".tif":
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            made[ifd] = dict(made.get_ifd(ifd))  # Pillow writes a TIFF's directories if they are fields
    image.save(path, **({} if made is None else {"exif": made}))
    return path


def row(index: Index, path: str) -> dict:
    return next(row for row in index.table.to_pylist() if row["path"] == path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize(("lat", "lon"), [(21.0375, -11.25), (-33.86, 151.2), (0.0, 10.0)])
def test_place_and_time(tmp_path, name, lat, lon):
    add(tmp_path / "zoo" / name, exif(lat, lon, "2012:04:02 12:32:22", "+02:00"))
    index, report = build_index(tmp_path, layout="photos")
    found = row(index, f"zoo/{name}")
    assert (found["lat"], found["lon"]) == pytest.approx((lat, lon), abs=1e-7)
    assert found["timestamp"].isoformat() == "2012-04-02T10:32:22+00:00"
    assert (found["category"], found["location_id"], found["width"], found["bands"]) == ("zoo", None, 40, 3)
    assert not report.rejected
    assert not report.nulled


def test_what_photos_may_lack_or_have_wrong(tmp_path):
    add(tmp_path / "plain.jpg")
    add(tmp_path / "train/zoo/no_offset.jpg", exif(1, 2, "2012:04:02 10:32:22", SubsecTimeOriginal="25"))
    add(tmp_path / "zero.jpg", exif(0, 0, "0000:00:00 00:00:00"))
    add(tmp_path / "swapped.jpg", exif(120, 45, "2012:14:02 10:32:22"))
    broken = exif(1, 2)
    broken.get_ifd(ExifTags.IFD.GPSInfo)[2] = (RATIONAL(1, 0),) * 3
    add(tmp_path / "broken.jpg", broken)
    (tmp_path / "empty.jpg").write_bytes(b"")
    index, report = build_index(tmp_path, layout="photos")
    assert len(index) == 5
    assert index.table["lat"].null_count == 4
    found = row(index, "train/zoo/no_offset.jpg")
    assert (found["split"], found["category"]) == ("train", "zoo")
    assert found["timestamp"].isoformat() == "2012-04-02T10:32:22.250000+00:00"
    assert row(index, "plain.jpg")["category"] is None
    assert report.rejected == [("empty.jpg", "the file is empty")]
    assert report.nulled == [
        ("broken.jpg", "bad EXIF position: not degrees, minutes and seconds"),
        ("swapped.jpg", 'bad EXIF date: "2012:14:02 10:32:22" ""'),
        ("swapped.jpg", "swapped latitude and longitude: 120, 45"),
        ("zero.jpg", "null island, which stands for no place: 0, 0"),
    ]


def test_exif_behind_what_is_read_first(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 9000, np.uint8).tobytes()
    image = Image.new("RGB", (40, 30))
    made = exif(21, 11)
    image.save(tmp_path / "a.jpg", exif=made, comment=noise, icc_profile=noise)
    image.save(tmp_path / "b.png", exif=made, icc_profile=noise)
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((30, 40, 3), np.uint8), photometric="rgb")
    index, _ = build_index(tmp_path, layout="photos")
    assert index.table["lat"].to_pylist() == [21, 21, None]


def test_no_photos(tmp_path):
    with pytest.raises(UsageError, match=r"no photos .* that can be used$"):
        build_index(tmp_path, layout="photos")
    add(tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"no photos .*: 1 x the header is cut short \(e.g. a.jpg\)"):
        build_index(tmp_path, layout="photos")


METADATA = """1,48.85,2.35,Paris,France,Île-de-France,
2,19.43,-99.13,,México,,"Ciudad de México, centro"
3,0,0,,,,
4,200,100,,,,
2,1,1,again,,,
too,short
9,1,2,no photo,,,
"""


@pytest.mark.parametrize("layout", ["auto", "geoimagenet"])
def test_geoimagenet(tmp_path, layout):
    for number, name in enumerate(["church", "church", "zoo", "zoo", "zoo"], 1):
        add(tmp_path / f"imagenet_images/{name}/{number}.jpg")
    (tmp_path / "metadata.csv").write_text(METADATA, encoding="utf-8")
    index, report = build_index(tmp_path, layout=layout)
    assert index.table["path"].to_pylist()[0] == "imagenet_images/church/1.jpg"
    assert index.table["category"].to_pylist() == ["church", "church", "zoo", "zoo", "zoo"]
    assert index.table["lat"].to_pylist() == [48.85, 19.43, None, None, None]
    assert index.table["country_code"].to_pylist() == ["France", "México", None, None, None]
    assert [reason for _, reason in report.nulled] == [
        "null island, which stands for no place: 0, 0",
        "latitude out of range: 200, 100",
        "not 7 columns, left out: 2",
    ]
    assert report.notes == [
        "photos that metadata.csv does not list, kept without coordinates: 1",
        "rows of metadata.csv without a photo: 1",
        "rows of metadata.csv whose photo has an earlier one, left out: 1",
    ]
    with pytest.raises(UsageError, match="GeoImageNet has a folder"):
        build_index(tmp_path / "imagenet_images", layout="geoimagenet")
