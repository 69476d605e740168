"""The images that a command is given: an image, a folder of images, or an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from geossl import _core
from geossl.data.geotiff import EXTENSIONS, GeoOptions, complete
from geossl.data.listing import listed
from geossl.data.stored import Index
from geossl.data.summary import first_reasons
from geossl.data.table import content_hash
from geossl.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

PHOTOS = ["jpg", "jpeg", "png"]


def read_source(source: Path, *, console: Console) -> Index:
    """The index of an index file (.parquet), of a folder's images, by path, or of one image.

    Images of a folder have the coordinates of their georeference. Those whose header cannot be read are left out, which
    the console says.

    Raises UsageError if there is no such file or folder, or it has no image that can be read.
    """
    if source.suffix.lower() == ".parquet":
        return Index.read(source)
    if source.is_dir():
        root, (names, rejected) = source, _core.index_walk(source, [*EXTENSIONS, *PHOTOS], threads=0)
    elif source.is_file():
        root, names, rejected = source.parent, [source.name], []
    else:
        raise UsageError(f"{source}: no such file or folder")
    if not names:
        raise UsageError(f"{source}: no images found; looked for {', '.join([*EXTENSIONS, *PHOTOS])}")
    found = listed(source, {"path": pa.array(names, pa.string())}, root=root.resolve(), threads=0)
    rejected = sorted(rejected + found.rejected)
    if not len(found.table):
        raise UsageError(f"{source}: none of its images can be read: {first_reasons(rejected)}")
    for path, reason in rejected:
        console.print(f"{path}: left out: {reason}", highlight=False, markup=False, soft_wrap=True)
    complete(found, root=root.resolve(), options=GeoOptions())
    return Index(found.table, root.resolve(), content_hash(found.table))
