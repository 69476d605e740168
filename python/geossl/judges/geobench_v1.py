"""The classification sets of GEO-Bench 1: a folder of HDF5 files, one a sample.

Source: Lacoste et al., "GEO-Bench: Toward Foundation Models for Earth Monitoring" (NeurIPS 2023, arXiv 2306.03831);
the format is that of `write_sample_hdf5`, `Partition.save` and `TaskSpecifications.save` in ServiceNow/geo-bench
(geobench/dataset.py and geobench/task.py):

- `task_specs.pkl`: a pickle of the bands, in their order, and of the label's type with the names of the classes;
- `<name>_partition.json`: {"train": [sample, ...], "valid": [...], "test": [...]};
- `<sample>.hdf5`: a 2-D array a band, and an attribute `pickle`, the text of the bytes of a pickle of
  {"label": number, "bands_order": [array, ...], array: {"band_info", "date", "transform", "crs", ...}};
- `band_stats.json`: {band: {"mean", "std", ...}} of training images.

The pickles are read as data (`geossl.judges.pickles`).
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from datetime import UTC, date, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from geossl.errors import GeosslError, UsageError
from geossl.judges.bands import band_name
from geossl.judges.pickles import Record, read_pickle
from geossl.judges.samples import SPLITS, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SPECS = "task_specs.pkl"
PARTITION = "_partition.json"


def is_geobench_v1(folder: Path) -> bool:
    """Whether the folder is such a data set."""
    return (folder / SPECS).is_file()


class GeobenchV1:
    """A classification set of GEO-Bench 1, in one of its partitions. A `BenchmarkSet`."""

    def __init__(self, folder: Path, *, partition: str = "default") -> None:
        """Read all but the samples.

        Args:
            folder: the data set, such as `classification_v1.0/m-eurosat`.
            partition: default, or one with fewer training samples, such as 0.01x_train.

        Raises:
            UsageError: h5py is not installed, there is no such partition, samples of it are missing, or the labels are
                not one class an image.

        """
        if find_spec("h5py") is None:
            raise UsageError("GEO-Bench 1 is read with h5py, which is not installed; pip install 'geossl[geobench]'")
        self.folder = folder
        self.title = f"{folder.name} of GEO-Bench 1"
        specs = _read_specs(folder / SPECS)
        label = specs.get("label_type")
        if not isinstance(label, Record) or label.kind != "Classification":
            what = label.kind if isinstance(label, Record) else "nothing"
            raise UsageError(f"{folder}: its labels are {what}; only sets of one class an image are read")
        self._classes = _class_names(label)
        self._published = [str(band.get("name")) for band in specs.get("bands_info") or [] if isinstance(band, Record)]
        self.bands = tuple(map(band_name, self._published))
        if not self.bands or len(set(self.bands)) < len(self.bands):
            raise UsageError(f"{folder / SPECS}: names no bands, or one twice: {', '.join(self._published) or 'none'}")
        self._names, self.splits = _read_partition(folder, partition)

    def describe(self, sample: int) -> Sample:
        """As `BenchmarkSet` says. Raises GeosslError for a damaged file."""
        name, file = self._file(sample)
        about = _read_attributes(file)
        label = about.get("label")
        if not isinstance(label, int) or not 0 <= label < len(self._classes):
            raise GeosslError(f"{file}: its label, {label!r}, is none of the {len(self._classes)} classes")
        band = about[_arrays(about, self._published[:1], file)[0]]
        return Sample(
            name=name,
            split=self.splits[sample],
            category=self._classes[label],
            transform=_transform(band.get("transform")),
            crs=_crs(band.get("crs")),
            timestamp=_instant(band.get("date")),
        )

    def pixels(self, sample: int) -> NDArray[Any]:
        """As `BenchmarkSet` says. Raises GeosslError for a damaged file."""
        _, file = self._file(sample)
        arrays = _arrays(_read_attributes(file), self._published, file)
        try:
            with import_module("h5py").File(file, "r") as content:
                planes = [content[array][()] for array in arrays]
            # A third side of 1 is allowed.
            return np.stack([plane.reshape(plane.shape[:2]) for plane in planes])
        except (OSError, KeyError, ValueError) as e:
            raise GeosslError(f"{file}: its bands cannot be read: {' '.join(str(e).split())}") from e

    def published_moments(self) -> tuple[list[float], list[float]] | None:
        """As `BenchmarkSet` says. Raises UsageError for a file of another form."""
        file = self.folder / "band_stats.json"
        if not file.is_file():
            return None
        try:
            stats = json.loads(file.read_bytes())
            return tuple([float(stats[band][what]) for band in self._published] for what in ("mean", "std"))  # type: ignore[return-value] # a pair
        except (ValueError, KeyError, TypeError) as e:
            raise UsageError(f"{file}: has no mean and std of each band ({type(e).__name__}: {e})") from e

    def _file(self, sample: int) -> tuple[str, Path]:
        name = self._names[sample]
        return name, self.folder / f"{name}.hdf5"


def _read_specs(file: Path) -> Record:
    try:
        found = read_pickle(file.read_bytes())
    except ValueError as e:
        raise UsageError(f"{file}: {e}") from e
    if not isinstance(found, Record):
        raise UsageError(f"{file}: does not describe a data set of GEO-Bench")
    return found


def _class_names(label: Record) -> list[str]:
    """The names of the classes; their numbers where there are none, or one is twice."""
    names = label.get("_class_names")
    count = int(label.get("n_classes"))
    if not isinstance(names, list | tuple) or len(set(names)) < count:
        return [f"{number:0{len(str(count - 1))}d}" for number in range(count)]
    return [str(name) for name in names]


def _read_partition(folder: Path, partition: str) -> tuple[list[str], list[str]]:
    """Names and splits of the samples."""
    file = folder / f"{partition}{PARTITION}"
    known = sorted(path.name.removesuffix(PARTITION) for path in folder.glob(f"*{PARTITION}"))
    if partition not in known:
        raise UsageError(f"--partition {partition}: {folder} has {', '.join(known) or 'no partitions'}")
    try:
        content = json.loads(file.read_bytes())
        pairs = [(str(name), SPLITS[split]) for split, names in content.items() for name in names]
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise UsageError(f"{file}: is not a list of samples in train, valid and test ({type(e).__name__}: {e})") from e
    names, splits = [name for name, _ in pairs], [split for _, split in pairs]
    if not names:
        raise UsageError(f"{file}: has no samples")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"{file}: has {twice[0]} twice")
    # A name leads to a file of the folder, nowhere else.
    missing = [name for name in names if "/" in name or "\\" in name or not (folder / f"{name}.hdf5").is_file()]
    if missing:
        raise UsageError(f"{file}: {len(missing):,} of its {len(names):,} samples are missing, e.g. {missing[0]}.hdf5")
    return names, splits


def _read_attributes(file: Path) -> dict[str, Any]:
    """The pickle of a sample."""
    try:
        with import_module("h5py").File(file, "r") as content:
            text = content.attrs["pickle"]
        about = read_pickle(ast.literal_eval(text))
    except (OSError, KeyError, ValueError, SyntaxError, TypeError) as e:
        raise GeosslError(f"{file}: cannot be read as a sample of GEO-Bench: {' '.join(str(e).split())}") from e
    if not isinstance(about, dict):
        raise GeosslError(f"{file}: its attribute pickle is not a dict")
    return about


def _arrays(about: dict[str, Any], bands: list[str], file: Path) -> list[str]:
    """Names of the arrays that hold the bands: a band's own name, or with a date behind it."""
    held: dict[str, list[str]] = {}
    for array, of in about.items():
        if isinstance(of, dict) and isinstance(of.get("band_info"), Record):
            held.setdefault(str(of["band_info"].get("name")), []).append(array)
    for band in bands:
        if len(found := held.get(band, [])) != 1:
            raise GeosslError(f"{file}: has the band {band} {len(found)} times")
    return [held[band][0] for band in bands]


def _transform(found: Any) -> tuple[float, ...] | None:
    """The numbers a to f of a pickled affine.Affine."""
    return tuple(map(float, found.args[:6])) if isinstance(found, Record) and len(found.args) >= 6 else None


def _crs(found: Any) -> str | None:
    """A text, or that of a pickled rasterio.crs.CRS, whose state is its WKT."""
    text = found.state if isinstance(found, Record) else found
    return text if isinstance(text, str) and text else None


def _instant(found: Any) -> datetime | None:
    """A date as an instant; without a zone it is UTC."""
    if isinstance(found, datetime):
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    if isinstance(found, date):
        return datetime(found.year, found.month, found.day, tzinfo=UTC)
    return None
