"""Files that appear whole or not at all, and what a full disk is called."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from geossl.errors import GeosslError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says when a file may not grow: the disk is full, a quota is used up, a file size limit is reached."""


class OutOfSpaceError(GeosslError):
    """A file could not be written for want of space (exit code 1)."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` once the block has ended well.

    It is written under a temporary name in the same folder, which is made if need be, and flushed to disk
    before it is renamed. If the block raises, `path` stays as it was and the temporary file is removed. The
    temporary name is always the same, so that what a killed process left is overwritten by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """The name that `path` has while it is written."""
    return path.with_name(f".{path.name}.tmp")


def remove_temporary(folder: Path) -> None:
    """Remove what processes that were killed while they wrote to the folder have left."""
    for file in folder.glob(".*.tmp"):
        file.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Have a folder's names on the disk, so that a rename outlives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        # Some network file systems flush no folders. They keep names on the server, which is as safe as it gets.
        pass
    finally:
        os.close(handle)


@contextmanager
def naming_full_disk(path: Path, *, needed: int | None = None, hint: str = "make room") -> Iterator[None]:
    """Turn the block's failure to write for want of space into one clear OutOfSpaceError; others pass unchanged.

    Args:
        path: what the block writes.
        needed: its size, bytes, where it is known.
        hint: what the user can do.

    """
    try:
        yield
    except Exception as e:
        # torch.save hides the system's error behind one of its own.
        cause: BaseException | None = e
        while cause is not None and not (isinstance(cause, OSError) and cause.errno in OUT_OF_SPACE):
            cause = cause.__cause__ or cause.__context__
        if cause is None or isinstance(e, OutOfSpaceError):
            raise
        needs = f"{mib(needed)} needed, " if needed is not None else ""
        why = os.strerror(cause.errno or 0).lower() if isinstance(cause, OSError) else ""
        raise OutOfSpaceError(f"{path}: cannot be written: {why}; {needs}{mib(free_bytes(path))} free; {hint}") from e


def free_bytes(path: Path) -> int:
    """Bytes that may still be written where `path` is, or would be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def mib(count: float) -> str:
    """Bytes for a reader."""
    return f"{count / 2**20:,.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**20:,.1f} MiB"
