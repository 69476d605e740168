"""The folder of a run: one process writes to it, and knows whether there is room."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from geossl.errors import UsageError
from geossl.files import OutOfSpaceError, free_bytes, mib, naming_full_disk, remove_temporary, replacing
from geossl.models.weights import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

CONFIG = "config.yaml"
"""Name of the settings file in a run folder."""
FAILURES = "failures.jsonl"
"""Name of the list of unreadable images in a run folder."""
LOCK = ".lock"
"""Name of the file that the process which writes to the run folder holds."""
RESUME = "make room, and go on with --resume auto"


@contextmanager
def held(run: Path, *, console: Console) -> Iterator[None]:
    """Hold the run folder for the block, so that no other process writes to it; it is made if need be.

    What killed processes left half written is removed. If the block fails before it has left anything of worth in a
    new folder, the folder goes again. The system lets go of the folder when the process ends, however it does.

    Raises:
        UsageError: another process holds it, or it cannot be made.

    """
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    try:
        with naming_full_disk(run):
            run.mkdir(parents=True, exist_ok=True)
            lock = _lock(run, console=console)
    except OSError as e:
        raise UsageError(f"{run}: cannot be written ({e.strerror}); use another --out") from e
    try:
        remove_temporary(run)
        remove_temporary((run / CHECKPOINT).parent)
        try:
            yield
        except BaseException as e:
            if made and not (run / CHECKPOINT).exists() and (isinstance(e, UsageError) or not (run / CONFIG).exists()):
                shutil.rmtree(run)
                with suppress(OSError):  # another run has come beside it
                    for folder in made[1:]:
                        folder.rmdir()
            raise
    finally:
        (run / LOCK).unlink(missing_ok=True)
        os.close(lock)


def _lock(run: Path, *, console: Console) -> int:
    """Open the run's lock file and lock it; gives its descriptor."""
    while True:
        lock = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            holder = os.read(lock, 200).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise UsageError(f"{run}: {holder} is training in it; stop that one, or use another --out") from e
        except OSError as e:
            console.print(
                f"{run}: its file system has no locks ({e.strerror}): nothing keeps two jobs from writing to it",
                highlight=False,
                soft_wrap=True,
            )
        if os.fstat(lock).st_nlink:
            break
        os.close(lock)  # its holder has just ended, and removed it
    with suppress(OSError):  # a full disk is found, and named, where it matters
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return lock


class Room:
    """Watches that the disk has room for the checkpoints of a run."""

    def __init__(self, run: Path, *, size: int, files: int, console: Console) -> None:
        """Check the room for what is to come.

        Args:
            run: the run folder.
            size: of a checkpoint, bytes.
            files: how many are kept.
            console: where `look` warns.

        Raises:
            OutOfSpaceError: the kept checkpoints, and one that is written before another goes, do not fit.

        """
        self._run, self._size, self._console = run, size, console
        self._warned = False
        there = {file.stat().st_ino: file.stat().st_size for file in (run / CHECKPOINT).parent.glob("*.pt")}
        needed, free = size * (files + 1) - sum(there.values()), free_bytes(run)
        if needed > free:
            raise OutOfSpaceError(
                f"{run}: {files + 1} checkpoints of {mib(size)} need {mib(needed)} more, and {mib(free)} are free; "
                "make room, keep fewer (--keep), or use another --out"
            )

    def look(self) -> None:
        """Warn, once, when the disk gets short; to be called after each checkpoint."""
        free = free_bytes(self._run)
        if free >= 2 * self._size:
            self._warned = False
        elif not self._warned:
            self._warned = True
            self._console.print(
                f"{self._run}: warning: {mib(free)} are free, and each checkpoint takes {mib(self._size)} before it "
                "replaces another; make room",
                highlight=False,
                soft_wrap=True,
            )


class FailureList:
    """The images that could not be read since the run began; written at the block's end."""

    def __init__(self, run: Path, failures: Callable[[], Sequence[tuple[str, str]]], *, rank: int = 0) -> None:
        """List in the run folder what `failures` gives: (path, reason) of each so far in this process.

        Each of several processes, which read their own parts of the batches, has a list of its own.
        """
        self._path = run / (FAILURES if rank == 0 else f"failures-rank{rank}.jsonl")
        self._failures, self._written = failures, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.write()

    def write(self) -> None:
        """Bring the file up to date."""
        found = dict(self._failures())
        if len(found) == self._written:
            return
        with naming_full_disk(self._path, hint=RESUME), replacing(self._path) as file:
            for name, reason in (_listed(self._path) | found).items():
                file.write(json.dumps({"path": name, "reason": reason}).encode() + b"\n")
        self._written = len(found)


def read_failures(run: Path) -> list[tuple[str, str]]:
    """The images that the run could not read so far: (path, reason)."""
    return list(_listed(run / FAILURES).items())


def _listed(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["path"]: row["reason"] for row in rows}
