"""Small image sets for the loader's tests."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from geossl.data.index import Index
from geossl.data.table import SCHEMA


def smooth(height: int, width: int, bands: int, seed: int) -> np.ndarray:
    """uint8 [height, width, bands]: blobs and edges, so that resampling and JPEG have something to do."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    image = np.asarray(coarse).astype(int) + rng.integers(-12, 13, (height, width, 3))
    image = np.concatenate([image, image[..., ::-1]], axis=2)[..., :bands]
    return np.clip(image, 0, 255).astype(np.uint8)


def index_of(root: Path, paths: list[str], places: list[str | None], **columns: list) -> Index:
    """An index of images that lie under `root`."""
    n = len(paths)
    values = {"path": paths, "location_id": places, "bands": [3] * n, "dtype": ["uint8"] * n} | columns
    table = pa.table({f.name: pa.array(values.get(f.name, [None] * n), f.type) for f in SCHEMA}, schema=SCHEMA)
    return Index(table=table, root=root, content_hash="abc", source=None)
