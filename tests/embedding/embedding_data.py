"""What the embedding tests share: a small encoder's run, and images with places and dates."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from geossl.data.index import Index
from geossl.data.table import SCHEMA, content_hash
from geossl.embedding import geoparquet, parts
from geossl.models.backbone import build_backbone
from geossl.models.weights import CHECKPOINT

BACKBONE = "squeezenet1_1"
"""Small, and quick to load."""
DIMENSIONS = 512
BATCH = 8
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def make_run(folder: Path, *, bands: int = 3, seed: int = 0) -> Path:
    """A run's folder with a checkpoint of an encoder that was never trained."""
    state = build_backbone(BACKBONE, bands=bands, seed=seed).state_dict()
    own = {"mean": MEAN[:1] * bands if bands != 3 else MEAN, "std": STD[:1] * bands if bands != 3 else STD}
    own |= {"bands": bands, "config": {"arm": "geo_tp", "crop": {"size": 32}}}
    (folder / CHECKPOINT).parent.mkdir(parents=True)
    saved = {"arch": BACKBONE, "state_dict": {f"module.encoder_q.{k}": v for k, v in state.items()}, "geossl": own}
    torch.save(saved, folder / CHECKPOINT)
    return folder


def pixels(i: int, size: int = 40) -> Image.Image:
    """Blobs, other ones for every number."""
    coarse = np.random.default_rng(i).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size + 8), Image.Resampling.BICUBIC)


def make_index(folder: Path, n: int = 60, *, files: int | None = None, **columns: list) -> Path:
    """An index of n JPEGs: three dates a place, every seventh without coordinates, every fifth with a box.

    All of them are made, or the first `files`.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i in range(n if files is None else files):
        pixels(i).save(folder / "images" / f"{i:03}.jpg", quality=90)
    draw = np.random.default_rng(1)
    lat, lon = draw.uniform(-80, 80, n), draw.uniform(-180, 180, n)
    values = {
        "path": [f"{i:03}.jpg" for i in range(n)],
        "location_id": [None if i % 11 == 10 else f"place {i // 3}" for i in range(n)],
        "lat": [None if i % 7 == 6 else float(lat[i // 3]) for i in range(n)],
        "lon": [None if i % 7 == 6 else float(lon[i // 3]) for i in range(n)],
        "timestamp": [
            None if i % 4 == 3 else datetime(2015, 1, 1, tzinfo=UTC) + timedelta(days=100 * i) for i in range(n)
        ],
        "category": [None if i % 9 == 8 else f"class {i % 4}" for i in range(n)],
        "split": [("train", "val", "test")[i % 3] for i in range(n)],
        "width": [40] * n,
        "height": [48] * n,
        "bands": [3] * n,
        "dtype": ["uint8"] * n,
        "band_names": ["red,green,blue"] * n,
    }
    for side, value in zip("xywh", (8, 4, 20, 24), strict=True):
        values[f"box_{side}"] = [value if i % 5 == 4 else None for i in range(n)]
    table = pa.table([pa.array((values | columns).get(f.name, [None] * n), f.type) for f in SCHEMA], schema=SCHEMA)
    index = Index(table=table, root=folder / "images", content_hash=content_hash(table))
    path = folder / "index.parquet"
    index.write(path)
    return path


def small_pieces(monkeypatch) -> None:
    """Parts of two batches, and row groups of 11 rows."""
    monkeypatch.setattr(parts, "PART_ROWS", 2 * BATCH)
    monkeypatch.setattr(geoparquet, "ROW_GROUP_BYTES", 11 * (4 * DIMENSIONS + geoparquet.OTHER_BYTES))
