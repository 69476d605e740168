"""A hundred thousand batches, to see that the loader's memory, threads and open files stay as they were.

    python tools/soak.py [--batches N] [--report docs/soak.md]

Reads a small set over and over, some of it unreadable: from its files, from a lossless pack, and to normalised
floats, by turns, and leaves a loop early now and then, with a new loader after it. The memory is what the process
holds in RAM (VmRSS). Exits with 1 if it grew by more than 16 MiB from the first tenth to the last.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import geossl
from geossl.config import ColorConfig, CropConfig, LoaderConfig
from geossl.data.index import Index, build_index
from geossl.data.loader import Loader
from geossl.data.pack import make_pack
from geossl.data.synth import make_planet

MOST_GROWTH = 16
"""MiB: what an allocator may still spread out; a leak of 200 bytes a batch is more."""
LEFT_AFTER = 37
"""Every loader is left after so many epochs, in the middle of one."""


@dataclass(frozen=True)
class Reading:
    """The process after so many batches."""

    batches: int
    memory: float
    """MiB."""
    threads: int
    files: int


def read(batches: int) -> Reading:
    """Look at the process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = int(status["VmRSS"].split()[0]) / 1024
    return Reading(batches, memory, int(status["Threads"]), sum(1 for _ in Path("/proc/self/fd").iterdir()))


def make_set(folder: Path) -> tuple[Index, Path]:
    """Small images, a few of them broken after they were packed; the pack is made before."""
    make_planet(folder / "planet", places=40, views=4, size=64)
    index = build_index(folder / "planet")[0]
    make_pack(index, folder / "pack")
    paths = [index.root / path for path in index.table["path"].to_pylist()]
    paths[3].unlink()
    paths[14].write_bytes(b"not an image")
    paths[25].write_bytes(paths[25].read_bytes()[:500])
    return index, folder / "pack"


def loader(index: Index, pack: Path | None, *, floats: bool) -> Loader:
    """Temporal pairs of small crops."""
    return Loader(
        index,
        rows=np.arange(len(index)),
        batch=8,
        views=2,
        temporal=True,
        crop=CropConfig(size=32),
        color=ColorConfig(),
        seed=0,
        train=True,
        loader=LoaderConfig(threads=2, pack=pack, on_error="substitute"),
        max_failures=0.1,
        normalize=((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)) if floats else None,
    )


def soak(index: Index, pack: Path, batches: int) -> list[Reading]:
    """Readings at every fiftieth of the way."""
    done, turn, readings = 0, 0, []
    kinds = [(None, False), (pack, False), (pack, True), (None, True)]
    while done < batches:
        where, floats = kinds[turn % len(kinds)]
        own, turn = loader(index, where, floats=floats), turn + 1
        for epoch in range(LEFT_AFTER):
            for k, batch in enumerate(own):
                float(batch.images[0, 0, 0, 0, 0])
                done += 1
                if done % (batches // 50) == 0:
                    readings.append(read(done))
                if done == batches or (epoch == LEFT_AFTER - 1 and k == 2):
                    break
            if done == batches:
                break
    return readings


def main() -> int:
    """Run, print, write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=100_000)
    parser.add_argument("--report", type=Path, help="write the figures here, as Markdown")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        index, pack = make_set(Path(folder))
        readings = soak(index, pack, options.batches)
    seconds = time.monotonic() - started
    fifth = len(readings) // 5
    early, late = readings[fifth // 2 : fifth], readings[-fifth // 2 :]
    growth = max(r.memory for r in late) - max(r.memory for r in early)
    versions = (
        f"geossl {geossl.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores."
    )
    lines = [
        "# Soak",
        "",
        f"Made by `make soak`: {options.batches:,} batches of 8 pairs of 32 x 32 crops in {seconds:.0f} s, from files,",
        f"from a lossless pack and to normalised floats by turns, three of {len(index)} files unreadable, each loader",
        "left in the middle of an epoch and replaced.",
        "",
        "| batches | memory (VmRSS), MiB | threads | open files |",
        "|---|---|---|---|",
        *(f"| {r.batches:,} | {r.memory:.1f} | {r.threads} | {r.files} |" for r in readings[4::5]),
        "",
        f"Growth from the first tenth to the last: {growth:.1f} MiB (at most {MOST_GROWTH} is accepted).",
        "",
        versions,
    ]
    print("\n".join(lines))
    if options.report:
        options.report.write_text("\n".join(lines) + "\n")
    return 1 if growth > MOST_GROWTH or readings[-1].files > readings[0].files else 0


if __name__ == "__main__":
    sys.exit(main())
