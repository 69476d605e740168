"""Small image sets for the loader's tests."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from geossl.data.index import Index


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
    kinds = {
        "lat": pa.float64(), "lon": pa.float64(), "timestamp": pa.timestamp("us", "UTC"), "category": pa.string(),
        "box_x": pa.int32(), "box_y": pa.int32(), "box_w": pa.int32(), "box_h": pa.int32(), "width": pa.int32(),
        "height": pa.int32(), "bands": pa.int16(), "dtype": pa.string(), "gsd": pa.float32(),
        "cloud_cover": pa.float32(), "country_code": pa.string(), "split": pa.string(),
    }  # fmt: skip
    values = {"bands": [3] * n, "dtype": ["uint8"] * n} | columns
    table = {"path": pa.array(paths), "location_id": pa.array(places, pa.string())}
    table |= {
        name: pa.array(values[name], kind) if name in values else pa.nulls(n, kind) for name, kind in kinds.items()
    }
    return Index(table=pa.table(table), root=root, content_hash="abc", source=None)
