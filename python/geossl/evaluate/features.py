"""Features of images under a frozen encoder, read once and kept in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from geossl.augment import normalize
from geossl.config import CropConfig, LoaderConfig
from geossl.data.loader import Loader
from geossl.data.samples import choose_samples
from geossl.errors import GeosslError, UsageError
from geossl.progress import image_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from geossl.data.index import Index
    from geossl.data.samples import Samples
    from geossl.models.weights import LoadedBackbone


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """What the encoder makes of N images; all on the CPU."""

    x: torch.Tensor
    """Features as the encoder gives them, float32 [N, D]."""
    labels: torch.Tensor
    """Code of the image's category (`Index.labels`), -1 without one, int64 [N]."""
    places: torch.Tensor
    """Code of the image's place (`Index.places`), int32 [N]."""
    rows: torch.Tensor
    """The image's row in the index, int64 [N]."""
    failures: list[tuple[str, str]]
    """Unreadable images that were left out or replaced: (path, reason)."""


def check_bands(
    index: Index,
    rows: NDArray[np.int64],
    encoder: LoadedBackbone,
    *,
    bands: list[str] | None,
    run: Path,
    option: str | None = None,
) -> Samples:
    """What the encoder gets of the images of `rows`. Raises UsageError unless it is as many bands as it reads.

    `option` is what chooses bands, where something does.
    """
    samples = choose_samples(index.table.take(rows), bands)
    if samples.bands != encoder.bands:
        name = index.source or "the index"
        hint = f"; choose them with {option}" if option is not None and samples.bands > encoder.bands else ""
        raise UsageError(f"{name}: images of {samples.bands} bands; the encoder of {run} reads {encoder.bands}{hint}")
    return samples


def extract(
    backbone: Callable[[torch.Tensor], torch.Tensor],
    *,
    index: Index,
    rows: NDArray[np.int64],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    context: bool = True,
    device: torch.device,
    batch: int = 256,
    loader: LoaderConfig,
    cut: Literal["center", "random"] = "center",
    seed: int = 0,
    epoch: int = 0,
    keep_nodata: bool = False,
    max_failures: float = 0.01,
    title: str = "features",
    quiet: bool = False,
) -> Features:
    """Run the encoder over the images of `rows`, in order.

    An image is its bounding box with context (the whole image where it has no box), resized to `size` on the
    short side, a square cut out, scaled and normalised. The square is the central one, as the frozen protocol tests
    (Resize(224), CenterCrop(224)), or a random one, as it trains (Resize(224), RandomCrop(224)); of a square box
    both are all of it.

    Args:
        backbone: encoder in eval mode on `device`, float32 [B, C, size, size] -> [B, D].
        index: the index that `rows` points into.
        rows: row numbers, int64 [N], N >= 1.
        size: side of the square that the encoder sees, pixels.
        mean: per-band mean of values scaled to 0..1, one a band.
        std: per-band standard deviation of values scaled to 0..1, one a band.
        context: add fMoW's context around a bounding box.
        device: where the encoder runs.
        batch: images a step.
        loader: threads, root folder and what an unreadable image does.
        cut: where the square lies.
        seed: seed of random squares.
        epoch: which draw of them.
        keep_nodata: give the encoder NaN where an image has no data or lacks the band, in place of 0, the mean.
        max_failures: share of the images that may be unreadable, where `loader.on_error` lets any be.
        title: what the progress bar says; there is one on a terminal only.
        quiet: show none there either.

    Raises:
        GeosslError: an image is unreadable (by `loader.on_error`), none is left, or a feature is not finite.

    """
    seen_as: dict[str, Any] = {"size": size, "context": context, "cut": cut, "seed": seed, "max_failures": max_failures}
    source = frozen_loader(index, rows=rows, batch=batch, device=device, loader=loader, **seen_as)
    source.set_epoch(epoch)
    x: torch.Tensor | None = None
    seen: list[torch.Tensor] = []
    done = 0
    with image_progress(quiet=quiet) as progress:
        task = progress.add_task(title, total=len(rows))
        encoded = run_encoder(backbone, source, mean=mean, std=std, device=device, keep_nodata=keep_nodata)
        for found, features in encoded:
            if not len(features):
                continue
            if x is None:
                # One array of the final size: a list and its concatenation would hold everything twice.
                x = torch.empty(len(rows), features.shape[1])
            x[done : done + len(features)] = features
            seen.append(found)
            done += len(features)
            progress.update(task, completed=done)
    if x is None:
        raise GeosslError(f"{title}: none of the {len(rows):,} images could be read{_first(source.failures())}")
    x = x[:done].clone() if done < len(rows) else x
    if not x.isfinite().all():
        raise GeosslError(f"{title}: the encoder gives values that are not finite: its training has diverged")
    row = torch.cat(seen)
    return Features(
        x=x,
        labels=torch.from_numpy(index.labels)[row],
        places=torch.from_numpy(index.places)[row],
        rows=row,
        failures=source.failures(),
    )


def frozen_loader(
    index: Index,
    *,
    rows: NDArray[np.int64],
    size: int,
    context: bool,
    batch: int,
    device: torch.device,
    loader: LoaderConfig,
    **options: Any,
) -> Loader:
    """The loader of the images of `rows`, in order, as a frozen encoder sees them.

    Arguments as for `extract`; `options` are others of `Loader`, such as cut and seed.
    """
    return Loader(
        index,
        rows=rows,
        batch=batch,
        views=1,
        temporal=False,
        crop=CropConfig(size=size, context=context),
        color=None,
        train=False,
        loader=loader,
        pin=device.type == "cuda",
        **{"seed": 0, **options},
    )


def run_encoder(
    backbone: Callable[[torch.Tensor], torch.Tensor],
    source: Loader,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    keep_nodata: bool = False,
) -> Generator[tuple[torch.Tensor, torch.Tensor]]:
    """Run an encoder over the batches of a loader.

    Yields the rows of each batch that could be read, int64 [n], and their features, float32 [n, D], on the CPU; [0, 0]
    where none could: not every encoder takes a batch without images. Arguments as for `extract`.
    """
    means = torch.tensor(mean, dtype=torch.float32, device=device)
    deviations = torch.tensor(std, dtype=torch.float32, device=device)
    for read in source:
        images = read.images[0].to(device, non_blocking=True)
        if not len(images):
            yield read.rows[0], torch.empty(0, 0)
            continue
        gains = read.gains[0]
        with torch.no_grad():
            normalized = normalize(images, mean=means, std=deviations, gains=gains, nodata=source.nodata)
            if keep_nodata:
                normalized.masked_fill_(_lacking(images, gains, source.nodata), math.nan)
            features = backbone(normalized).float().cpu()
        yield read.rows[0], features


def _lacking(images: torch.Tensor, gains: torch.Tensor, nodata: float | None) -> torch.Tensor:
    """Where samples [B, C, H, W] have no data, bool."""
    band = (gains == 0).to(images.device)[:, :, None, None]
    if images.is_floating_point():
        return images.isnan() | band
    return (images == nodata) | band if nodata is not None else band.expand_as(images)


def _first(failures: list[tuple[str, str]]) -> str:
    return f": {failures[0][0]}: {failures[0][1]}" if failures else ""
