"""Images enough for one epoch: links to a set's files, again and again."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geossl.data.index import build_index

if TYPE_CHECKING:
    from pathlib import Path

    from sets import ImageSet


@dataclass(frozen=True)
class Folder:
    """A folder of JPEGs, nothing else, and our index of it."""

    images: Path
    index: Path


def make_folder(images: ImageSet, *, count: int, work: Path) -> Folder:
    """The set's images, `count` of them; where it has fewer, they come again under other names."""
    folder = work / "trainer" / f"{images.name}-{len(images.files)}-{count}"
    made = Folder(folder / "images", folder / "index.parquet")
    if not made.index.is_file():
        made.images.mkdir(parents=True, exist_ok=True)
        with (folder / "images.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["path"])
            for number in range(count):
                link = made.images / f"{number:06d}.jpg"
                link.unlink(missing_ok=True)
                link.symlink_to(images.files[number % len(images.files)])
                table.writerow([f"images/{link.name}"])
        build_index(folder / "images.csv")[0].write(made.index)
    return made
