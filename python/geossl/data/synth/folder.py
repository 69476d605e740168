"""The folder of a made set: it appears whole, or not at all."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from geossl.errors import GeosslError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def made_folder(out: Path, *, workers: int = 0) -> Iterator[tuple[Path, ThreadPoolExecutor]]:
    """A folder to fill, which takes the name `out` once the block has ended well, and threads to fill it.

    If the block raises, nothing is left behind, and what the threads have not begun is not done.

    Args:
        out: absolute; it must not exist, or be an empty folder.
        workers: threads; 0 is one for every core.

    Raises:
        UsageError: `out` is something else.
        GeosslError: the system cannot write it.

    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists and is not an empty folder; name another, or remove it first")
    partial = out.parent / f".{out.name}.partial"
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial, pool
        if out.exists():
            out.rmdir()
        partial.replace(out)
    except OSError as e:
        raise GeosslError(f"{out}: cannot write the data set: {e}") from e
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(partial, ignore_errors=True)
