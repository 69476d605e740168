"""What decides the bytes of an embedding file: by it, interrupted work is told from other work."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import torch

from geossl import __version__
from geossl.data.pack import Pack
from geossl.data.samples import choose_samples
from geossl.embedding.geoparquet import FORMAT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from geossl.data.index import Index
    from geossl.models.weights import LoadedBackbone

Dtype = Literal["float32", "int8"]


def describe(
    encoder: LoadedBackbone,
    *,
    index: Index,
    rows: NDArray[np.int64],
    split: str | None,
    clusters: NDArray[np.int64] | None,
    dtype: Dtype,
    batch: int,
    device: torch.device,
    pack: Path | None,
) -> dict[str, Any]:
    """All that the embeddings depend on, as JSON: the model, the images, and how they are kept.

    Args:
        encoder: the encoder.
        index: the images.
        rows: those of them that are embedded, int64 [N], N >= 1.
        split: the split that they are, if one was asked for.
        clusters: cluster of each row of the index, int64 [rows of the index]; None without clusters.
        dtype: how components are kept.
        batch: images a step: what a convolution rounds can depend on it.
        device: where the encoder runs: likewise.
        pack: pack that is read in place of the images.

    """
    form = None if pack is None else Pack.read(pack).form
    names = choose_samples(index.table.take(rows), encoder.chosen_bands).names
    return {
        "format": FORMAT,
        "geossl_version": __version__,
        "model": {
            "architecture": encoder.name,
            "arm": encoder.settings.get("arm"),
            "weights_sha256": weights_hash(encoder.module),
            "bands": encoder.bands,
            "band_names": None if names is None else list(names),
            "mean": list(encoder.mean),
            "std": list(encoder.std),
            "size": encoder.size,
            "context": encoder.preparation["context"],
        },
        "images": {
            "index_hash": index.content_hash,
            "split": split,
            "boxes": index.boxes,
            "clusters_sha256": None if clusters is None else hashlib.sha256(clusters.tobytes()).hexdigest(),
            # A lossless pack gives the files' very pixels.
            "pack": None if form is None or form.short_side is None else asdict(form),
        },
        "features": {"dimensions": encoder.num_features, "dtype": dtype, "batch": batch, "device": device.type},
    }


def weights_hash(module: torch.nn.Module) -> str:
    """SHA-256, in hex, of the names, types, shapes and values of a state_dict; not of the file that it came from."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of what differs between two descriptions, those of a part after a dot."""
    found = []
    for name in dict.fromkeys([*one, *other]):
        a, b = one.get(name), other.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [f"{name}.{inner}" for inner in differences(a, b)]
        elif a != b:
            found.append(name)
    return found
