"""How long the parts of a grid took, which is no part of their results."""

from __future__ import annotations

import csv
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from geossl.tables import write_csv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FILE = "timing.csv"


@contextmanager
def timed(folder: Path, part: str) -> Iterator[None]:
    """Add the seconds of the block to the folder's file, whether it ends well or not: there may be several sittings."""
    started = time.monotonic()
    try:
        yield
    finally:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("a", encoding="utf-8") as file:
            file.write(f"{part},{time.monotonic() - started:.1f}\n")


def write_times(out: Path, folders: Sequence[Path]) -> None:
    """Add up what all cells took, into one file: a line for each part of a cell."""
    rows = [(folder.name, part, f"{secs:.1f}") for folder in folders for part, secs in _seconds(folder).items()]
    write_csv(out / FILE, ("cell", "part", "seconds"), rows)


def _seconds(folder: Path) -> dict[str, float]:
    """Seconds by part; a line that a full disk or a kill cut short is left out."""
    if not (folder / FILE).exists():
        return {}
    found: dict[str, float] = {}
    for row in csv.reader((folder / FILE).read_text(encoding="utf-8").splitlines()):
        if len(row) == 2 and row[1].replace(".", "", 1).isdecimal():
            found[row[0]] = found.get(row[0], 0.0) + float(row[1])
    return found
