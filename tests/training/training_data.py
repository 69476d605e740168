"""A small data set for the trainer's tests, and a loader that needs no image files."""

import numpy as np
import pyarrow as pa
import torch

from geossl.augment import augment
from geossl.data.index import Index
from geossl.data.loader import Batch
from geossl.data.stats import LoaderStats
from geossl.data.table import SCHEMA, content_hash

IMAGES = 48


def make_table(count=IMAGES, *, bands=3, dtype="uint8", **columns):
    """Two dates a place, places of six categories; a column given by name replaces its default."""
    values = {
        "path": [f"{i:03}.jpg" for i in range(count)],
        "location_id": [f"place {i // 2}" for i in range(count)],
        "lat": [float(i // 2) for i in range(count)],
        "lon": [float(i // 2 * 3) for i in range(count)],
        "category": [f"class {i // 2 % 6}" for i in range(count)],
        "width": [64] * count,
        "height": [64] * count,
        "bands": [bands] * count,
        "dtype": [dtype] * count,
    } | columns
    return pa.table({name: values.get(name, [None] * count) for name in SCHEMA.names}, schema=SCHEMA)


def make_index(folder, table=None):
    """Write the table as an index of the folder; images that are not there are made, empty."""
    table = make_table() if table is None else table
    for name in table["path"].to_pylist():
        (folder / name).touch()
    path = folder / "images.parquet"
    Index(table=table, root=folder, content_hash=content_hash(table)).write(path)
    return path


def use_loader(monkeypatch, loader):
    """Have the trainer make its loaders of this class."""
    for user in ("engine", "data"):
        monkeypatch.setattr(f"geossl.training.{user}.Loader", loader)


class FakeLoader:
    """Keeps the loader's contract with noise for images: batch k depends on (seed, epoch, k) alone."""

    bad_step = None  # batch of epoch 0 whose colours are not finite
    unreadable = ()  # what failures() reports
    left_out = 0  # images missing from every batch

    memory_bound = 0
    threads = 1

    def __init__(
        self,
        index,
        *,
        rows,
        batch,
        views,
        temporal,
        pairs=None,
        crop,
        color,
        normalize=None,
        seed,
        train,
        loader,
        pin=False,
        rank=0,
        world=1,
    ):  # the real one's signature
        self.rows, self.batch, self.views, self.size = torch.from_numpy(rows), batch, views, crop.size
        self.part = slice(rank * batch // world, (rank + 1) * batch // world)
        self.normalize, self.normalizes = normalize, normalize is not None
        self.seed, self.train, self.epoch, self.batches = seed, train, 0, 0
        self.bands = index.table["bands"][0].as_py()
        self.bits, self.nodata = {"uint8": 8, "uint16": 16}[index.table["dtype"][0].as_py()], None
        self.dtype = getattr(torch, index.table["dtype"][0].as_py())

    def __len__(self):
        return len(self.rows) // self.batch if self.train else -(-len(self.rows) // self.batch)

    def set_epoch(self, epoch):
        self.epoch, self.batches = epoch, 0

    def state_dict(self):
        return {"seed": self.seed, "epoch": self.epoch, "batches": self.batches}

    def load_state_dict(self, state):
        self.epoch, self.batches = state["epoch"], state["batches"]

    def failures(self):
        return list(self.unreadable)

    def stats(self):
        return LoaderStats(batches=self.batches, slots=4)

    def __iter__(self):
        if self.batches >= len(self):
            self.set_epoch(self.epoch + 1)
        while self.batches < len(self):
            self.batches += 1
            yield self.make(self.batches - 1)

    def make(self, k):
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.rows))
        rows = self.rows[torch.from_numpy(order if self.train else np.arange(len(self.rows)))]
        rows = rows[k * self.batch : (k + 1) * self.batch][: self.batch - self.left_out]
        rng = np.random.default_rng([self.seed, self.epoch, k])
        top = 256 if self.dtype == torch.uint8 else 65536
        shape = (self.views, len(rows), self.size, self.size, self.bands)
        images = torch.from_numpy(rng.integers(0, top, shape, dtype=str(self.dtype).removeprefix("torch.")))
        color = torch.tensor([-1, 1, 1, 1, 0, 0, 0.0]).repeat(self.views, len(rows), 1)
        if self.train:
            color[..., 0] = torch.from_numpy(rng.integers(-1, 24, color.shape[:2]))
            color[..., 1:4] = torch.from_numpy(rng.uniform(0.6, 1.4, (*color.shape[:2], 3)))
        if (self.epoch, k) == (0, self.bad_step):
            color[..., 0], color[..., 1] = 0, torch.nan
        images = images.permute(0, 1, 4, 2, 3)
        if self.normalize is not None:
            mean, std = map(torch.tensor, self.normalize)
            images = torch.stack([augment(v, c, mean=mean, std=std) for v, c in zip(images, color, strict=True)])
        gains = torch.ones(self.views, len(rows), self.bands)
        part = self.part
        return Batch(
            images=images[:, part],
            rows=rows.repeat(self.views, 1)[:, part],
            color=color[:, part],
            gains=gains[:, part],
        )
