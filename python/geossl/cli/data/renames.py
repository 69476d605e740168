"""`--map`: columns of a table that have other names."""

from __future__ import annotations

from geossl.errors import UsageError


def read_renames(texts: list[str]) -> dict[str, str]:
    """Columns by the names that they get, from target=source[,target=source ...]. Raises UsageError."""
    out: dict[str, str] = {}
    for text in texts:
        for part in text.split(","):
            target, equals, source = (piece.strip() for piece in part.partition("="))
            if not (target and equals and source):
                raise UsageError(f"--map {text}: is not TARGET=COLUMN, such as lat=latitude")
            if out.setdefault(target, source) != source:
                raise UsageError(f"--map {target}: is given twice, {out[target]} and {source}")
    return out
