"""`geossl neuco`: embeddings in the form that NeuCo-Bench takes.

Source: Vinge et al., "NeuCo-Bench: A Novel Benchmark Framework for Neural Embeddings in Earth Observation" (CVPR
Workshops 2026, arXiv 2510.17914), and embed2scale/NeuCo-Bench: docs/embedding_generation.md has the format,
benchmark/data/embeddings.py (`load_submission`) reads it. A CSV file: a column `id`, which the benchmark's labels have
too, and a column for each dimension, 0, 1, 2, ...
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import torch

from geossl.config import LoaderConfig
from geossl.data.index import Index
from geossl.device import resolve_device
from geossl.errors import UsageError
from geossl.evaluate.features import check_bands, extract
from geossl.files import naming_full_disk, replacing
from geossl.models.weights import load_backbone

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class NeucoReport:
    """What was written."""

    embeddings: int
    """Rows of the file."""
    images: int
    """Images that they are the means of."""
    features: int
    """Width of the encoder's feature."""
    dimensions: int
    """Width of an embedding."""
    kept: float
    """Share of the features' variance that the embeddings keep, 0 to 1; 1 where they are the features."""

    def lines(self) -> list[str]:
        """It in words."""
        views = f", the means of {self.images:,} images" if self.images > self.embeddings else ""
        out = [f"{self.embeddings:,} embeddings of {self.dimensions:,} dimensions{views}"]
        if self.dimensions < self.features:
            out.append(f"principal components of {self.features:,} features, with {self.kept:.1%} of their variance")
        return out


def write_neuco(
    run: Path,
    *,
    data: Path,
    out: Path,
    dim: int = 1024,
    split: str | None = None,
    backbone: str | None = None,
    batch: int = 256,
    device: str = "auto",
    threads: int = 0,
    root: Path | None = None,
    pack: Path | None = None,
) -> NeucoReport:
    """Write an embedding of each place of an index as a CSV file for NeuCo-Bench.

    An embedding is the mean of the features of a place's images: the benchmark has one for all dates of a place. Its
    id is the place's `location_id`; an image without one is a place by itself, whose id is the name of its file without
    the suffix. Features that are wider than `dim` become that many principal components of all the rows (centred, not
    scaled; no label is looked at).

    Args:
        run: folder of a run, or a file that `load_backbone` reads.
        data: index of the images.
        out: CSV file to write.
        dim: most dimensions of an embedding; the benchmark's challenge had 1,024.
        split: split of the index that is embedded; by default all.
        backbone: the model, for a file that does not name it.
        batch: images that the encoder reads at once.
        device: auto, cpu, cuda or cuda:N.
        threads: decoding threads; 0 is one a core, but for one core.
        root: folder that the index's paths start from, if the images have moved.
        pack: pack that is read in place of the images.

    Raises:
        UsageError: the run, the index or its images are missing, the images have other bands than the encoder reads,
            the split is empty, two places would have the same id, or an option's value is impossible.
        GeosslError: an image cannot be read: the benchmark would leave its place out without a word.

    """
    for name, value in (("--dim", dim), ("--batch", batch)):
        if value < 1:
            raise UsageError(f"{name} {value}: must be at least 1")
    target = resolve_device(device)
    encoder = load_backbone(run, backbone=backbone)
    index = Index.read(data, root=root, images=pack is None)
    rows = index.rows(split=split)
    if not len(rows):
        raise UsageError(f"{data}: no images{'' if split is None else f' of the split {split!r}'}")
    bands = encoder.chosen_bands
    check_bands(index, rows, encoder, bands=bands, run=run)
    ids = _ids(index, rows)
    found = extract(
        encoder.module.to(target),
        index=index,
        rows=rows,
        **encoder.preparation,
        device=target,
        batch=batch,
        loader=LoaderConfig(root=root, pack=pack, bands=bands, threads=threads, on_error="raise"),
        title="embeddings",
    )
    codes, of = torch.unique(found.places, return_inverse=True)
    means = torch.zeros(len(codes), found.x.shape[1], dtype=torch.float64).index_add_(0, of, found.x.double())
    means /= torch.bincount(of)[:, None]
    embeddings, kept = _reduced(means.numpy(), dim)
    columns = {"id": pa.array([ids[code] for code in codes.tolist()], pa.string())}
    columns |= {str(k): pa.array(values.astype(np.float32)) for k, values in enumerate(embeddings.T)}
    with naming_full_disk(out), replacing(out) as file:
        pacsv.write_csv(pa.table(columns), file)
    return NeucoReport(
        embeddings=len(codes),
        images=len(found.rows),
        features=found.x.shape[1],
        dimensions=embeddings.shape[1],
        kept=kept,
    )


def _ids(index: Index, rows: NDArray[np.int64]) -> dict[int, str]:
    """The id of each place of the rows, by its code."""
    places, names = index.column("location_id").take(rows), index.column("path").take(rows)
    out: dict[int, str] = {}
    for code, place, path in zip(index.places[rows].tolist(), places.to_pylist(), names.to_pylist(), strict=True):
        out.setdefault(code, place if place is not None else PurePosixPath(path).stem)
    if twice := [name for name, count in Counter(out.values()).items() if count > 1]:
        raise UsageError(f"{index.source}: two places would have the id {twice[0]!r}; give them a location_id")
    return out


def _reduced(features: NDArray[np.float64], dim: int) -> tuple[NDArray[np.float64], float]:
    """At most `dim` dimensions, and the share of the variance in them."""
    width = features.shape[1]
    if width <= dim:
        return features, 1.0
    if len(features) < 2:
        raise UsageError(f"--dim {dim}: one place has no principal components; its feature is {width:,} wide")
    from sklearn.decomposition import PCA

    # Fewer rows have fewer components; the benchmark fills up with zeros.
    pca = PCA(n_components=min(dim, len(features)), svd_solver="full")
    with np.errstate(invalid="ignore"):  # features that are all the same have no variance to share
        embeddings: NDArray[np.float64] = pca.fit_transform(features)
    return embeddings, float(np.nan_to_num(pca.explained_variance_ratio_.sum(), nan=1.0))
