"""What the loader's tests share: a loader with short settings, hashes of its batches, its threads."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geossl.config import ColorConfig, CropConfig, LoaderConfig
from geossl.data.index import Index
from geossl.data.loader import Batch, Loader

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks at threads through /proc")


def loader(index: Index, **over: Any) -> Loader:
    options: dict[str, Any] = {
        "rows": np.arange(len(index)),
        "batch": 4,
        "views": 2,
        "temporal": True,
        "crop": CropConfig(size=16),
        "color": ColorConfig(),
        "seed": 5,
        "train": True,
        "loader": LoaderConfig(threads=2),
    }
    return Loader(index, **(options | over))


def digest(batch: Batch) -> str:
    made = hashlib.sha256()
    for tensor in (batch.images, batch.rows, batch.color):
        made.update(tensor.contiguous().numpy().tobytes())
    return made.hexdigest()


def epoch(source: Loader, number: int = 0) -> list[str]:
    source.set_epoch(number)
    return [digest(batch) for batch in source]


def geossl_threads() -> int:
    return sum((task / "comm").read_text().startswith("geossl-") for task in Path("/proc/self/task").iterdir())


SCRIPT = """
import os, signal, sys, threading, time
sys.path[:0] = {path!r}
from loading import *
from made_images import index_of
from geossl.errors import UsageError
root = Path({root!r})
# Started by a job in the background, a process ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
paths = sorted(p.name for p in root.glob("*.jpg"))
source_index = index_of(root, paths, ["p"] * len(paths))
source = loader(source_index, loader=LoaderConfig(threads=2), slots=3)
"""


def run(script: str, root: Path) -> subprocess.CompletedProcess[str]:
    head = SCRIPT.format(path=[str(Path(__file__).parent)], root=str(root))
    return subprocess.run(
        [sys.executable, "-c", head + script], capture_output=True, text=True, timeout=120, check=False
    )
