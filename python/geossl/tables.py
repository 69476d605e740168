"""Tables for a reader's eyes, and as CSV."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Literal

from geossl.errors import GeosslError
from geossl.files import replacing

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

    from geossl.evaluate.bootstrap import Interval


def align(rows: Sequence[Sequence[str]], *, left: Container[int]) -> list[str]:
    """Rows of cells, the header first, as lines in columns; those of `left`, from 0, stand left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def per_cent(share: float, interval: Interval | None = None, *, sign: Literal["", "+"] = "") -> str:
    """A share as text, with its interval if there is one: 63.7 [61.2, 66.1]; a dash for what does not exist.

    `sign` + signs the share, as of a difference.
    """
    if math.isnan(share):
        return "-"
    if interval is None or math.isnan(interval.low):
        return f"{100 * share:{sign}.1f}"
    return f"{100 * share:{sign}.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all; NaN and None are empty. Raises GeosslError if it cannot be written."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row])
    try:
        with replacing(path) as file:
            file.write(text.getvalue().encode())
    except OSError as e:
        raise GeosslError(f"{path}: cannot be written: {e.strerror or e}") from e
