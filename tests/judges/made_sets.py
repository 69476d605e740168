"""Small sets in the published formats of GEO-Bench, written by the projects' own code where it is installed.

Where `geobench` is not, stand-ins of its classes of the same names and attributes are pickled, so that the bytes are
those that it would write; where `tacotoolbox` is not, a tortilla is laid out by hand.
"""

from __future__ import annotations

import json
import pickle
import sys
import types
import warnings
from dataclasses import dataclass
from datetime import date as day
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

if TYPE_CHECKING:
    from pathlib import Path

HAS_GEOBENCH = find_spec("geobench") is not None
HAS_TACO = find_spec("tacotoolbox") is not None
needs_h5py = pytest.mark.skipif(find_spec("h5py") is None, reason="h5py, of the extra geossl[geobench], is missing")

SENTINEL2 = (
    ("01 - Coastal aerosol", ("1", "01"), 60, 0.443),
    ("02 - Blue", ("2", "02", "blue"), 10, 0.49),
    ("03 - Green", ("3", "03", "green"), 10, 0.56),
    ("04 - Red", ("4", "04", "red"), 10, 0.665),
    ("05 - Vegetation Red Edge", ("5", "05"), 20, 0.705),
    ("06 - Vegetation Red Edge", ("6", "06"), 20, 0.74),
    ("07 - Vegetation Red Edge", ("7", "07"), 20, 0.783),
    ("08 - NIR", ("8", "08", "NIR"), 10, 0.842),
    ("08A - Vegetation Red Edge", ("8A", "08A"), 20, 0.865),
    ("09 - Water vapour", ("9", "09"), 60, 0.945),
    ("10 - SWIR - Cirrus", ("10",), 60, 1.375),
    ("11 - SWIR", ("11",), 20, 1.61),
    ("12 - SWIR", ("12",), 20, 2.19),
)
LANDSAT8 = (
    ("04 - Red", ("4", "04", "B4", "red"), 15, 0.6546),
    ("03 - Green", ("3", "03", "B3", "green"), 15, 0.5614),
    ("02 - Blue", ("2", "02", "B2", "blue"), 15, 0.482),
    ("05 - NIR", ("5", "05", "B5", "nir"), 30, 0.8647),
    ("06 - SWIR1", ("6", "06", "B6", "swir1"), 30, 1.6089),
    ("07 - SWIR2", ("7", "07", "B7", "swir2"), 30, 2.2007),
)
AERIAL = (("Red", ("red",), 0.1, 0.665), ("Green", ("green",), 0.1, 0.56), ("Blue", ("blue",), 0.1, 0.49))


@dataclass(frozen=True)
class Made:
    """A set as it was made."""

    folder: Path
    pixels: dict[str, np.ndarray]
    """[bands, height, width] of each sample."""
    labels: dict[str, int]
    partition: dict[str, list[str]]
    classes: list[str]


class GeobenchClasses:
    """The classes that are pickled, of `geobench`; or while the context lasts, of modules of its name."""

    def __enter__(self) -> types.SimpleNamespace:
        if HAS_GEOBENCH:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of their code
                import geobench.dataset
                import geobench.label
                import geobench.task
            return types.SimpleNamespace(
                spectral={
                    "s2": geobench.dataset.Sentinel2,
                    "l8": geobench.dataset.Landsat8,
                    "rgb": geobench.dataset.SpectralBand,
                },
                label=geobench.label,
                task=geobench.task.TaskSpecifications,
            )
        dataset, label, task = (types.ModuleType(f"geobench.{name}") for name in ("dataset", "label", "task"))

        def attributes(module: types.ModuleType, name: str, *names: str) -> Any:
            def init(self: Any, *values: Any) -> None:
                self.__dict__.update(zip(names, values, strict=True))

            made = type(name, (), {"__init__": init, "__module__": module.__name__})
            setattr(module, name, made)
            return made

        band = ("name", "alt_names", "spatial_resolution", "wavelength")
        spectral = {
            "s2": attributes(dataset, "Sentinel2", *band),
            "l8": attributes(dataset, "Landsat8", *band),
            "rgb": attributes(dataset, "SpectralBand", *band),
        }
        attributes(label, "Classification", "n_classes", "_class_names")
        attributes(label, "MultiLabelClassification", "n_classes", "class_name")
        order = (
            "dataset_name",
            "bands_info",
            "spatial_resolution",
            "benchmark_name",
            "patch_size",
            "n_time_steps",
            "label_type",
        )
        specs = attributes(task, "TaskSpecifications", *order)
        package = types.ModuleType("geobench")
        sys.modules.update(
            {"geobench": package, "geobench.dataset": dataset, "geobench.label": label, "geobench.task": task}
        )
        return types.SimpleNamespace(spectral=spectral, label=label, task=specs)

    def __exit__(self, *_: object) -> None:
        if not HAS_GEOBENCH:
            for name in ("geobench", "geobench.dataset", "geobench.label", "geobench.task"):
                sys.modules.pop(name, None)


def make_geobench_v1(
    folder: Path,
    *,
    bands: tuple = SENTINEL2,
    kind: str = "s2",
    classes: tuple[str, ...] = ("Forest", "River", "Highway"),
    counts: dict[str, int] | None = None,
    size: int = 16,
    dtype: str = "int16",
    placed: bool = False,
    label: str = "Classification",
    seed: int = 0,
) -> Made:
    """A set of GEO-Bench 1. A sample's class shows in its level; placed samples have two dates of each place."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    top = 250 if dtype == "uint8" else 9000
    with GeobenchClasses() as gb:
        infos = [gb.spectral[kind](*band) for band in bands]
        label_type = getattr(gb.label, label)(len(classes), list(classes))
        specs = gb.task(folder.name, infos, 10, None, (size, size), 1, label_type)
        (folder / "task_specs.pkl").write_bytes(pickle.dumps(specs, protocol=4))
        pixels, labels, partition = {}, {}, {}
        number = 0
        for split, count in (counts or {"train": 12, "valid": 6, "test": 6}).items():
            partition[split] = []
            for _ in range(count):
                label_of = number % len(classes)
                level = rng.uniform(0.5, 1, (len(bands), 1, 1)) * top * (label_of + 1) / (len(classes) + 1)
                image = (level * rng.uniform(0.7, 1, (len(bands), size, size))).astype(dtype)
                date = day(2014 + number % 2, 7, 1 + number % 28) if placed else None
                lat, lon = -3.5 + (number // 2) * 0.25, 102.25
                name = f"{lat}_{lon}_{date:%Y_%m_%d}" if date else f"id_{number:04d}"
                where = {"transform": None, "crs": None}
                if placed:
                    side = 0.04 / size
                    transform = rasterio.Affine(side, 0, lon - 0.02, 0, -side, lat + 0.02)
                    where = {"transform": transform, "crs": "EPSG:4326" if number % 3 else rasterio.CRS.from_epsg(4326)}
                _write_sample(folder / f"{name}.hdf5", image, infos, label=label_of, date=date, **where)
                pixels[name], labels[name] = image, label_of
                partition[split].append(name)
                number += 1
    (folder / "default_partition.json").write_text(json.dumps(partition))
    few = partition | {"train": partition["train"][: len(classes)]}
    (folder / "0.01x_train_partition.json").write_text(json.dumps(few))
    train = np.stack([pixels[name] for name in partition["train"]]).astype(float)
    stats = {
        band[0]: {
            "mean": train[:, k].mean(),
            "std": train[:, k].std(),
            "min": train[:, k].min(),
            "max": train[:, k].max(),
        }
        for k, band in enumerate(bands)
    }
    others = ["median", *(f"percentile_{p}" for p in ("0_1", "1", "5", "95", "99", "99_9"))]
    stats = {name: each | dict.fromkeys(others, each["mean"]) for name, each in stats.items()}
    (folder / "band_stats.json").write_text(json.dumps(stats))
    return Made(folder, pixels, labels, partition, list(classes))


def _write_sample(path: Path, image: np.ndarray, infos: list, *, label: int, date: day | None, **where: Any) -> None:
    """As geobench's `write_sample_hdf5`; by it, where it is installed."""
    if HAS_GEOBENCH:
        from geobench.dataset import Band, Sample

        bands = [
            Band(data=band, band_info=info, spatial_resolution=10, date=date, **where)
            for band, info in zip(image, infos, strict=True)
        ]
        Sample(bands, label, path.name.removesuffix(".hdf5")).write(path.parent)
        return
    import h5py

    about: dict[str, Any] = {"label": label}
    with h5py.File(path, "w") as file:
        order = []
        for band, info in zip(image, infos, strict=True):
            array = info.name if date is None else f"{info.name}_{date:%Y-%m-%d}"
            file.create_dataset(name=array, data=band)
            about[array] = {"date": date, "date_id": date, "spatial_resolution": 10, "band_info": info}
            about[array] |= {"meta_info": None, **where}
            order.append(array)
        about["bands_order"] = order
        file.attrs["pickle"] = str(pickle.dumps(about))


def write_tiff(path: Path, image: np.ndarray, **where: Any) -> Path:
    profile = {"driver": "GTiff", "count": image.shape[0], "height": image.shape[1], "width": image.shape[2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", dtype=image.dtype.name, **profile, **where) as file:
            file.write(image)
    return path


def read_tiff(path: str | Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read()


def write_tortilla(path: Path, files: list[tuple[str, Path, str, dict[str, Any]]]) -> Path:
    """A tortilla of (id, file, format, columns); of the columns, `split` and `stac` are the format's own."""
    if HAS_TACO:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of their code
            import tacotoolbox

            model = tacotoolbox.tortilla.datamodel
            samples = []
            for name, file, form, about in files:
                own = {"data_split": about.get("split"), "stac_data": about.get("stac")}
                rest = {key: value for key, value in about.items() if key not in {"split", "stac"}}
                samples.append(model.Sample(id=name, path=file, file_format=form, **own, **rest))
            tacotoolbox.tortilla.create(model.Samples(samples=samples), path, quiet=True, nworkers=1)
        return path
    rows, data, offset = [], [], 200
    for name, file, form, about in files:
        content = file.read_bytes()
        row = {"tortilla:id": name, "tortilla:file_format": form, "tortilla:data_split": about.get("split")}
        row |= {"tortilla:length": len(content), "tortilla:offset": offset}
        row |= {f"stac:{key}": value for key, value in about.get("stac", {}).items()}
        rows.append(row | {key: value for key, value in about.items() if key not in {"split", "stac"}})
        data.append(content)
        offset += len(content)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
    footer = sink.getvalue().to_pybytes()
    head = b"#y" + offset.to_bytes(8, "little") + len(footer).to_bytes(8, "little") + (1).to_bytes(8, "little")
    path.write_bytes(head.ljust(200, b"\0") + b"".join(data) + footer)
    return path


def make_geobench_v2(
    folder: Path,
    name: str,
    *,
    sensors: dict[str, tuple[int, str]],
    placed: bool = False,
    parts: int = 1,
    size: int = 16,
) -> tuple[list[Path], dict[str, dict[str, np.ndarray]]]:
    """A set of GEO-Bench 2: its files, and the images of each sample by sensor."""
    rng = np.random.default_rng(1)
    work = folder / "work"
    work.mkdir(parents=True)
    classes = ("Logging road", "Mining", "Other")
    splits = ["train"] * 9 + ["validation"] * 3 + ["test"] * 3
    outer, images = [], {}
    for number, split in enumerate(splits):
        sample, label = f"sample_{number:03d}", number % 3
        lat, lon = -3.5 + number, 102.25
        about: dict[str, Any] = {"split": split}
        where: dict[str, Any] = {}
        if placed:
            where = {"crs": "EPSG:4326", "transform": rasterio.Affine(0.001, 0, lon, 0, -0.001, lat)}
            stac = {"crs": "EPSG:4326", "geotransform": where["transform"].to_gdal(), "raster_shape": (size, size)}
            about |= {"lat": lat, "lon": lon, "stac": stac | {"time_start": 1404172800.0}}
        inner, images[sample] = [], {}
        for sensor, (count, dtype) in sensors.items():
            level = (label + 1) * (60 if dtype == "uint8" else 0.2)
            image = (level * rng.uniform(0.8, 1, (count, size, size))).astype(dtype)
            images[sample][sensor] = image
            file = write_tiff(work / f"{sample}_{sensor}.tif", image, **where)
            inner.append((sensor, file, "GTiff", about | {"labels": label}))
        nested = write_tortilla(work / f"{sample}.tortilla", inner)
        outer.append((sample, nested, "TORTILLA", about | {"labels": classes[label]}))
    if parts == 1:
        return [write_tortilla(folder / f"{name}.tortilla", outer)], images
    cut = np.array_split(np.arange(len(outer)), parts)
    files = [
        write_tortilla(folder / f"{name}.{part:04d}.part.tortilla", [outer[i] for i in rows])
        for part, rows in enumerate(cut)
    ]
    return files, images
