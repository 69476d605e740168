"""What values the bands of an index's images have: the measure of normalisation, and of what is odd in the data."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geossl import _core
from geossl.data.samples import BITS, TOP, foreign_rows
from geossl.data.table import image_boxes
from geossl.errors import UsageError
from geossl.files import replacing
from geossl.tables import align

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from geossl.data.index import Index
    from geossl.data.samples import Samples

FORMAT = 1
"""Of the file."""
PERCENTILES = (1, 2, 5, 25, 50, 75, 95, 98, 99)


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """The values of one band, in the data's own units; NaN where no sample has data."""

    count: int
    """Samples with data."""
    nodata: int
    """Samples without: by the file's nodata value, mask or alpha; of floats, those that are not finite too."""
    mean: float
    std: float
    """Of all samples as the population."""
    min: float
    max: float
    percentiles: tuple[float, ...]
    """At `PERCENTILES`; of floats to about 0.8 % of the value."""
    first: int
    """Number of the first bin of `histogram`."""
    histogram: np.ndarray
    """int64, samples in each bin from the first to the last that has any. A bin is a value of an integer; floats have
    65,536 bins, the upper halves of their bits in the order of the values (`bin_edges`)."""

    @property
    def nodata_share(self) -> float:
        """Share of samples without data, 0 to 1."""
        return self.nodata / max(self.count + self.nodata, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageKind:
    """Images with the same bands of the same type."""

    dtype: str
    """The files' own type of samples."""
    names: tuple[str, ...] | None
    """Names of the bands, where the index knows them."""
    images: int
    """Images that were read."""
    bands: tuple[Band, ...]

    @property
    def top(self) -> float:
        """What values are divided by when they are normalised: integers to 0..1, floats stay as they are."""
        return TOP[BITS.get(self.dtype, 32)]

    @property
    def mean(self) -> tuple[float, ...]:
        """Per-band mean, of values divided by `top`."""
        return tuple(band.mean / self.top for band in self.bands)

    @property
    def std(self) -> tuple[float, ...]:
        """Per-band standard deviation, of values divided by `top`."""
        return tuple(band.std / self.top for band in self.bands)

    def name(self, band: int) -> str:
        """What a band is called, counted from 0."""
        return self.names[band] if self.names else f"band {band + 1}"

    def edges(self, band: int) -> np.ndarray:
        """Edges of a band's bins, float64 [bins + 1]."""
        numbers = np.arange(self.bands[band].first, self.bands[band].first + len(self.bands[band].histogram) + 1)
        return numbers - 0.5 if self.dtype in BITS else bin_edges(numbers)


@dataclass(frozen=True, kw_only=True, eq=False)
class BandStats:
    """Statistics of an index's images."""

    index_hash: str
    """Content hash of the index."""
    total: int
    """Images of the index."""
    seed: int | None
    """Seed of the sample; None: all images were looked at."""
    kinds: tuple[ImageKind, ...]
    """One for each set of images with the same bands of the same type, in order of first appearance."""
    failures: tuple[tuple[str, str], ...]
    """(path, reason) of the images that could not be read."""

    @property
    def images(self) -> int:
        """Images that were read."""
        return sum(kind.images for kind in self.kinds)

    def scaled(self, samples: Samples) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each band of a view, over all images that have it, scaled as views are.

        A band that is constant has the deviation 1. Raises UsageError where no image with data has a band.
        """
        bands = [self._band(samples, k) for k in range(samples.bands)]
        return tuple(mean for mean, _ in bands), tuple(std for _, std in bands)

    def _band(self, samples: Samples, k: int) -> tuple[float, float]:
        count, total, squares = 0, 0.0, 0.0
        for kind in self.kinds:
            at = _position(kind, samples, k)
            if at is None or not kind.bands[at].count:
                continue
            n, mean, std = kind.bands[at].count, kind.mean[at], kind.std[at]
            count, total, squares = count + n, total + n * mean, squares + n * (std**2 + mean**2)
        if not count:
            name = samples.names[k] if samples.names else f"band {k + 1}"
            raise UsageError(f"the statistics of the index have no values of {name}: run geossl data stats again")
        mean = total / count
        std = math.sqrt(max(squares / count - mean**2, 0))
        return mean, std if std > 1e-6 * max(abs(mean), 1e-6) else 1.0

    def lines(self) -> list[str]:
        """A table for people, one row a band."""
        out = []
        for kind in self.kinds:
            out.append(f"{kind.images:,} images, {len(kind.bands)} bands, {kind.dtype}")
            rows = [["band", "mean", "std", "min", "2 %", "50 %", "98 %", "max", "no data"]]
            shown = [PERCENTILES.index(p) for p in (2, 50, 98)]
            for k, band in enumerate(kind.bands):
                low, median, high = (band.percentiles[at] for at in shown)
                values = (band.mean, band.std, band.min, low, median, high, band.max)
                rows.append([kind.name(k), *(f"{value:.6g}" for value in values), f"{band.nodata_share:.2%}"])
            out += [f"  {line}" for line in align(rows, left={0})]
        return out

    def write(self, path: Path) -> None:
        """Write to a JSON file, atomically."""
        content = {
            "format": FORMAT,
            "index_hash": self.index_hash,
            "total": self.total,
            "seed": self.seed,
            "percentiles": PERCENTILES,
            "kinds": [
                {
                    "dtype": kind.dtype,
                    "names": kind.names,
                    "images": kind.images,
                    "mean": _plain(kind.mean),
                    "std": _plain(kind.std),
                    "bands": [_written(band) for band in kind.bands],
                }
                for kind in self.kinds
            ],
            "failures": self.failures,
        }
        try:
            with replacing(path) as file:
                file.write(json.dumps(content, allow_nan=False).encode())
        except OSError as e:
            raise UsageError(f"{path}: cannot be written: {e.strerror or e}") from e

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote. Raises UsageError if it is missing or something else."""
        try:
            content = json.loads(path.read_bytes())
            if content["format"] != FORMAT:
                raise UsageError(f"{path}: statistics of another version of geossl; run geossl data stats again")
            kinds = [
                ImageKind(
                    dtype=kind["dtype"],
                    names=None if kind["names"] is None else tuple(kind["names"]),
                    images=kind["images"],
                    bands=tuple(_read_band(band) for band in kind["bands"]),
                )
                for kind in content["kinds"]
            ]
            return cls(
                index_hash=content["index_hash"],
                total=content["total"],
                seed=content["seed"],
                kinds=tuple(kinds),
                failures=tuple((name, reason) for name, reason in content["failures"]),
            )
        except OSError as e:
            raise UsageError(f"{path}: cannot be read: {e.strerror or e}") from e
        except (ValueError, KeyError, TypeError) as e:
            raise UsageError(f"{path}: not what geossl data stats writes") from e

    @classmethod
    def find(cls, index: Path) -> Self | None:
        """The statistics beside an index file; None if there are none.

        Raises:
            UsageError: They are of another index, or no such file.

        """
        path = stats_path(index)
        if not path.exists():
            return None
        found = cls.read(path)
        metadata = json.loads((pq.read_schema(index).metadata or {}).get(b"geossl", b"{}"))
        if found.index_hash != metadata.get("content_hash"):
            raise UsageError(
                f"{path}: statistics of another index than {index} is now: "
                f"make them again with geossl data stats {index}, or delete them"
            )
        return found


def stats_path(index: Path) -> Path:
    """Where the statistics of an index file lie: naip.parquet has naip.stats.json beside it."""
    return index.with_name(f"{index.stem}.stats.json")


def measure_index(
    index: Index,
    *,
    sample: int | None = 1000,
    seed: int = 0,
    threads: int = 0,
    max_image_mib: int = 1024,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> BandStats:
    """Statistics of an index's images, each within its box alone.

    Args:
        index: The images.
        sample: How many are looked at, drawn by the seed; None: all.
        seed: Seed of the sample.
        threads: 0 is one for every core. The result is the same for any number.
        max_image_mib: Most memory that decoding an image may take, MiB, and the largest file.
        progress: Called with the images done and their number, some times a second.

    Raises:
        UsageError: the index has no images, or none of them can be read.

    """
    rows = np.arange(len(index))
    if sample is not None and sample < len(rows):
        rows = np.sort(np.random.default_rng(seed).choice(rows, sample, replace=False))
    else:
        sample = None
    if not len(rows):
        raise UsageError("the index has no images")
    table = index.table.take(rows)
    keys = [table["bands"].cast(pa.string()), table["dtype"], table["band_names"].fill_null("")]
    encoded = pc.binary_join_element_wise(*keys, "|").combine_chunks().dictionary_encode()
    kinds = [key.split("|", 2) for key in encoded.dictionary.to_pylist()]
    paths = table["path"].to_pylist()
    found = _core.band_stats(
        [index.full_path(path) for path in paths],
        image_boxes(table),
        encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        kinds=[(int(bands), BITS.get(dtype, 32)) for bands, dtype, _ in kinds],
        foreign=foreign_rows(table),
        threads=threads,
        max_image_bytes=max_image_mib << 20,
        progress=lambda done: progress(done, len(rows)),
    )
    failures = tuple((paths[row], reason) for row, reason in found["failures"])
    if len(failures) == len(rows):
        raise UsageError(f"none of the {len(rows):,} images can be read, such as {failures[0][0]}: {failures[0][1]}")
    made = [
        ImageKind(
            dtype=dtype,
            names=tuple(names.split(",")) if names else None,
            images=images,
            bands=tuple(_band(band, dtype) for band in bands),
        )
        for (_, dtype, names), (images, bands) in zip(kinds, found["kinds"], strict=True)
    ]
    return BandStats(
        index_hash=index.content_hash,
        total=len(index),
        seed=None if sample is None else seed,
        kinds=tuple(made),
        failures=failures,
    )


def bin_edges(numbers: np.ndarray) -> np.ndarray:
    """Lower edges of bins of floats, float64: the upper halves of float32's bits, in the order of the values."""
    keys = numbers.astype(np.uint64) << 16
    negative = keys < 1 << 31
    bits = np.where(negative, ~keys & 0xFFFFFFFF, keys - (1 << 31)).astype(np.uint32)
    edges: np.ndarray = bits.view(np.float32).astype(np.float64)
    return edges


def _band(found: dict[str, Any], dtype: str) -> Band:
    histogram = found.pop("histogram").astype(np.int64)
    there = np.flatnonzero(histogram)
    first, end = (int(there[0]), int(there[-1]) + 1) if len(there) else (0, 0)
    histogram = histogram[first:end]
    if not len(there):
        return Band(**found, percentiles=(math.nan,) * len(PERCENTILES), first=first, histogram=histogram)
    below = np.cumsum(histogram)
    wanted = np.array(PERCENTILES) / 100 * below[-1]
    at = np.searchsorted(below, wanted)
    if dtype in BITS:
        values = first + at.astype(np.float64)
    else:
        low, high = bin_edges(first + at), bin_edges(first + at + 1)
        share = (wanted - below[at] + histogram[at]) / histogram[at]
        values = np.clip(low + share * (high - low), found["min"], found["max"])
    return Band(**found, percentiles=tuple(values.tolist()), first=first, histogram=histogram)


def _position(kind: ImageKind, samples: Samples, k: int) -> int | None:
    """The band of a kind of images that is band `k` of a view; None where they lack it."""
    if kind.names and samples.names:
        return kind.names.index(samples.names[k]) if samples.names[k] in kind.names else None
    for count, bands in samples.kinds:
        if count == len(kind.bands):
            return k if bands is None else bands[k]
    return None


def _plain(values: tuple[float, ...]) -> list[float | None]:
    """Without NaN, which JSON lacks."""
    return [None if math.isnan(value) else value for value in values]


def _written(band: Band) -> dict[str, Any]:
    mean, std, least, most = _plain((band.mean, band.std, band.min, band.max))
    return {
        "count": band.count,
        "nodata": band.nodata,
        "mean": mean,
        "std": std,
        "min": least,
        "max": most,
        "percentiles": _plain(band.percentiles),
        "first": band.first,
        "histogram": band.histogram.tolist(),
    }


def _read_band(content: dict[str, Any]) -> Band:
    number = {name: math.nan if content[name] is None else content[name] for name in ("mean", "std", "min", "max")}
    return Band(
        count=content["count"],
        nodata=content["nodata"],
        percentiles=tuple(math.nan if value is None else value for value in content["percentiles"]),
        first=content["first"],
        histogram=np.array(content["histogram"], np.int64),
        **number,
    )
