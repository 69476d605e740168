"""The errors that a user can cause. Each message says what, where and how to mend it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class GeosslError(Exception):
    """A failure while running (exit code 1). The message is one line, meant for the user."""


class UsageError(GeosslError, ValueError):
    """Wrong input: a file, an argument or a setting (exit code 2). Nothing has been written."""


class Faults:
    """What checks that do not need one another have found wrong, to be told all at once."""

    def __init__(self) -> None:
        self._found: list[str] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a UsageError of the block, which then ends, and go on after it."""
        try:
            yield
        except UsageError as e:
            self._found.append(str(e))

    def tell(self) -> None:
        """Raise UsageError with all that was noted; nothing if there is none."""
        if self._found:
            raise UsageError("; ".join(dict.fromkeys(self._found)))
