"""The index beside Python: reading a folder in fMoW's layout, and loading what was read."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from geography_report import Comparison

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
        yield scan(root, file, images)
        yield load(file, images)


def scan(root: Path, file: Path, images: int) -> Comparison:
    """Both read the set whose pages are in memory, with a thread or process a core."""
    cores = len(os.sched_getaffinity(0))
    python_scan(root, cores)  # reads the set into memory
    ours, theirs = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        index, _ = build_index(root)
        middle = time.perf_counter()
        peer = python_scan(root, cores)
        ours.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    index.write(file)
    columns = index.table.select(FIELDS).to_pydict()
    differing = [
        name for name, theirs_ in zip(FIELDS, zip(*sorted(peer), strict=True), strict=True)
        if not _equal(columns[name], list(theirs_))
    ]
    return Comparison(
        what=f"index of {images:,} images with sidecars",
        peer=f"os.walk + json, {cores} processes",
        ours=ours,
        theirs=theirs,
        target=SCAN_TARGET,
        same=f"{len(FIELDS)} columns of {len(peer):,} rows: "
        + (f"differing: {', '.join(differing)}" if differing else "equal, coordinates to 1e-9 degrees"),
        agrees=not differing and len(index) == len(peer) == images,
    )


def load(file: Path, images: int) -> Comparison:
    """Both load the index; ours as the trainer does, with places, labels and coordinates at hand."""
    root = Index.read(file).root
    ours, theirs = [], []
    for _ in range(LOADS):
        start = time.perf_counter()
        index = Index.read(file, root=root)
        rows = len(index)
        middle = time.perf_counter()
        frame = pd.read_parquet(file)
        ours.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    same = index.table.equals(pa.Table.from_pandas(frame, schema=index.table.schema, preserve_index=False))
    return Comparison(
        what=f"load of the index of {images:,} images",
        peer=f"pandas {pd.__version__} read_parquet",
        ours=ours,
        theirs=theirs,
        target=LOAD_TARGET,
        same=f"{rows:,} rows, tables {'equal' if same else 'differ'}",
        agrees=same and rows == len(frame) == images,
    )


# --- the peer

FIELDS = [
    "path", "location_id", "lat", "lon", "timestamp", "category", "box_x", "box_y", "box_w", "box_h", "width",
    "height", "gsd", "cloud_cover", "country_code", "split",
]  # fmt: skip
"""What the peer extracts."""


def python_scan(root: Path, processes: int) -> list[tuple[Any, ...]]:
    """The rows as anyone would read them: paths by os.walk, sidecars by json in a pool of processes.

    It takes the images' sizes from the sidecars, where the index opens every image; and it looks for no faults.
    """
    found = [
        os.path.join(folder, name)  # noqa: PTH118 - a Path a file would slow the peer
        for folder, _, names in os.walk(root)
        for name in names
        if name.endswith("_rgb.json")
    ]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return pool.map(partial(_read, len(str(root)) + 1), found, chunksize=512)


def _read(skip: int, path: str) -> tuple[Any, ...]:
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        meta = json.loads(file.read())
    boxes = meta["bounding_boxes"]
    box = boxes[0] if isinstance(boxes, list) else boxes
    ring = [tuple(map(float, point.split())) for point in meta["raw_location"][10:-2].split(",")]
    x0, y0 = ring[0]
    twice = x = y = 0.0
    for (ax, ay), (bx, by) in zip(ring, ring[1:], strict=False):
        cross = (ax - x0) * (by - y0) - (bx - x0) * (ay - y0)
        twice += cross
        x += (ax + bx - 2 * x0) * cross
        y += (ay + by - 2 * y0) * cross
    relative = path[skip:-5]
    folder, _ = relative.rsplit("/", 1)
    return (
        f"{relative}.jpg", folder, y0 + y / (3 * twice), x0 + x / (3 * twice), meta["timestamp"], box["category"],
        *box["box"], meta["img_width"], meta["img_height"], meta["gsd"], meta["cloud_cover"], meta["country_code"],
        relative.split("/", 1)[0],
    )  # fmt: skip


def _equal(ours: list[Any], theirs: list[Any]) -> bool:
    if isinstance(ours[0], float):
        return bool(np.allclose(ours, theirs, rtol=1e-7, atol=1e-9))
    if hasattr(ours[0], "isoformat"):
        theirs = list(pd.to_datetime(pd.Series(theirs), utc=True, format="ISO8601").dt.to_pydatetime())
    return ours == theirs


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
            meta = _sidecar(rng, category, lat, lon, width, height)
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


def _sidecar(rng: np.random.Generator, category: str, lat: float, lon: float, width: int, height: int) -> Any:
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
        **{f"{n}{e}_dbl": v for n, row in zip(ANGLES, angles, strict=True) for e, v in zip(ends[1:], row[1:], strict=True)},
        "sensor_platform_name": ("WORLDVIEW02", "QUICKBIRD02", "GEOEYE01")[day % 3],
        "raw_location": wkt,
        "bounding_boxes": [
            {"ID": -1, "category": category, "box": [3, 5, width - 10, height - 20], "visible": True, "raw_location": wkt}
        ],
        "abs_cal_factors": [{"band": band, "value": float(rng.uniform(0.005, 0.02))} for band in ("pan", "B", "G", "R")],
    }
