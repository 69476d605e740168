"""metrics.csv: the rows of metrics.jsonl for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from geossl.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAME = "metrics.csv"
"""Its name in the run folder."""


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of metrics as CSV, atomically: a column for every name that any row has, in the order they come.

    A row has nothing in the columns that it lacks; lists and dicts are written as JSON.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()})
    with replacing(path) as file:
        file.write(text.getvalue().encode())
