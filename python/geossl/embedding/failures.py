"""The list of images that have no row in an embedding file, since they could not be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from geossl.files import naming_full_disk, replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from geossl.data.index import Index


def failures_path(file: Path) -> Path:
    """Where the list of an embedding file lies: features.parquet has features.parquet.failures.jsonl beside it."""
    return file.with_name(f"{file.name}.failures.jsonl")


def write_failures(file: Path, failures: Sequence[tuple[int, str]], *, index: Index) -> None:
    """Write a line of JSON an image: row, path and reason; without any, take away the list of an earlier file.

    Args:
        file: the embedding file.
        failures: (row of the index, reason).
        index: the images.

    """
    path = failures_path(file)
    if not failures:
        path.unlink(missing_ok=True)
        return
    with naming_full_disk(path), replacing(path) as out:
        for row, reason in failures:
            line = {"row": row, "path": index_path(index, row), "reason": reason}
            out.write(f"{json.dumps(line, ensure_ascii=False)}\n".encode())


def read_failures(file: Path) -> list[tuple[str, str]]:
    """(path, reason) of the images in the list of an embedding file; none if it has no list."""
    path = failures_path(file)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [(line["path"], line["reason"]) for line in map(json.loads, lines)]


def index_path(index: Index, row: int) -> str:
    """Where the image of a row is."""
    return index.full_path(index.table["path"][row].as_py())
