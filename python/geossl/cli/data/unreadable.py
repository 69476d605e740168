"""Images that could not be read, as commands name them."""

from __future__ import annotations

from collections.abc import Sequence


def print_unreadable(failures: Sequence[tuple[str, str]], *, where: str) -> None:
    """The first images that could not be read, and how many more there are."""
    for path, reason in failures[:5]:
        print(f"unreadable: {path}: {reason}")
    if len(failures) > 5:
        print(f"unreadable: {len(failures) - 5:,} more{where}")
