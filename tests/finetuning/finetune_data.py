"""Small images whose colour tells the class, their index, and a checkpoint to begin with."""

import io

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from geossl.data.index import Index
from geossl.data.table import SCHEMA, content_hash
from geossl.errors import GeosslError
from geossl.finetuning.config import make_config
from geossl.finetuning.finetune import finetune
from geossl.models.backbone import build_backbone
from geossl.models.weights import CHECKPOINT

COLOURS = {"forest": (20, 90, 30), "ice": (230, 235, 240), "sand": (200, 170, 110)}
SIZE = 32
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]
SMALL = {"device": "cpu", "threads": 1, "epochs": 2, "batch": 8}


def make_data(folder, *, places=16, views=2, bands=3, split=True, category=True, shape=(SIZE, SIZE)):
    """A quarter of the places test."""
    rng = np.random.default_rng(0)
    names = sorted(COLOURS)
    folder.mkdir(exist_ok=True)
    rows = []
    for place in range(places):
        for view in range(views):
            name = names[place % 3]
            pixels = np.clip(rng.normal(COLOURS[name], 12, (*shape, 3)), 0, 255).astype("u1")
            path = f"{place}_{view}.png"
            Image.fromarray(pixels).save(folder / path)
            rows.append(
                {
                    "path": path,
                    "location_id": f"place {place}",
                    "category": name if category else None,
                    "split": ("train" if place < places * 3 // 4 else "val") if split else None,
                    "width": shape[1],
                    "height": shape[0],
                    "bands": bands,
                    "dtype": "uint8",
                }
            )
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    Index(table=table, root=folder, content_hash=content_hash(table), source=None).write(folder / "planet.parquet")
    return folder / "planet.parquet"


def make_run(folder, backbone="timm/test_resnet", *, seed=7):
    """The folder of a run of the arm tp, whose encoder's weights and statistics are noise; none is 0, as some begin."""
    module = build_backbone(backbone, bands=3, seed=seed, size=SIZE)
    draw = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5, generator=draw)
            layer.running_mean.normal_(0, 0.1, generator=draw)
            layer.running_var.uniform_(0.5, 1.5, generator=draw)
    state = {f"module.encoder_q.{name}": value for name, value in module.state_dict().items()}
    own = {"config": {"arm": "tp", "crop": {"size": SIZE, "context": True}}, "mean": MEAN, "std": STD}
    (folder / CHECKPOINT).parent.mkdir(parents=True)
    torch.save({"arch": backbone, "state_dict": state, "geossl": own}, folder / CHECKPOINT)
    return folder


def run(begin, data, *, resume=None, **settings):
    """The result of a finetuning run, and what it printed."""
    console = Console(file=io.StringIO(), width=300)
    try:
        config = make_config(**SMALL | {"run": begin, "data": data} | settings)
        return finetune(config, resume=resume, console=console), console.file.getvalue()
    except GeosslError as e:
        e.add_note(console.file.getvalue())
        raise


def load(out):
    return torch.load(out / CHECKPOINT, weights_only=True)
