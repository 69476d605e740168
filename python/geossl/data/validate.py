"""Whether the images of an index can be read and are what it says, each decoded whole."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geossl import _core
from geossl.data.headers import foreign_header
from geossl.data.samples import foreign_rows
from geossl.data.stats import plain_reason
from geossl.data.table import image_boxes
from geossl.errors import GeosslError, UsageError
from geossl.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from geossl.data.index import Index

EXAMPLES = 2
"""Files named for every reason."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """What was found. `lines` prints it."""

    images: int
    """Image files that were looked at."""
    broken: tuple[tuple[str, str], ...]
    """(path, reason) of those that cannot be used, and of boxes outside of their image, in the index's order."""
    good: np.ndarray
    """bool [N]: the rows of the index that can be used."""

    def lines(self) -> list[str]:
        """The count, and below it the reasons, the most frequent first, with examples."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for path, reason in self.broken:
            groups.setdefault(plain_reason(reason), []).append((path, reason))
        left = f"{(~self.good).sum():,} of {len(self.good):,} rows" if self.broken else "none"
        out = [f"{self.images:,} images decoded; broken: {left}"]
        for plain, group in sorted(groups.items(), key=lambda item: -len(item[1])):
            what = plain if len({reason for _, reason in group}) > 1 else group[0][1]
            out.append(f"  {len(group):,} x {what}, e.g. {', '.join(path for path, _ in group[:EXAMPLES])}")
        return out

    def write_list(self, path: Path) -> None:
        """Write what is broken to a CSV file with the columns path and reason, atomically."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([("path", "reason"), *self.broken])
        try:
            with replacing(path) as file:
                file.write(text.getvalue().encode())
        except OSError as e:
            raise UsageError(f"{path}: cannot be written: {e.strerror or e}") from e


def validate_index(
    index: Index,
    *,
    threads: int = 0,
    max_image_mib: int = 1024,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> Validation:
    """Decode every image of an index, and compare its size, bands and type with what the index says.

    An image is decoded as the loader decodes it, with its limits and its words for what is wrong. Where only boxes of
    an image are rows, such as tiles of a scene, the whole of it may be larger than `max_image_mib`.

    Args:
        index: The images.
        threads: 0 is one for every core. The result is the same for any number.
        max_image_mib: Most memory that decoding an image may take, MiB, and the largest file.
        progress: Called with the images done and their number, some times a second.

    Raises:
        UsageError: the index has no images, or none of them can be read.

    """
    if not len(index):
        raise UsageError("the index has no images")
    encoded = index.table["path"].combine_chunks().dictionary_encode()
    paths, image = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    table = index.table.take(np.unique(image, return_index=True)[1])
    boxes = image_boxes(index.table)
    boxed = np.ones(len(paths), bool)
    boxed[image[boxes[:, 2] == 0]] = False
    names = ("width", "height", "bands")
    sizes = np.stack([table[name].fill_null(0).to_numpy() for name in names], axis=1).astype(np.int32)
    dtypes = table["dtype"].fill_null("").to_pylist()
    full = [index.full_path(path) for path in paths]
    foreign = foreign_rows(table)
    if foreign is not None:
        said = {full[row]: (*sizes[row].tolist(), dtypes[row]) for row in foreign["rows"].tolist()}
        foreign["reader"] = _checking(foreign["reader"], said)
    failures = _core.check_images(
        full,
        np.ascontiguousarray(sizes),
        dtypes,
        boxed,
        foreign=foreign,
        threads=threads,
        max_image_bytes=max_image_mib << 20,
        progress=lambda done: progress(done, len(paths)),
    )
    if len(failures) == len(paths):
        raise UsageError(
            f"none of the {len(paths):,} images can be read, such as {paths[0]}: {failures[0][1]}; "
            f"they are looked for under {index.root}"
        )
    readable = np.ones(len(paths), bool)
    readable[[number for number, _ in failures]] = False
    outside = readable[image] & _outside(boxes, sizes[image])
    faults = [(int(number), paths[number], reason) for number, reason in failures]
    for row in np.flatnonzero(outside).tolist():
        width, height, _ = sizes[image[row]].tolist()
        reason = f"box {boxes[row].tolist()} lies outside the {width} x {height} pixels"
        faults.append((int(image[row]), paths[image[row]], reason))
    faults.sort(key=lambda fault: fault[0])
    return Validation(
        images=len(paths),
        broken=tuple((path, reason) for _, path, reason in faults),
        good=readable[image] & ~outside,
    )


def _outside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Whether a row, bool [N], has a box that shares no pixel with its image; sizes of 0 are unknown."""
    x, y, w, h = boxes.astype(np.int64).T
    width, height, _ = np.where(sizes > 0, sizes, np.iinfo(np.int32).max).astype(np.int64).T
    out: np.ndarray = (w > 0) & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0))
    return out


def _checking(read: Callable[..., Any], said: dict[str, tuple[Any, ...]]) -> Callable[..., Any]:
    """A reader of rasterio's images that first compares an image's header with what the index says."""
    # Only where it is needed: rasterio takes a while to import.
    from geossl.data.fallback import quiet

    def checked(
        path: str, window: tuple[int, int, int, int], bands: Sequence[int | None] | None, nodata: int | None
    ) -> tuple[np.ndarray, bool]:
        if window[:2] == (0, 0):
            with quiet():
                header = foreign_header(str(path))
            if isinstance(header, str):
                raise GeosslError(header)
            found = tuple(header[0][name] for name in ("width", "height", "bands", "dtype"))
            if found != said[str(path)]:
                words = "{} x {} pixels, {} bands {}"
                raise GeosslError(
                    f"not what the index says: {words.format(*found)}, where it says {words.format(*said[str(path)])}"
                )
        array, lacking = read(path, window, bands, nodata)
        return array, lacking

    return checked
