"""`geossl predict`: what a trained network sees in other images."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import shapely
import torch
from rich.console import Console

from geossl import _core
from geossl.data.geotiff import EXTENSIONS
from geossl.data.listing import listed
from geossl.data.stored import Index
from geossl.data.summary import first_reasons
from geossl.data.table import content_hash
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

    from numpy.typing import NDArray

    from geossl.transfer.load import Transferred

PHOTOS = ["jpg", "jpeg", "png"]


def predict(
    run: Path,
    source: Path,
    *,
    out: Path,
    least: float = 0.05,
    draw: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> list[Path]:
    """Write what a network sees in images, in each image's CRS.

    A detector's boxes go to GeoJSON; a segmenter's classes to a GeoTIFF, and their outlines to GeoJSON.

    Each image gets a file of its path below `out`, whole or not at all; one that is there already is not made again, so
    that an interrupted call goes on. Images are read by window, whatever their size.

    Args:
        run: folder that `geossl transfer` has left.
        source: an image, a folder of images, or an index of whole images.
        out: folder to write to.
        least: score from which an object is written.
        draw: write a picture of each image, too.
        device: auto, cpu, cuda or cuda:N.
        console: where it is said what cannot be read; by default standard output.

    Returns:
        The files, in the order of the images.

    Raises:
        UsageError: the run or the images are missing or cannot be read, the images have other bands, or `out` is their
            own folder.
        OutOfSpaceError: the disk is full.

    """
    console = console or Console()
    network = load_transferred(run, device=device)
    index = _images(source, console=console)
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


def _images(source: Path, *, console: Console) -> Index:
    """The images of an index, a folder or a file."""
    if source.suffix.lower() == ".parquet":
        return Index.read(source)
    if source.is_dir():
        root, (names, rejected) = source, _core.index_walk(source, [*EXTENSIONS, *PHOTOS], threads=0)
    elif source.is_file():
        root, names, rejected = source.parent, [source.name], []
    else:
        raise UsageError(f"{source}: no such file or folder")
    if not names:
        raise UsageError(f"{source}: no images found; looked for {', '.join([*EXTENSIONS, *PHOTOS])}")
    found = listed(source, {"path": pa.array(names, pa.string())}, root=root.resolve(), threads=0)
    rejected = sorted(rejected + found.rejected)
    if not len(found.table):
        raise UsageError(f"{source}: none of its images can be read: {first_reasons(rejected)}")
    for path, reason in rejected:
        console.print(f"{path}: left out: {reason}", highlight=False, markup=False, soft_wrap=True)
    return Index(found.table, root.resolve(), content_hash(found.table))
