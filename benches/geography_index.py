"""The index beside Python: reading a folder in fMoW's layout, and loading what was read."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
import time
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from geography_report import Comparison
from geography_work import timed
from geossl.data.index import Index, build_index

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES, QUICK_IMAGES = 300_000, 30_000
CLASSES = 62
VIEWS = 4.78
"""Mean views of a place, as fMoW-rgb's validation listing has them; half of the places have four or fewer."""
REPEATS, LOADS = 3, 15
SCAN_TARGET, LOAD_TARGET = 5.0, 1.0
ANGLES = ["off_nadir_angle", "target_azimuth", "sun_azimuth", "sun_elevation"]
RESOLUTIONS = ["pan_resolution", "multi_resolution"]


def comparisons(quick: bool) -> Iterator[Comparison]:
    """The scan of a made set, and the load of its index."""
    images = QUICK_IMAGES if quick else IMAGES
    with tempfile.TemporaryDirectory(prefix="geossl-index-") as folder:
        root = Path(folder) / "fmow"
        make_set(root, images)
        file = Path(folder) / "index.parquet"
        yield from scans(root, file, images)
        yield load(file, images)


def scans(root: Path, file: Path, images: int) -> Iterator[Comparison]:
    """All read the set whose pages are in memory, with a thread or process a core."""
    cores = len(os.sched_getaffinity(0))
    python_scan(root, cores, opens=True)  # reads the set into memory
    ours: list[float] = []
    peers: dict[bool, list[float]] = {True: [], False: []}
    same: dict[bool, list[str]] = {}
    for _ in range(REPEATS):
        secs, (index, _) = timed(partial(build_index, root))
        ours.append(secs)
        for opens, seconds in peers.items():
            secs, frame = timed(partial(python_scan, root, cores, opens=opens))
            seconds.append(secs)
            same[opens] = _differing(index.table, frame.sort_values("path"))
    index.write(file)
    for opens, seconds in peers.items():
        found = f"differing: {', '.join(same[opens])}" if same[opens] else "equal, coordinates to 1e-9 degrees"
        reads = "images and sidecars" if opens else "sidecars alone, and believes the sizes in them"
        yield Comparison(
            what=f"index of {images:,} images with sidecars; the peer reads {reads}",
            peer=f"os.walk + json{' + Pillow' if opens else ''}, {cores} processes",
            ours=ours,
            theirs=seconds,
            target=SCAN_TARGET,
            same=f"{len(FIELDS)} columns of {len(index):,} rows: {found}; ours reads and checks both",
            agrees=not same[opens] and len(index) == images,
        )


def load(file: Path, images: int) -> Comparison:
    """Both load all columns; the index does so when they are first asked for, which is here at once."""
    ours, theirs, opened = [], [], []
    for _ in range(LOADS):
        start = time.perf_counter()
        index = Index.read(file)
        middle = time.perf_counter()
        table = index.table
        ours.append(time.perf_counter() - start)
        opened.append(middle - start)
        secs, frame = timed(partial(pd.read_parquet, file))
        theirs.append(secs)
    same = table.equals(pa.Table.from_pandas(frame[table.column_names], schema=table.schema, preserve_index=False))
    return Comparison(
        what=f"load of the index of {images:,} images, all columns",
        peer=f"pandas {pd.__version__} read_parquet",
        ours=ours,
        theirs=theirs,
        target=LOAD_TARGET,
        same=f"tables {'equal' if same else 'differ'}; opened alone in {median(opened) * 1e3:.1f} ms",
        agrees=same and len(index) == len(frame) == images,
    )


# --- the peer

FIELDS = [
    "path", "location_id", "lat", "lon", "timestamp", "category", "box_x", "box_y", "box_w", "box_h", "width",
    "height", "gsd", "cloud_cover", "sensor", "country_code", "split",
]  # fmt: skip
"""What the peer extracts."""


def python_scan(root: Path, processes: int, *, opens: bool) -> pd.DataFrame:
    """The rows as anyone would read them: paths by os.walk, sidecars by json in a pool of processes.

    With `opens`, images say their size themselves, as in the index. It looks for no faults, and writes nothing.
    """
    found = [
        os.path.join(folder, name)  # noqa: PTH118 - a Path a file would slow the peer
        for folder, _, names in os.walk(root)
        for name in names
        if name.endswith("_rgb.json")
    ]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        rows = pool.map(partial(_read, len(str(root)) + 1, opens), found, chunksize=512)
    return pd.DataFrame(rows, columns=FIELDS)


def _read(skip: int, opens: bool, path: str) -> tuple[Any, ...]:
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        meta = json.loads(file.read())
    size = (meta["img_width"], meta["img_height"])
    if opens:
        with Image.open(f"{path[:-5]}.jpg") as image:
            size = image.size
    boxes = meta["bounding_boxes"]
    box = boxes[0] if isinstance(boxes, list) else boxes
    ring = [tuple(map(float, point.split())) for point in meta["raw_location"][10:-2].split(",")]
    x0, y0 = ring[0]
    twice = x = y = 0.0
    for (ax, ay), (bx, by) in pairwise(ring):
        cross = (ax - x0) * (by - y0) - (bx - x0) * (ay - y0)
        twice += cross
        x += (ax + bx - 2 * x0) * cross
        y += (ay + by - 2 * y0) * cross
    relative = path[skip:-5]
    return (
        f"{relative}.jpg", relative.rsplit("/", 1)[0], y0 + y / (3 * twice), x0 + x / (3 * twice),
        datetime.fromisoformat(meta["timestamp"]), box["category"], *box["box"], *size, meta["gsd"],
        meta["cloud_cover"], meta["sensor_platform_name"], meta["country_code"], relative.split("/", 1)[0],
    )  # fmt: skip


def _differing(table: pa.Table, frame: pd.DataFrame) -> list[str]:
    """The columns that are not the same."""

    def equal(name: str) -> bool:
        theirs, ours = frame[name], table[name]
        if pa.types.is_floating(ours.type):
            return bool(np.allclose(ours.to_numpy(), theirs.to_numpy(), rtol=1e-7, atol=1e-9))
        return bool(ours.equals(pa.chunked_array([pa.Array.from_pandas(theirs, type=ours.type)])))

    return [name for name in FIELDS if not equal(name)]


# --- the set


def make_set(root: Path, images: int) -> None:
    """Folders and names as fMoW-rgb has them, sidecars of its fields and size, and JPEGs that are a header alone."""
    shutil.rmtree(root, ignore_errors=True)
    rng = np.random.default_rng(0)
    made, number = 0, 0
    while made < images:
        category = f"category_{'of_fmow' * (number % 3)}_{number % CLASSES:02}"
        place = f"{category}_{number // CLASSES}"
        split = "val" if number % 7 == 0 else "train"
        folder = root / split / category / place
        folder.mkdir(parents=True)
        lat, lon = float(rng.uniform(-60, 75)), float(rng.uniform(-179, 179))
        views = min(int(rng.geometric(1 / VIEWS)), images - made)
        for view in range(views):
            width, height = (int(n) for n in rng.integers(300, 4000, 2))
            stem = f"{folder}/{place}_{view}_rgb"
            _write(f"{stem}.jpg", _jpeg(width, height))
            meta = _sidecar(rng, category, (lat, lon), (width, height))
            _write(f"{stem}.json", json.dumps(meta).encode())
        made += views
        number += 1


def _write(path: str, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(file, data)
    os.close(file)


def _jpeg(width: int, height: int) -> bytes:
    """A JPEG up to its frame header, with the tables that come before it."""
    tables = b"".join(b"\xff\xdb\x00\x43" + bytes([i]) + bytes(range(1, 65)) for i in (0, 1))
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    frame = b"\xff\xc0\x00\x11\x08" + size + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + tables + frame


def _sidecar(
    rng: np.random.Generator, category: str, place: tuple[float, float], size: tuple[int, int]
) -> dict[str, Any]:
    (lat, lon), (width, height) = place, size
    x, y = (float(v) for v in rng.uniform(0.002, 0.03, 2))
    ring = [(lon - x, lat + y), (lon + x, lat + y), (lon + x, lat - y), (lon - x, lat - y), (lon - x, lat + y)]
    wkt = f"POLYGON (({', '.join(f'{a:.15f} {b:.15f}' for a, b in ring)}))"
    angles = rng.uniform(0, 90, (len(ANGLES), 3)).tolist()
    sizes = rng.uniform(0.3, 2.5, (len(RESOLUTIONS), 3)).tolist()
    ends = ("", "_start", "_end")
    day = int(rng.integers(1, 29))
    return {
        "gsd": float(rng.uniform(0.3, 3)),
        "img_width": width,
        "img_height": height,
        "mean_pixel_height": float(rng.uniform(0.3, 3)),
        "mean_pixel_width": float(rng.uniform(0.3, 3)),
        "utm": f"{int((lon + 180) // 6) + 1}{'N' if lat > 0 else 'S'}",
        "country_code": ("USA", "FRA", "CHN", "KO-")[day % 4],
        "cloud_cover": int(rng.integers(0, 101)),
        "timestamp": f"{int(rng.integers(2002, 2018))}-{int(rng.integers(1, 13)):02}-{day:02}T10:32:{day:02}Z",
        "scan_direction": "Forward",
        **{f"{n}{e}_dbl": v for n, row in zip(RESOLUTIONS, sizes, strict=True) for e, v in zip(ends, row, strict=True)},
        **{
            f"{n}{e}_dbl": v
            for n, row in zip(ANGLES, angles, strict=True)
            for e, v in zip(ends[1:], row[1:], strict=True)
        },
        "sensor_platform_name": ("WORLDVIEW02", "QUICKBIRD02", "GEOEYE01")[day % 3],
        "raw_location": wkt,
        "bounding_boxes": [
            {
                "ID": -1,
                "category": category,
                "box": [3, 5, width - 10, height - 20],
                "visible": True,
                "raw_location": wkt,
            }
        ],
        "abs_cal_factors": [
            {"band": band, "value": float(rng.uniform(0.005, 0.02))} for band in ("pan", "B", "G", "R")
        ],
    }
