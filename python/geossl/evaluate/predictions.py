"""Predictions of test images, in memory and in a Parquet file: what every figure is computed from."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from geossl.errors import GeosslError, UsageError
from geossl.files import naming_full_disk, replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from geossl.data.index import Index

METADATA_KEY = b"geossl"
GROUP_VALUES = 2**24
"""Probabilities in a row group: 64 MiB."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What made the predictions."""

    encoder: str
    """The run's arm, or the baseline's name."""
    method: str
    """linear, knn, logistic or finetune."""
    labels: float = 100.0
    """Per cent of the training places whose labels it had."""
    train_images: int | None = None
    """Labelled images that it learnt from."""
    train_places: int | None = None
    lr: float | None = None
    """Learning rate, given or chosen."""
    c: float | None = None
    """Inverse strength of logistic regression's penalty, chosen."""
    validation_places: int | None = None
    """Training places that `lr` or `c` was chosen on; 0 where most classes have a single one: then it is a default."""
    converged: bool | None = None
    """Whether logistic regression came to its end."""

    @property
    def called(self) -> str:
        """For a reader."""
        share = "" if self.labels == 100 else f", {self.labels:g} % of the labels"
        return f"{self.encoder}, {self.method}{share}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Of N test images, of C classes; all on the CPU."""

    fit: Fit
    probabilities: torch.Tensor
    """float32 [N, C], rows sum to 1."""
    labels: torch.Tensor
    """True classes, int64 [N]."""
    places: torch.Tensor
    """Code of each image's place, integer [N]; equal for the images of a place."""
    rows: torch.Tensor
    """The image's row in the index, int64 [N]."""
    by_mean_feature: torch.Tensor | None = None
    """Probabilities of the P places, by ascending code, from the mean of their images' features, float32 [P, C]. None
    where there are no such features; not in the file."""


@contextmanager
def writing_predictions(path: Path, *, index: Index, classes: Sequence[str]) -> Iterator[Callable[[Predictions], None]]:
    """Open the file that takes the place of `path` once the block has ended well; the block writes by calling.

    A row is a test image by one encoder, method and share of labels: row (of the index), path, location_id, category,
    encoder, method, labels (per cent), predicted (the likeliest class), probabilities (FixedSizeList<float32>[C], in
    the order of the classes). The classes' names and the index's content hash are in the file's metadata, as JSON under
    the key geossl.

    Raises GeosslError if it cannot be written.
    """
    about = {"classes": list(classes), "index_hash": index.content_hash}
    schema = _schema(len(classes)).with_metadata({METADATA_KEY: json.dumps(about)})
    names = pa.array(classes, pa.string())

    def write(made: Predictions) -> None:
        size = max(1, GROUP_VALUES // len(classes))
        for start in range(0, len(made.rows), size):
            part = slice(start, start + size)
            with naming_full_disk(path):
                writer.write_table(_table(made, part, index=index, names=names, schema=schema))

    try:
        with replacing(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            yield write
    except OSError as e:
        raise GeosslError(f"{path}: cannot be written: {e.strerror or e}") from e


def read_predictions(
    path: Path, *, encoder: str | None = None, method: str | None = None, labels: float | None = None
) -> tuple[list[Predictions], list[str]]:
    """The predictions of a file, in the order in which they were written, and the names of the classes.

    Args:
        path: what `writing_predictions` wrote.
        encoder: of this encoder alone.
        method: by this method alone.
        labels: with this share of the labels alone, per cent.

    Raises:
        UsageError: it is missing, not such a file, or has no such predictions.

    """
    asked = {"encoder": encoder, "method": method, "labels": labels}
    chosen = [(name, "==", value) for name, value in asked.items() if value is not None]
    try:
        about: dict[str, Any] = json.loads(pq.read_schema(path).metadata[METADATA_KEY])
        table = pq.read_table(path, filters=chosen or None)
        classes = about["classes"]
        if table.column_names != _schema(len(classes)).names:
            raise UsageError(f"{path}: not a file of predictions")
    except FileNotFoundError as e:
        raise UsageError(f"{path}: no such file; geossl probe makes it") from e
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as e:
        raise UsageError(f"{path}: not a file of predictions") from e
    if not len(table):
        raise UsageError(f"{path}: no predictions of {', '.join(f'{name} {value}' for name, _, value in chosen)}")
    of = pc.binary_join_element_wise(table["encoder"], table["method"], table["labels"].cast(pa.string()), "|")
    codes = of.combine_chunks().dictionary_encode().indices.to_numpy()
    cuts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    return [_predictions(table.slice(start, stop - start), classes) for start, stop in pairwise(cuts)], classes


def _schema(classes: int) -> pa.Schema:
    return pa.schema(
        [
            ("row", pa.int64()),
            ("path", pa.string()),
            ("location_id", pa.string()),
            ("category", pa.string()),
            ("encoder", pa.string()),
            ("method", pa.string()),
            ("labels", pa.float64()),
            ("predicted", pa.string()),
            ("probabilities", pa.list_(pa.float32(), classes)),
        ]
    )


def _table(made: Predictions, part: slice, *, index: Index, names: pa.Array, schema: pa.Schema) -> pa.Table:
    rows = made.rows[part].numpy()
    probabilities = made.probabilities[part].float().numpy()
    own = {name: index.column(name).take(rows).combine_chunks() for name in ("path", "location_id")}
    count = len(rows)
    columns = {
        "row": rows,
        **own,
        "category": names.take(made.labels[part].numpy()),
        "encoder": pa.array([made.fit.encoder] * count),
        "method": pa.array([made.fit.method] * count),
        "labels": np.full(count, made.fit.labels),
        "predicted": names.take(probabilities.argmax(axis=1)),
        "probabilities": pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(probabilities).ravel(), len(names)),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _predictions(table: pa.Table, classes: list[str]) -> Predictions:
    """Those of one encoder, method and share of the labels."""
    first = table.slice(0, 1).to_pylist()[0]
    flat = table["probabilities"].combine_chunks().flatten().to_numpy()
    # As in the index, an image without location_id is a place of its own.
    place = pc.coalesce(pc.binary_join_element_wise("", table["location_id"], "\0"), table["path"])
    return Predictions(
        fit=Fit(encoder=first["encoder"], method=first["method"], labels=first["labels"]),
        probabilities=torch.from_numpy(flat.reshape(-1, len(classes)).copy()),
        labels=torch.from_numpy(pc.index_in(table["category"], pa.array(classes)).to_numpy().astype(np.int64)),
        places=torch.from_numpy(place.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)),
        rows=torch.from_numpy(table["row"].to_numpy().copy()),
    )
