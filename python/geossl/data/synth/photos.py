"""Made photos with places, in the folder that GeoImageNet's downloader leaves, with what is wrong in such folders.

Every photo shows one object before a landscape. The object's outline and pattern are its class. The made planet's
climate decides the landscape (ground, trees, snow) and the latitude the light, and each class has regions where it is
more common, so that the coordinates say something about the class and about the look without settling either.
"""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from geossl.data.synth.folder import made_folder
from geossl.data.synth.photo_scene import CLASSES, draw_photo
from geossl.data.synth.planet import plan_places
from geossl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.random import Generator
    from numpy.typing import NDArray

    from geossl.data.synth.planet import Place

    Array = NDArray[Any]

IMAGES, METADATA = "imagenet_images", "metadata.csv"
COUNTRIES = (
    "México Novo", "Île-aux-Vents", "Ostrávia", "Ñandúa", "北原", "Åland Minor", "Tchadé", "Sørland", "Łysia",
    "São Brás", "Đại Hải", "Čertova", "Βορεία", "Южная", "Chobe", "Türkmen", "Māui", "Ğazi", "Gëzim", "Ölmark",
    "नया", "Ceará", "Iñupia", "Marl",
)  # fmt: skip
TOWNS = ("Santa", "Port", "Neu", "Vila", "Mont", "Saint", "Šumava", "Río")
SCATTER_DEGREES = 0.01
"""Photos of one sight lie about a kilometre from one another, every fourth at the same coordinates."""
EMPTY = "1000000"
"""Id of the photo whose file is empty."""
RARE = 2
"""The last classes have a single photo each."""


@dataclass(frozen=True)
class PhotosSummary:
    """What `make_photos` wrote: image files, classes, rows of the metadata, and the folder."""

    photos: int
    classes: int
    rows: int
    folder: Path


class _Photo(NamedTuple):
    """A photo to be made."""

    number: int
    identity: str
    category: str
    place: Place
    lat: float
    lon: float


def make_photos(
    out: Path, *, places: int = 400, views: float = 5.0, size: int = 96, seed: int = 0, workers: int = 0
) -> PhotosSummary:
    """Write made photos as `imagenet_images/<class>/<photo id>.jpg`, and `metadata.csv` without a header.

    Classes are unbalanced, the commonest with a quarter of the photos, the two rarest with one photo each. As in the
    folders that people have: of some photos the downloader wrote -1000 for the coordinates, some have no row but their
    place in their EXIF, some rows have no photo, names are UTF-8 and may be missing; one photo is in two classes, one
    lies at 0, 0, one file is empty, and the last row is cut short.

    Args:
        out: folder to make; it must not exist, or be empty.
        places: sights, 20 or more.
        views: photos of a sight, on average, 1 to 50.
        size: side of a photo, pixels, 32 to 1024; the downloader's are 224.
        seed: the same arguments and library versions give the same bytes.
        workers: threads; 0 is one for every core.

    Raises:
        UsageError: an argument is out of its range, or `out` is not empty.
        GeosslError: it cannot be written. Nothing is left behind.

    """
    for name, value, good, wanted in (
        ("places", places, places >= 20, "20 or more"),
        ("views", views, 1 <= views <= 50, "1 to 50"),
        ("size", size, 32 <= size <= 1024, "32 to 1024 pixels"),
        ("seed", seed, 0 <= seed < 2**63, "0 to 2^63 - 1"),
        ("workers", workers, workers >= 0, "0 (one for every core) or more"),
    ):
        if not good:
            raise UsageError(f"{name}: must be {wanted}, not {value}")
    out = out.absolute()
    photos = _plan(places=places, views=views, seed=seed)
    unlisted = _some(photos, 0.03, seed, 11)
    with made_folder(out, workers=workers) as (partial, pool):
        for name in CLASSES:
            (partial / IMAGES / name).mkdir(parents=True)
        list(pool.map(lambda photo: _write(partial, photo, size, seed, exif=photo.number in unlisted), photos))
        twice = _twice(photos, unlisted)
        shutil.copyfile(_file(partial, photos[0]), _file(partial, twice))
        (partial / IMAGES / photos[0].category / f"{EMPTY}.jpg").touch()
        rows = _rows([*photos, twice], unlisted, seed)
        (partial / METADATA).write_text(rows, encoding="utf-8")
    return PhotosSummary(len(photos) + 2, len(CLASSES), rows.count("\n"), out)


def _plan(*, places: int, views: float, seed: int) -> list[_Photo]:
    """The photos, those of a class together, as they were downloaded."""
    plan = plan_places(places=places, views=views, val=0, seed=seed)
    rng = np.random.default_rng([seed, 7])
    at = np.repeat(np.arange(len(plan)), [place.views for place in plan])
    lat, lon = np.array([[plan[i].lat, plan[i].lon] for i in at]).T
    same = rng.random(len(at)) < 0.25
    lat = lat + np.where(same, 0, rng.normal(0, SCATTER_DEGREES, len(at)))
    lon = (lon + np.where(same, 0, rng.normal(0, SCATTER_DEGREES, len(at))) + 180) % 360 - 180
    names = list(CLASSES)
    common = len(names) - RARE
    share = np.arange(1, common + 1) ** -0.9
    share /= share.sum()
    odds = share * np.exp(1.4 * _taste(rng, lat, lon, common))
    for _ in range(8):  # on the whole each class has its share
        odds *= share / odds.mean(axis=0)
        odds /= odds.sum(axis=1, keepdims=True)
    category = (rng.random((len(at), 1)) > np.cumsum(odds, axis=1)[:, :-1]).sum(axis=1)
    category[rng.choice(len(at), RARE, replace=False)] = np.arange(common, len(names))
    identities = rng.permutation(np.unique(rng.integers(10**8, 5 * 10**10, 2 * len(at))))[: len(at)]
    order = np.argsort(category, kind="stable")
    return [
        _Photo(
            number=n,
            identity=str(identities[i]),
            category=names[category[i]],
            place=plan[at[i]],
            lat=round(float(lat[i]), 6),
            lon=round(float(lon[i]), 6),
        )
        for n, i in enumerate(order.tolist())
    ]


def _taste(rng: Generator, lat: Array, lon: Array, classes: int) -> Array:
    """How fond of each class each place is, [N, classes], of about unit variance: waves on the sphere."""
    y, x = np.radians(lat), np.radians(lon)
    points = np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=1)
    waves = rng.normal(0, 2.5, (classes, 3, 6))
    phase = rng.uniform(0, 2 * np.pi, (classes, 6))
    fond = [np.sin(points @ w + p).sum(axis=1) for w, p in zip(waves, phase, strict=True)]
    return np.asarray(np.stack(fond, axis=1) / np.sqrt(3))


def _some(photos: list[_Photo], share: float, seed: int, use: int) -> set[int]:
    """Numbers of a share of the photos of the common classes, three at least; not the first, which has another use."""
    common = set(list(CLASSES)[:-RARE])
    numbers = [photo.number for photo in photos[1:] if photo.category in common]
    rng = np.random.default_rng([seed, use])
    return set(rng.choice(numbers, max(3, round(share * len(numbers))), replace=False).tolist())


def _twice(photos: list[_Photo], unlisted: set[int]) -> _Photo:
    """The first photo again, in another class."""
    other = next(photo for photo in photos if photo.category != photos[0].category and photo.number not in unlisted)
    return photos[0]._replace(category=other.category)


def _file(root: Path, photo: _Photo) -> Path:
    return root / IMAGES / photo.category / f"{photo.identity}.jpg"


def _write(root: Path, photo: _Photo, size: int, seed: int, *, exif: bool) -> None:
    rng = np.random.default_rng([seed, 8, photo.number])
    pixels = draw_photo(photo.category, photo.place, rng, size=size)
    Image.fromarray(pixels).save(_file(root, photo), quality=90, exif=_exif(photo) if exif else b"")


def _exif(photo: _Photo) -> Image.Exif:
    """The place as cameras write it."""
    out = Image.Exif()
    out[ExifTags.Base.Make] = "camera"  # Pillow takes EXIF without a field of its own for none
    gps = out.get_ifd(ExifTags.IFD.GPSInfo)
    gps |= {
        ExifTags.GPS.GPSLatitudeRef: "N" if photo.lat >= 0 else "S",
        ExifTags.GPS.GPSLatitude: _angle(photo.lat),
        ExifTags.GPS.GPSLongitudeRef: "E" if photo.lon >= 0 else "W",
        ExifTags.GPS.GPSLongitude: _angle(photo.lon),
    }
    return out


def _angle(value: float) -> tuple[TiffImagePlugin.IFDRational, ...]:
    """Degrees, minutes and seconds."""
    seconds = round(abs(value) * 3_600_000)
    parts = seconds // 3_600_000, seconds // 60_000 % 60, seconds % 60_000
    return tuple(TiffImagePlugin.IFDRational(part, of) for part, of in zip(parts, (1, 1, 1000), strict=True))


def _rows(photos: list[_Photo], unlisted: set[int], seed: int) -> str:
    """The metadata, as the downloader appends it."""
    rng = np.random.default_rng([seed, 9])
    nowhere = _some(photos, 0.03, seed, 10) - unlisted
    zero = next(photo.number for photo in photos[1:] if photo.number not in nowhere | unlisted)
    codes = sorted({photo.place.country for photo in photos})
    countries = {code: COUNTRIES[n % len(COUNTRIES)] for n, code in enumerate(codes)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for photo in photos:
        country = countries[photo.place.country]
        names = [f"{TOWNS[photo.place.number % len(TOWNS)]} {country}, {photo.place.number}", country]
        names += [f"{country} {'Norte' if photo.lat > 0 else 'Sul'}", ""]
        names = [name if rng.random() > 0.15 else "" for name in names]
        at = (-1000.0, -1000.0) if photo.number in nowhere else (photo.lat, photo.lon)
        if photo.number == zero:
            at = (0.0, 0.0)
        if photo.number not in unlisted:
            writer.writerow([photo.identity, *at, *names])
        if rng.random() < 0.02:  # the photo was removed later
            writer.writerow([str(10**6 + 1 + photo.number), *at, *names])
    writer.writerow([EMPTY, photos[0].lat, photos[0].lon, "", "", "", ""])
    # The downloader was stopped while it wrote.
    return text.getvalue() + "48313131313,4"
