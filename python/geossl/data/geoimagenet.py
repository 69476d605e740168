"""GeoImageNet: photos by class, and a table of where they were taken.

Ayush et al., "Geography-Aware Self-Supervised Learning" (ICCV 2021): 543,435 photos of ImageNet whose coordinates
Flickr knows, of 5,150 classes. The list of URLs that its downloader began with is gone, so that a user has either a
folder that was downloaded before, or ImageNet's own files and a table of coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from geossl import _core
from geossl.data.folders import scan_folder
from geossl.data.listing import Listed, listed
from geossl.data.photo_places import FIELDS, PhotoPlaces, read_metadata, read_photo_places
from geossl.data.photo_split import PhotoSplitReport, apply_split, draw_test, report_split
from geossl.data.stored import Index
from geossl.data.summary import summarise
from geossl.data.table import content_hash
from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGES, METADATA = "imagenet_images", "metadata.csv"
EXTENSIONS = ["jpg", "jpeg", "png"]
NOT_CLASSES = {IMAGES, "train", "val", "test"}
"""Folders of photos that are not named after a class."""
PAPER_TEST, PAPER_PHOTOS = 100_000, 543_435


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The photos of a folder, whose headers nobody has read yet."""

    columns: dict[str, pa.Array]
    """path, category, lat, lon, country_code and the photo's id, sorted by path."""
    places: PhotoPlaces | None
    row: pa.Array
    """The row of `places` that each photo has; null where there is none."""
    unusable: list[tuple[str, str]]

    def faults(self) -> list[tuple[str, str]]:
        """Rows of the table that cannot be used, as an index's report has them."""
        if self.places is None:
            return []
        name = self.places.source.name
        return [(f"{name} line {line}", f"not {len(FIELDS)} columns, left out: {n}") for line, n in self.places.odd]

    def notes(self, *, unlisted: str) -> list[str]:
        """What a user should know of the table and the photos; `unlisted` says what becomes of photos without a row."""
        if self.places is None:
            return []
        name = self.places.source.name
        used = pc.count_distinct(self.row.drop_null()).as_py()
        counts = [
            (self.row.null_count, f"photos that {name} does not list, {unlisted}"),
            (pc.count_distinct(self.places.key).as_py() - used, f"rows of {name} without a photo"),
            (self.places.repeated, f"rows of {name} whose photo has an earlier one, left out"),
        ]
        return [f"{text}: {count:,}" for count, text in counts if count]


def is_geoimagenet(root: Path) -> bool:
    """Whether the folder has what the downloader makes."""
    return (root / IMAGES).is_dir() and (root / METADATA).is_file()


def read_geoimagenet(root: Path, *, threads: int) -> Listed:
    """The photos below `imagenet_images/<class>/`, sorted by path; the country's name stands in `country_code`.

    Raises UsageError if either of the two is missing, or the metadata cannot be read.
    """
    if not is_geoimagenet(root):
        raise UsageError(f"{root}: GeoImageNet has a folder {IMAGES} and a file {METADATA}")
    found = _find_photos(root, read_metadata(root / METADATA), threads=threads)
    columns = {name: column for name, column in found.columns.items() if name != "id"}
    out = listed(root / METADATA, columns, root=root, threads=threads)
    out.layout = "GeoImageNet"
    out.rejected = sorted(out.rejected + found.unusable)
    out.nulled += found.faults()
    out.notes += found.notes(unlisted="kept without coordinates")
    return out


def index_geoimagenet(
    src: Path,
    *,
    coordinates: Path | None = None,
    renames: Mapping[str, str] | None = None,
    exif: bool = False,
    min_photos: int = 1,
    test: int | None = None,
    seed: int = 0,
    split: Path | None = None,
    threads: int = 0,
) -> tuple[Index, PhotoSplitReport]:
    """Index the photos that have a class and coordinates, and split them into train and test.

    The test photos are drawn by their ids and the seed (`photo_split.draw_test`): the order of the files, their folders
    and where they lie do not matter. Only photos that are kept are opened.

    Args:
        src: folder of photos, `<class>/<photo>.jpg` (or .jpeg, .png) at any depth, such as ImageNet's, or the one that
            GeoImageNet's downloader leaves, which has its own table.
        coordinates: table of where the photos were taken (`photo_places.read_photo_places`).
        renames: the table's columns by the names that they have here.
        exif: also take the places of photos, where the table has none, from their EXIF.
        min_photos: leave out classes with fewer photos.
        test: photos to test on; by default 100,000, as in the paper.
        seed: seed of the draw.
        split: a file that an earlier call's `PhotoSplitReport.write` made, whose split is taken instead of a draw.
        threads: 0 is all cores; the result does not depend on it.

    Returns:
        The index, sorted by path, and the report on it.

    Raises:
        UsageError: there is no folder, no table of coordinates, no photo that can be used, or too few for `test`.

    """
    if min_photos < 1:
        raise UsageError(f"--min-photos {min_photos}: must be at least 1")
    if split is not None and (test is not None or seed != 0):
        raise UsageError("--split: takes the split of the file; --test and --seed are for a new one")
    if not src.is_dir():
        raise UsageError(f"{src}: no such folder")
    root = src.resolve()
    if coordinates is None and (root / METADATA).is_file():
        coordinates = root / METADATA
    if coordinates is None and not exif:
        raise UsageError(
            f"{src}: where its photos were taken is not known: give a table with --coordinates, or --exif if the "
            f"photos say it themselves (GeoImageNet's downloader would have left {METADATA} there)"
        )
    if renames and coordinates is None:
        raise UsageError("--map: is for the columns of --coordinates")
    places = None if coordinates is None else read_photo_places(coordinates, root=root, renames=renames)
    found = _find_photos(root, places, threads=threads)
    columns, notes, faults = found.columns, found.notes(unlisted="left out"), found.faults()
    if exif:
        notes = found.notes(unlisted="whose EXIF is asked")
        columns, bad = _with_exif(columns, root, src=src, threads=threads)
        faults += bad
    if not pc.any(pc.and_(columns["lat"].is_valid(), columns["lon"].is_valid())).as_py():
        raise UsageError(_why_no_places(src, found, exif=exif))
    table, ids, rows, left_out = _usable(
        columns, root, source=coordinates or src, min_photos=min_photos, threads=threads
    )
    if not len(table):
        reasons = ", ".join(f"{n:,} {why}" for why, n in left_out.items() if n)
        raise UsageError(f"{src}: none of its {len(found.row):,} photos can be used: {reasons}")
    names = ids.to_pylist()
    if split is None:
        chosen = pa.array(np.where(draw_test(names, test=_test_size(test, len(table)), seed=seed), "test", "train"))
    else:
        chosen, told = apply_split(split, names)
        notes += told
    table = table.set_column(table.schema.get_field_index("split"), "split", chosen.cast(pa.string()))
    index = Index(table.combine_chunks(), root, content_hash(table))
    report = summarise(
        index.table,
        source=src,
        layout="GeoImageNet",
        rejected=sorted(rows.rejected + found.unusable),
        nulled=rows.nulled + faults,
        notes=rows.notes + rows.headers.notes + notes,
    )
    return index, report_split(index, report, ids=names, left_out=left_out, threads=threads)


def _find_photos(root: Path, places: PhotoPlaces | None, *, threads: int) -> _Found:
    """Photos below `root`, or its `imagenet_images`, with the rows of a table. Raises UsageError if there is none."""
    folder = PurePosixPath(IMAGES) if (root / IMAGES).is_dir() else PurePosixPath()
    found, unusable = _core.index_walk(root / folder, EXTENSIONS, threads=threads)
    if not found:
        raise UsageError(f"{root / folder}: no photos found; looked for {', '.join(EXTENSIONS)}")
    below = [PurePosixPath(path) for path in found]
    row = pa.nulls(len(below), pa.int32()) if places is None else places.find(below)
    columns = {
        "path": pa.array([str(folder / path) for path in below], pa.string()),
        "category": pa.array([_category(path) for path in below], pa.string()),
    }
    stems = pa.array([path.stem for path in below], pa.string())
    if places is None:
        nothing = pa.nulls(len(below), pa.string())
        columns |= {"lat": nothing, "lon": nothing, "country_code": nothing, "id": stems}
    else:
        columns |= {
            "lat": places.lat.take(row),
            "lon": places.lon.take(row),
            "country_code": places.country.take(row),
            "id": pc.coalesce(places.photo.take(row), stems),
        }
    return _Found(
        columns=columns,
        places=places,
        row=row,
        unusable=[(str(folder / path), reason) for path, reason in unusable],
    )


def _category(path: PurePosixPath) -> str | None:
    """The name of the folder that a photo lies in, unless it is a split's."""
    name = path.parent.name
    return name if name and name not in NOT_CLASSES else None


def _with_exif(
    columns: dict[str, pa.Array], root: Path, *, src: Path, threads: int
) -> tuple[dict[str, pa.Array], list[tuple[str, str]]]:
    """The columns with the coordinates of the photos' EXIF where they have none; and what is bad in EXIF."""
    scanned = scan_folder(root, src=src, layout="photos", images="auto", known=None, threads=threads)
    row = pc.index_in(columns["path"], value_set=scanned.table["path"].combine_chunks())
    missing = pc.or_(columns["lat"].is_null(), columns["lon"].is_null())
    own = {name: scanned.table[name].combine_chunks().take(row) for name in ("lat", "lon")}
    filled = {name: pc.if_else(missing, own[name].cast(columns[name].type), columns[name]) for name in own}
    return columns | filled, scanned.nulled


def _usable(
    columns: dict[str, pa.Array], root: Path, *, source: Path, min_photos: int, threads: int
) -> tuple[pa.Table, pa.Array, Listed, dict[str, int]]:
    """The rows of photos with a place and a class of enough photos, and their ids; all that were opened; and how many
    were left out, by the reason.
    """
    located = pc.and_(columns["lat"].is_valid(), columns["lon"].is_valid())
    count = int(pc.sum(located).as_py() or 0)
    left_out = {"without coordinates": len(located) - count}
    taken = {name: column.filter(located) for name, column in columns.items()}
    ids = taken.pop("id")
    opened = listed(source, taken, root=root, threads=threads)
    table, ids = opened.table, ids.filter(pa.array(opened.kept))
    left_out["whose header cannot be read"] = count - len(table)
    for name, why in (("lat", "whose coordinates cannot be a place"), ("category", "in no folder of a class")):
        good = table[name].combine_chunks().is_valid()
        left_out[why] = len(table) - int(pc.sum(good).as_py() or 0)
        table, ids = table.filter(good), ids.filter(good)
    few = pa.array(_of_small_classes(table["category"], min_photos))
    left_out[f"of classes with less than {min_photos} photos"] = int(pc.sum(few).as_py() or 0)
    enough = pc.invert(few)
    return table.filter(enough), ids.filter(enough), opened, left_out


def _of_small_classes(category: pa.ChunkedArray, least: int) -> np.ndarray:
    """Which rows, bool [N], are of a class with fewer than `least`."""
    codes = category.combine_chunks().dictionary_encode().indices.to_numpy()
    few: np.ndarray = np.bincount(codes)[codes] < least if len(codes) else np.zeros(0, bool)
    return few


def _test_size(test: int | None, count: int) -> int:
    """How many photos test. Raises UsageError if there are too few."""
    wanted = PAPER_TEST if test is None else test
    if 0 < wanted < count:
        return wanted
    like = max(1, round(count * PAPER_TEST / PAPER_PHOTOS))
    given = f"--test {wanted:,}" + (", as in the paper" if test is None else "")
    raise UsageError(
        f"{given}: {count:,} photos can be used, and some have to train; the paper's share would be --test {like}"
    )


def _why_no_places(src: Path, found: _Found, *, exif: bool) -> str:
    """Why no photo has coordinates, with an example of each side."""
    photo = PurePosixPath(found.columns["path"][0].as_py())
    if found.places is None:
        return f"{src}: no photo has a place in its EXIF; give a table of coordinates with --coordinates"
    places, also = found.places, ", and none has a place in its EXIF" if exif else ""
    if found.row.null_count < len(found.row):
        return f"{places.source}: it has no coordinates of the photos that it lists{also}"
    example = repr(places.key[0].as_py()) if len(places.key) else "none"
    have = {"path": str(photo.with_suffix("")), "file": photo.stem, "id": photo.stem}[places.by]
    return (
        f"{places.source}: its column {places.by} names no photo of {src}{also}: {example} there, {have!r} here; give "
        "the photos' paths or file names in a column path or file (--map path=COLUMN), or the ids that the files are "
        "named after in a column id"
    )
