"""GeoImageNet as its downloader leaves it: photos by class, and a table of where they were taken."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

import pyarrow as pa

from geossl import _core
from geossl.data.listing import Listed, listed
from geossl.errors import UsageError

IMAGES, METADATA = "imagenet_images", "metadata.csv"
EXTENSIONS = ["jpg", "jpeg", "png"]
FIELDS = 7
"""Columns of the metadata, which has no header: photo id, latitude, longitude, locality, country, region, county."""


def is_geoimagenet(root: Path) -> bool:
    """Whether the folder has what the downloader makes."""
    return (root / IMAGES).is_dir() and (root / METADATA).is_file()


def read_geoimagenet(root: Path, *, threads: int) -> Listed:
    """The photos below `imagenet_images/<class>/`, sorted by path; the country's name stands in `country_code`.

    Raises UsageError if either of the two is missing, or the metadata cannot be read.
    """
    if not is_geoimagenet(root):
        raise UsageError(f"{root}: GeoImageNet has a folder {IMAGES} and a file {METADATA}")
    try:
        known, odd, repeated = _metadata(root / METADATA)
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"{root / METADATA}: cannot be read: {' '.join(str(e).split())}") from e
    found, unusable = _core.index_walk(root / IMAGES, EXTENSIONS, threads=threads)
    if not found:
        raise UsageError(f"{root / IMAGES}: no photos found; looked for {', '.join(EXTENSIONS)}")
    paths = [PurePosixPath(IMAGES, path) for path in found]
    place = [known.get(path.stem) for path in paths]
    columns = {
        "path": [str(path) for path in paths],
        "category": [path.parts[1] if len(path.parts) > 2 else None for path in paths],
        "lat": [None if row is None else row[0] for row in place],
        "lon": [None if row is None else row[1] for row in place],
        "country_code": [None if row is None else row[2] for row in place],
    }
    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    out = listed(root / METADATA, arrays, root=root, threads=threads)
    out.layout = "GeoImageNet"
    out.rejected = sorted(out.rejected + [(f"{IMAGES}/{path}", reason) for path, reason in unusable])
    out.nulled += [(f"{METADATA} line {line}", f"not {FIELDS} columns, left out: {n}") for line, n in odd]
    counts = [
        (sum(row is None for row in place), f"photos that {METADATA} does not list, kept without coordinates"),
        (len(known) - len({path.stem for path in paths} & known.keys()), f"rows of {METADATA} without a photo"),
        (repeated, f"rows of {METADATA} whose photo has an earlier one, left out"),
    ]
    out.notes += [f"{text}: {count:,}" for count, text in counts if count]
    return out


def _metadata(path: Path) -> tuple[dict[str, tuple[str, str, str]], list[tuple[int, int]], int]:
    """Latitude, longitude and country by photo id; odd rows (line, number of columns); rows of a known photo."""
    known: dict[str, tuple[str, str, str]] = {}
    odd, repeated = [], 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        for row in reader:
            if len(row) != FIELDS:
                if row:
                    odd.append((reader.line_num, len(row)))
            elif row[0] in known:
                repeated += 1
            else:
                known[row[0]] = (row[1], row[2], row[4])
    return known, odd, repeated
