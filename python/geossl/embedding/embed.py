"""`geossl embed`: the features of an index's images in one GeoParquet file, by work that can be interrupted."""

from __future__ import annotations

import json
import math
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geossl.config import LoaderConfig
from geossl.data.clusters import Clusters, default_path
from geossl.data.index import Index
from geossl.device import resolve_device
from geossl.embedding.encode import encode
from geossl.embedding.failures import index_path, read_failures, write_failures
from geossl.embedding.file import EmbeddingFile
from geossl.embedding.geoparquet import METADATA_KEY, geo_metadata, make_schema, write_file
from geossl.embedding.job import describe, differences
from geossl.embedding.order import spatial_order
from geossl.embedding.parts import Parts
from geossl.embedding.stac import write_item
from geossl.errors import GeosslError, UsageError
from geossl.evaluate.features import check_bands
from geossl.files import naming_full_disk, replacing
from geossl.models.weights import load_backbone
from geossl.progress import image_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from geossl.embedding.encode import Encoded
    from geossl.embedding.job import Dtype
    from geossl.embedding.parts import Part

MAX_FAILURES = 0.01
"""Share of the images that may be unreadable, as the loader's."""


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """What was embedded, by this call or an earlier one that was interrupted."""

    out: Path
    images: int
    """Images that were asked for."""
    earlier: int
    """Of them, those that earlier calls had done."""
    failures: list[tuple[str, str]]
    """(path, reason) of those that could not be read; they are in no row."""
    seconds: float
    """Seconds that this call took, from the first image to the finished file."""
    bytes: int
    """Size of the file."""
    least_cosine: float | None
    """Of int8: the least cosine between an embedding and what was kept of it."""
    first_row: int
    """Row of the index that the first row of the file is."""
    notes: list[str]
    """What a reader has to know: what was left out."""


def embed(
    run: Path,
    *,
    data: Path,
    out: Path,
    split: str | None = None,
    dtype: Dtype = "float32",
    clusters: Path | None = None,
    backbone: str | None = None,
    batch: int = 256,
    device: str = "auto",
    threads: int = 0,
    root: Path | None = None,
    pack: Path | None = None,
) -> EmbedReport:
    """Write the features of every image of an index to a GeoParquet 1.1 file, with a STAC item beside it.

    Rows are ordered along a Hilbert curve over longitude and latitude; those without coordinates come last, with a null
    geometry. Columns: row (int64, of the index), path, location_id, timestamp, lat, lon, category, split, box_x, box_y,
    box_w, box_h, cluster (int32, where there are clusters), geometry (WKB point), bbox, scale (float32, int8 alone)
    and embedding, FixedSizeList<float32>[D] or <int8>[D]: the feature as `geossl.evaluate.features.extract` gives it.

    The work is done in parts, which wait in the folder `<out>.parts`; the same call goes on with them after any
    interruption, and the file has the same bytes as without it. Images that cannot be read have no row; they are named
    in `<out>.failures.jsonl`.

    Args:
        run: folder of a training run, or a file that `load_backbone` reads.
        data: index of the images.
        out: Parquet file to write.
        split: embed this split alone.
        dtype: float32, or int8: symmetric, with a scale a vector (`geossl.embedding.vectors`).
        clusters: clusters of the index, for the column; by default those beside the index, if there are any.
        backbone: the model, for a file that does not name it.
        batch: images that the encoder reads at once.
        device: auto, cpu, cuda or cuda:N.
        threads: decoding threads; 0 is one a core, but for one core.
        root: folder that the index's paths start from, if the images have moved.
        pack: pack that is read in place of the images.

    Raises:
        UsageError: the run, the index, its images or the clusters are missing or do not go together, `out` is no name
            for the file, or `<out>.parts` is of another call.
        GeosslError: more than 1 % of the images cannot be read, a feature is not finite, or the disk is full.

    """
    out = Path(out)
    _check(out, data=data, dtype=dtype, batch=batch)
    target = resolve_device(device)
    encoder = load_backbone(run, backbone=backbone)
    index = Index.read(data, root=root, images=pack is None)
    rows = _chosen(index, split)
    check_bands(index, rows, encoder, bands=encoder.chosen_bands, run=run)
    labels, notes = _clusters(index, data, clusters)
    job = describe(
        encoder,
        index=index,
        rows=rows,
        split=split,
        clusters=labels,
        dtype=dtype,
        batch=batch,
        device=target,
        pack=pack,
    )
    parts = Parts(out.with_name(f"{out.name}.parts"), job=job)
    if (whole := _finished(out, job)) is not None:
        # Killed after the file was there: what comes after it is left.
        _finish(whole, parts, run=run, data=data)
        told = f"{out} is complete: made by the same command; to make it anew, delete it"
        return _report(whole, images=len(rows), earlier=len(rows), seconds=0.0, notes=[*notes, told])
    start = time.perf_counter()
    order = rows[spatial_order(*(index.table[name].to_numpy()[rows] for name in ("lat", "lon")))]
    earlier = min(parts.begin() * parts.part_rows, len(order))
    encoded = encode(
        encoder.module.to(target),
        index=index,
        rows=order[earlier:],
        **encoder.preparation,
        device=target,
        batch=batch,
        loader=LoaderConfig(root=root, pack=pack, bands=encoder.chosen_bands, threads=threads),
    )
    with closing(encoded):
        done = _write_parts(parts, encoded, index=index, total=len(order), earlier=earlier)
    write_failures(out, [failure for part in done for failure in part.failures], index=index)
    about = job | _about(out, done, index=index, run=run, data=data)
    whole = _assemble(out, parts, done, about, index=index, labels=labels)
    _finish(whole, parts, run=run, data=data)
    return _report(whole, images=len(rows), earlier=earlier, seconds=time.perf_counter() - start, notes=notes)


def _check(out: Path, *, data: Path, dtype: str, batch: int) -> None:
    if out.suffix != ".parquet":
        raise UsageError(f"-o {out}: the name must end in .parquet")
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"-o {out}: {'is a folder' if out.is_dir() else 'its folder does not exist'}")
    if out.exists() and Path(data).exists() and out.samefile(data):
        raise UsageError(f"-o {out}: is the index itself; give another name")
    if dtype not in {"float32", "int8"}:
        raise UsageError(f"--dtype {dtype}: must be float32 or int8")
    if batch < 1:
        raise UsageError(f"--batch {batch}: must be at least 1")


def _chosen(index: Index, split: str | None) -> NDArray[np.int64]:
    rows = index.rows(split=split)
    if not len(rows):
        known = sorted(set(index.table["split"].to_pylist()) - {None})
        what = (
            "no images" if split is None else f"no image of the split {split!r}; it has: {', '.join(known) or 'none'}"
        )
        raise UsageError(f"{index.source}: {what}")
    return rows


def _clusters(index: Index, data: Path, path: Path | None) -> tuple[NDArray[np.int64] | None, list[str]]:
    """The cluster of each row, int64, if there are clusters; and what to say of it."""
    beside = default_path(Path(data))
    if path is None and not beside.is_file():
        return None, []
    found = Clusters.read(path or beside)
    if path is None and found.index_hash != index.content_hash:
        return None, [
            f"{beside} is of another index than {data}: no column cluster; make it anew with geossl data cluster"
        ]
    return found.labels(index), []


def _finished(out: Path, job: Mapping[str, Any]) -> EmbeddingFile | None:
    """The file, if it is there and made by the same job."""
    try:
        file = EmbeddingFile(out)
    except UsageError:
        return None
    same = {name: file.about.get(name) for name in job}
    return None if differences(same, json.loads(json.dumps(job))) else file


def _write_parts(parts: Parts, encoded: Iterable[Encoded], *, index: Index, total: int, earlier: int) -> list[Part]:
    """Write the parts that are left, and tell what all have. Raises GeosslError when too many images are unreadable."""
    allowed = math.ceil(MAX_FAILURES * total)
    number = -(-earlier // parts.part_rows)  # the last part may be short
    done = [parts.about(i) for i in range(number)]
    bad = sum(len(part.failures) for part in done)
    waiting: list[Encoded] = []
    count = 0
    with image_progress() as progress:
        task = progress.add_task("embedding", total=total, completed=earlier)
        for one in encoded:
            waiting.append(one)
            count += len(one.rows) + len(one.failures)
            bad += len(one.failures)
            if bad > allowed:
                row, reason = one.failures[-1]
                raise GeosslError(
                    f"{bad:,} of {total:,} images could not be read, more than the {allowed:,} that may be left out; "
                    f"the last: {index_path(index, row)}: {reason}; mend them and delete {parts.folder}, or embed an "
                    "index without them (geossl data validate INDEX --fix OUT)"
                )
            progress.update(task, completed=earlier + count)
            if count % parts.part_rows == 0 or earlier + count == total:
                parts.write(number, waiting)
                done.append(parts.about(number))
                waiting, number = [], number + 1
    if not sum(len(part.rows) for part in done):
        row, reason = done[0].failures[0]
        raise GeosslError(f"none of the {total:,} images could be read: {index_path(index, row)}: {reason}")
    return done


def _about(out: Path, done: list[Part], *, index: Index, run: Path, data: Path) -> dict[str, Any]:
    """What the file says beyond the job: names, which decide nothing, and how it went."""
    folder = out.resolve().parent
    inside = index.root.is_relative_to(folder)
    return {
        "run": str(run),
        "data": str(data),
        "root": index.root.relative_to(folder).as_posix() if inside else str(index.root),
        "unreadable": sum(len(part.failures) for part in done),
        "least_cosine": min(found) if (found := [part.least_cosine for part in done if part.least_cosine]) else None,
    }


def _assemble(
    out: Path,
    parts: Parts,
    done: list[Part],
    about: dict[str, Any],
    *,
    index: Index,
    labels: NDArray[np.int64] | None,
) -> EmbeddingFile:
    """Put the file together from its parts, which stay."""
    kept = np.concatenate([part.rows for part in done])
    geo = geo_metadata(*(index.table[name].to_numpy()[kept] for name in ("lat", "lon")))
    schema = make_schema(
        dimensions=about["features"]["dimensions"],
        dtype=about["features"]["dtype"],
        clusters=labels is not None,
        metadata={b"geo": json.dumps(geo), METADATA_KEY: json.dumps(about)},
    )
    with naming_full_disk(out), replacing(out) as file:
        write_file(file, parts.tables(len(done)), index=index, clusters=labels, schema=schema)
    return EmbeddingFile(out)


def _finish(file: EmbeddingFile, parts: Parts, *, run: Path, data: Path) -> None:
    write_item(file, run=run, data=data)
    parts.remove()


def _report(file: EmbeddingFile, *, images: int, earlier: int, seconds: float, notes: list[str]) -> EmbedReport:
    return EmbedReport(
        out=file.path,
        images=images,
        earlier=earlier,
        failures=read_failures(file.path),
        seconds=seconds,
        bytes=file.path.stat().st_size,
        least_cosine=file.about["least_cosine"],
        first_row=file.take(np.zeros(1, np.int64), ["row"])["row"][0].as_py(),
        notes=notes,
    )
