"""What a trained detector or segmenter sees in other images, as files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import torch

from geossl.data.source import read_source
from geossl.errors import UsageError
from geossl.training.loop import backends
from geossl.transfer.detections import detect
from geossl.transfer.load import load_transferred
from geossl.transfer.seen import write_classes, write_geojson
from geossl.transfer.segmentations import segment
from geossl.viz.detections import plot_detections
from geossl.viz.segmentations import plot_segmentation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from geossl.data.index import Index
    from geossl.training.resume import Origin
    from geossl.transfer.load import Transferred


def predict(
    origin: Origin, source: Path, *, out: Path, least: float, draw: bool, device: str, console: Console
) -> list[Path]:
    """Write what a network sees in images, in each image's CRS.

    A detector's boxes go to GeoJSON; a segmenter's classes to a GeoTIFF, and their outlines to GeoJSON.

    Each image gets a file of its path below `out`, whole or not at all; one that is there already is not made again, so
    that an interrupted call goes on. Images are read by window, whatever their size.

    Args:
        origin: the checkpoint of a run of `geossl transfer`.
        source: an image, a folder of images, or an index of whole images.
        out: folder to write to.
        least: score from which an object is written.
        draw: write a picture of each image, too.
        device: auto, cpu, cuda or cuda:N.
        console: where it is said what cannot be read.

    Returns:
        The files, in the order of the images.

    Raises:
        UsageError: the images are missing or cannot be read, the images have other bands, or `out` is their
            own folder.
        OutOfSpaceError: the disk is full.

    """
    network = load_transferred(origin, device=device)
    index = read_source(source, console=console)
    paths = [PurePosixPath(path) for path in index.column("path").to_pylist()]
    targets = [out / path.relative_to(path.anchor).with_suffix(".geojson") for path in paths]
    _check_targets(paths, targets, out=out, index=index)
    missing = [row for row, target in enumerate(targets) if not target.exists()]
    if len(missing) < len(paths):
        there = f"{out}: {len(paths) - len(missing):,} of {len(paths):,} images are there already"
        console.print(there, highlight=False, soft_wrap=True)
    if not missing:
        return targets
    failures: list[tuple[str, str]] = []
    rows = np.array(missing, np.int64)
    write = _write_boxes if network.task == "detect" else _write_classes
    with backends(torch.device(network.config.device)):
        write(network, index, rows, targets, least=least, draw=draw, failures=failures)
    for path, reason in failures:
        console.print(f"{path}: a window of it cannot be read: {reason}", highlight=False, markup=False, soft_wrap=True)
    return targets


def _check_targets(paths: Sequence[PurePosixPath], targets: Sequence[Path], *, out: Path, index: Index) -> None:
    """Raise UsageError where a file would take the place of an image, or of another image's file."""
    if out.resolve() == index.root.resolve():
        raise UsageError(f"--out {out}: has the images themselves, which would be replaced; name another folder")
    first: dict[Path, PurePosixPath] = {}
    for path, target in zip(paths, targets, strict=True):
        if (other := first.setdefault(target, path)) is not path:
            raise UsageError(f"{path} and {other} would both be written to {target}; give them one after the other")


def _write_boxes(
    network: Transferred,
    index: Index,
    rows: NDArray[np.int64],
    targets: Sequence[Path],
    *,
    least: float,
    draw: bool,
    failures: list[tuple[str, str]],
) -> None:
    how: dict[str, Any] = {"index": index, "rows": rows, "overlap": network.overlap, "failures": failures}
    names = network.categories
    for one in detect(network.model, network.config, **how):
        kept = one.scores >= least
        seen = zip(one.categories[kept].tolist(), one.scores[kept].tolist(), strict=True)
        said = [{"category": names[code], "score": round(score, 4)} for code, score in seen]
        if draw:
            plot_detections(targets[one.row].with_suffix(".png"), one, index=index, categories=names)
        boxes = shapely.box(*one.boxes[kept].astype(np.float64).T)
        write_geojson(targets[one.row], boxes, index=index, row=one.row, properties=said)


def _write_classes(
    network: Transferred,
    index: Index,
    rows: NDArray[np.int64],
    targets: Sequence[Path],
    *,
    least: float,
    draw: bool,
    failures: list[tuple[str, str]],
) -> None:
    how: dict[str, Any] = {"index": index, "rows": rows, "overlap": network.overlap, "failures": failures}
    names = network.categories
    for one in segment(network.model, network.config, **how):
        polygons, said = [], []
        for code, name in enumerate(names):
            seen = one.footprints(code)
            sure = seen.scores >= least
            polygons += list(seen.polygons[sure])
            said += [{"category": name, "score": round(score, 4)} for score in seen.scores[sure].tolist()]
        target = targets[one.row]
        if draw:
            plot_segmentation(target.with_suffix(".png"), one, index=index, categories=names)
        write_classes(target.with_suffix(".tif"), one.classes, index=index, row=one.row, categories=names)
        write_geojson(target, np.array(polygons, object), index=index, row=one.row, properties=said)
