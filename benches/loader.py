"""The loader beside its peers: temporal pairs a second, from the same JPEG files, in one run.

Everybody does the same work: whole images, two different dates of a place, each decoded, cropped by
RandomResizedCrop(224, scale 0.2 to 1), perhaps flipped, and put into a uint8 batch. Peers:

- torchvision-pil: Pillow, torchvision's transforms, a torch DataLoader; the way of the paper's code.
- torchvision-io: torchvision's own JPEG decoder and tensor transforms, a torch DataLoader.

One repetition is one pass of each over all pairs; the repetitions are interleaved, so that a machine that slows down
slows everybody down. With one thread the DataLoaders have no workers, with more they have that many.

    python benches/loader.py [--quick] [--data DIR] [--json FILE] [--check]
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torchvision
from PIL import Image
from PIL import __version__ as pillow_version
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

import geossl
from geossl.config import CropConfig, LoaderConfig
from geossl.data.index import Index, build_index
from geossl.data.loader import Loader
from geossl.data.synth import make_planet

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE, BATCH, SCALE = 224, 32, (0.2, 1.0)
TARGETS = {"torchvision-pil": 2.0, "torchvision-io": 1.2}
"""Least ratio of our pairs a second to a peer's, on every set and number of threads."""


@dataclass(frozen=True)
class Row:
    """One loader on one set with one number of threads."""

    set: str
    threads: int
    loader: str
    pairs_per_sec: float
    least: float
    most: float
    ours_over_this: float


class Pairs(Dataset[torch.Tensor]):
    """Temporal pairs as peers make them; item i is image i and another date of its place."""

    def __init__(self, index: Index, *, decode: str) -> None:
        """`decode`: pil or io."""
        self.paths = [str(index.root / p) for p in index.table["path"].to_pylist()]
        members: dict[int, list[int]] = {}
        for row, place in enumerate(index.places.tolist()):
            members.setdefault(place, []).append(row)
        self.dates = [members[place] for place in index.places.tolist()]
        self.decode = decode
        self.crop = v2.RandomResizedCrop(SIZE, scale=SCALE, antialias=True)
        self.flip = v2.RandomHorizontalFlip()

    def __len__(self) -> int:
        """Pairs of an epoch."""
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        """uint8 [2, 3, SIZE, SIZE]."""
        others = [row for row in self.dates[i] if row != i] or [i]
        partner = others[int(torch.randint(len(others), ()))]
        return torch.stack([self.view(i), self.view(partner)])

    def view(self, row: int) -> torch.Tensor:
        """One random view of an image."""
        if self.decode == "io":
            image = decode_image(self.paths[row], mode=ImageReadMode.RGB)
            return self.flip(self.crop(image))
        with Image.open(self.paths[row]) as file:
            return v2.functional.pil_to_tensor(self.flip(self.crop(file.convert("RGB"))))


def peer(index: Index, *, decode: str, threads: int) -> Callable[[], int]:
    """A pass of a torch DataLoader over all pairs; workers stay alive from pass to pass."""
    workers = 0 if threads == 1 else threads
    source = DataLoader(
        Pairs(index, decode=decode),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: sum(len(batch) for batch in source)


def ours(index: Index, *, threads: int) -> Callable[[], int]:
    """A pass of our loader over all pairs."""
    source = Loader(
        index,
        rows=np.arange(len(index)),
        batch=BATCH,
        views=2,
        temporal=True,
        crop=CropConfig(size=SIZE, scale=SCALE),
        color=None,
        seed=0,
        train=True,
        loader=LoaderConfig(threads=threads),
    )
    return lambda: sum(batch.images.shape[1] for batch in source)


def measure(name: str, index: Index, *, threads: int, repetitions: int) -> list[Row]:
    """Interleaved passes of everybody; rates are medians."""
    passes = {
        "geossl": ours(index, threads=threads),
        "torchvision-pil": peer(index, decode="pil", threads=threads),
        "torchvision-io": peer(index, decode="io", threads=threads),
    }
    rates: dict[str, list[float]] = {loader: [] for loader in passes}
    for repetition in range(repetitions + 1):
        for loader, run in passes.items():
            started = time.perf_counter()
            pairs = run()
            if repetition:  # the first pass warms caches and workers
                rates[loader].append(pairs / (time.perf_counter() - started))
    rows = []
    for loader, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["geossl"], values, strict=True))
        rows.append(Row(name, threads, loader, statistics.median(values), min(values), max(values), ratio))
    return rows


def whole_images(folder: Path, work: Path) -> Index:
    """The JPEG and PNG images below a folder, whole, without boxes; those of one folder are dates of one place."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    listing = work / f"{folder.name}.csv"
    with listing.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "location_id"])
        rows.writerows([p.relative_to(folder), p.parent.relative_to(folder)] for p in files)
    return build_index(listing, root=folder)[0]


def made_sets(folder: Path, *, quick: bool) -> dict[str, Index]:
    """Planets with images of two sizes."""
    sets = {}
    for size, places in ((400, 16 if quick else 64), (900, 10 if quick else 32)):
        out = folder / f"planet{size}"
        make_planet(out, places=places, views=6, size=size)
        sets[f"{size} x {size}"] = whole_images(out, folder)
    return sets


def main() -> int:
    """Measure, print a table, write JSON, check the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--data", type=Path, help="own images, a folder for each place, in place of the made ones")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--check", action="store_true", help="exit 1, naming each target missed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.data:
            sets = {options.data.name: whole_images(options.data.resolve(), Path(folder))}
        else:
            sets = made_sets(Path(folder), quick=options.quick)
        rows = [
            row
            for name, index in sets.items()
            for threads in (1, 2)
            for row in measure(name, index, threads=threads, repetitions=3 if options.quick else 7)
        ]
    versions = {
        "geossl": geossl.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "Pillow": pillow_version,
        "Python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    table = Table(title="temporal pairs a second (median, least to most)", title_justify="left")
    for column in ("images", "threads", "loader", "pairs/s", "spread", "geossl is"):
        table.add_column(column, justify="left" if column in {"images", "loader"} else "right")
    for row in rows:
        spread = f"{row.least:.0f} to {row.most:.0f}"
        ratio = f"{row.ours_over_this:.2f}x"
        table.add_row(row.set, str(row.threads), row.loader, f"{row.pairs_per_sec:.0f}", spread, ratio)
    Console(width=100).print(table)
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    if options.json:
        options.json.write_text(json.dumps({"versions": versions, "rows": [asdict(row) for row in rows]}, indent=2))
    missed = [
        f"{row.set}, {row.threads} threads: {row.ours_over_this:.2f}x {row.loader}, target {TARGETS[row.loader]}x"
        for row in rows
        if row.loader in TARGETS and row.ours_over_this < TARGETS[row.loader]
    ]
    for line in missed if options.check else []:
        print(f"missed: {line}")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
