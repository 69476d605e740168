"""What a finetuned classifier says of any images, as files: CSV for tables, GeoJSON for maps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from torch import nn

from geossl.config import LoaderConfig
from geossl.data.pack import BOX
from geossl.data.samples import choose_samples
from geossl.data.source import read_source
from geossl.device import resolve_device
from geossl.errors import UsageError
from geossl.files import naming_full_disk, replacing
from geossl.finetuning.classifier import NOTES
from geossl.finetuning.predict import classify_rows
from geossl.models.backbone import build_backbone
from geossl.tables import write_csv
from geossl.training import checkpoint
from geossl.training.loop import backends
from geossl.training.resume import saved_settings
from geossl.viz.classes import SHOWN, plot_classes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from geossl.config import TrainConfig
    from geossl.data.index import Index
    from geossl.models.backbone import Encoder
    from geossl.training.resume import Origin

TABLE, POINTS, PICTURE = "classes.csv", "classes.geojson", "classes.png"
"""Names of the files."""
ENCODER = f"{checkpoint.PREFIX}encoder_q."


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """A finetuned classifier, and how its images are to be prepared."""

    encoder: Encoder
    """In eval mode, on its device: float32 [B, bands, size, size] -> logits [B, C]."""
    config: TrainConfig
    """Settings of its run, with the device that it is on."""
    bands: int
    categories: list[str]
    """Of its C outputs."""


def load_classifier(origin: Origin, *, device: str = "auto") -> Classifier:
    """The classifier of a finetuning run's checkpoint. Raises UsageError for settings of another version of geossl."""
    target = resolve_device(device)
    config = saved_settings(origin).model_copy(update={"device": str(target)})
    own, model = origin.content["geossl"], config.model
    categories: list[str] = own[NOTES]["categories"]
    encoder = build_backbone(model.backbone, bands=own["bands"], seed=0, size=config.crop.size, stem=model.stem)
    encoder.fc = nn.Linear(encoder.num_features, len(categories))
    weights = origin.content["state_dict"]
    encoder.load_state_dict({name.removeprefix(ENCODER): value for name, value in weights.items()})
    encoder.to(target).eval()
    return Classifier(encoder=encoder, config=config, bands=own["bands"], categories=categories)


def classify(network: Classifier, index: Index) -> tuple[torch.Tensor, torch.Tensor, list[tuple[str, str]]]:
    """Classify the rows of an index as the run's test does: the box with context, resized, and the central square.

    Args:
        network: the classifier.
        index: of one row or more.

    Returns:
        The rows that could be read, int64 [N], ascending; their probabilities, float32 [N, C]; and the others: (path,
        reason).

    Raises:
        UsageError: there are no rows, or the images have other bands than the classifier reads.
        GeosslError: no image can be read, or an output is not finite.

    """
    config = network.config
    name = index.source or index.root
    if not len(index):
        raise UsageError(f"{name}: has no images")
    samples = choose_samples(index.table, config.loader.bands)
    if samples.bands != network.bands:
        raise UsageError(f"{name}: images of {samples.bands} bands; the classifier reads {network.bands}")
    loader = LoaderConfig(bands=config.loader.bands, max_image_mib=config.loader.max_image_mib)
    how: dict[str, Any] = {"index": index, "rows": index.rows(), "loader": loader, "title": "images"}
    with backends(torch.device(config.device)):
        found = classify_rows(network.encoder, config, **how, max_failures=1.0)
    return found.rows, found.x.softmax(1), found.failures


def predict(
    origin: Origin, source: Path, *, out: Path, least: float, draw: bool, device: str, console: Console
) -> list[Path]:
    """Write the likeliest category of each image, all images of a call into the same files.

    - classes.csv: path, category, probability, lat, lon, and the box where the index has boxes; in the index's order.
    - classes.geojson: points in longitude and latitude (RFC 7946) with path, category and probability, of the images
      that have coordinates; none where no image has.
    - classes.png, if `draw`: the first 24 images.

    Each is whole or not there, and classes.csv comes last.

    Args:
        origin: the run's checkpoint.
        source: an image, a folder of images, or an index of any rows.
        out: folder to write to; it must have none of the files.
        least: probability from which an image is written.
        draw: write the picture.
        device: auto, cpu, cuda or cuda:N.
        console: where it is said what is left out.

    Returns:
        The files, classes.csv first.

    Raises:
        UsageError: one of the files is there, the images are missing, or they have other bands.
        GeosslError: no image can be read, an output is not finite, or a file cannot be written.

    """
    for name in (TABLE, POINTS, PICTURE):
        if (out / name).exists():
            raise UsageError(f"{out / name}: exists already; remove it, or name another folder with --out")
    network = load_classifier(origin, device=device)
    index = read_source(source, console=console)
    rows, probabilities, failures = classify(network, index)
    for path, reason in failures:
        console.print(f"{path}: left out: {reason}", highlight=False, markup=False, soft_wrap=True)
    best, codes = probabilities.max(1)
    sure = best >= least
    if not sure.all():
        unsure = f"{int((~sure).sum()):,} of {len(sure):,} images are left out: their probability is below {least:g}"
        console.print(unsure, highlight=False, soft_wrap=True)
    kept = rows[sure].tolist()
    boxed = BOX if index.column(BOX[0]).null_count < len(index) else ()
    table = index.table.select(["path", "lat", "lon", *boxed]).take(pa.array(kept, pa.int64())).to_pylist()
    said = [
        {"path": row["path"], "category": network.categories[code], "probability": round(probability, 6)}
        for row, code, probability in zip(table, codes[sure].tolist(), best[sure].tolist(), strict=True)
    ]
    files = [out / TABLE]
    points = [
        {"type": "Feature", "properties": one, "geometry": {"type": "Point", "coordinates": [row["lon"], row["lat"]]}}
        for row, one in zip(table, said, strict=True)
        if row["lat"] is not None and row["lon"] is not None
    ]
    if points:
        files.append(out / POINTS)
        _write_points(files[-1], points)
    if draw and kept:
        files.append(out / PICTURE)
        captions = [f"{one['category']}\n{one['probability']:.3f}" for one in said[:SHOWN]]
        plot_classes(files[-1], index=index, rows=kept[:SHOWN], captions=captions, context=network.config.crop.context)
    columns = ("lat", "lon", *boxed)
    cells = ([*one.values(), *(row[name] for name in columns)] for row, one in zip(table, said, strict=True))
    with naming_full_disk(out / TABLE):
        write_csv(out / TABLE, ("path", "category", "probability", *columns), cells)
    return files


def _write_points(file: Path, points: Sequence[dict[str, Any]]) -> None:
    content = {"type": "FeatureCollection", "features": points}
    with naming_full_disk(file), replacing(file) as target:
        target.write(json.dumps(content, ensure_ascii=False).encode())
