"""`geossl data geobench`: a benchmark's data set as GeoTIFFs and an index, which everything else here reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geossl.data.conversion import Converted, begin_conversion, images_folder, write_geotiff
from geossl.data.index import build_index
from geossl.errors import GeosslError, UsageError
from geossl.files import naming_full_disk, replacing
from geossl.judges.bands import band_name, bands_of
from geossl.judges.geobench_v1 import GeobenchV1, is_geobench_v1
from geossl.judges.geobench_v2 import GeobenchV2, find_tortillas
from geossl.judges.samples import training_moments
from geossl.progress import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geossl.judges.samples import BenchmarkSet, Sample
    from geossl.models.weights import LoadedBackbone

SETTINGS = "geobench.json"
"""Name of the file, beside the images, of what their pixels depend on."""
SHIFTED = (
    "note: the bands beyond nir seem to have one another's names: what the set calls water_vapour is as dark as "
    "Sentinel-2's cirrus band (docs/judges.md has more)"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pixels:
    """What is written of a sample's pixels."""

    names: tuple[str, ...]
    """What the bands are called."""
    bands: list[int]
    """Which of the set's bands they are, from 0."""
    scale: NDArray[np.float64] | None
    """What values are multiplied by, [bands]; None leaves them as they are."""
    offset: NDArray[np.float64] | None
    """What is then added."""

    def of(self, published: NDArray[Any]) -> NDArray[Any]:
        """[bands, height, width], float32 if they are scaled."""
        chosen = published[self.bands]
        if self.scale is None or self.offset is None:
            return chosen
        scaled: NDArray[Any] = chosen * self.scale[:, None, None] + self.offset[:, None, None]
        return scaled.astype(np.float32)

    def settings(self) -> dict[str, Any]:
        """What the pixels depend on, for JSON."""
        scale, offset = (None if v is None else v.tolist() for v in (self.scale, self.offset))
        return {"set_bands": self.bands, "scale": scale, "offset": offset}


def convert_geobench(
    src: Path,
    *,
    out: Path,
    partition: str = "default",
    bands: Sequence[str] | None = None,
    run: Path | None = None,
    backbone: str | None = None,
    threads: int = 0,
) -> Converted:
    """Write the images of a GEO-Bench classification set as GeoTIFFs, and an index of them.

    The images lie in a folder beside the index, `<out's name>.images`. Categories, splits and, where the benchmark
    knows them, places and dates are those of the benchmark.

    Without `run`, pixels are as published. With it, the images are for its encoder: they have the bands that it reads,
    and each band is standardised by its mean and deviation over the training images, as GEO-Bench's own baselines and
    torchgeo-bench's default do, then brought to the mean and the deviation that the encoder is normalised by, so that
    normalising by these leaves the standardised values.

    A conversion that was interrupted goes on where it ended.

    Args:
        src: a folder of GEO-Bench 1 (`classification_v1.0/m-eurosat`); a file of GEO-Bench 2
            (`geobench_so2sat.tortilla`), or the folder that it or its parts lie in.
        out: the index to write.
        partition: GEO-Bench 1: which samples train; see `GeobenchV1`.
        bands: names of the bands to write, in this order; by default all, with `run` those that its encoder reads.
        run: a run, or weights that `load_backbone` reads.
        backbone: the model, for weights that do not name it.
        threads: threads that read the images' headers; 0 is all cores.

    Raises:
        UsageError: `src` is no such data set, has no such band or partition, or the folder of the images holds others.
        GeosslError: a file is damaged, or cannot be written.

    """
    folder = images_folder(out)
    found = _open(src, partition)
    encoder = None
    if run is not None:
        from geossl.models.weights import load_backbone

        encoder = load_backbone(run, backbone=backbone)
    elif backbone is not None:
        raise UsageError("--backbone: is for --run")
    chosen = _choose(found, bands, encoder)
    settings = {"source": str(src.resolve()), "bands": list(chosen.names)} | chosen.settings()
    begin_conversion(folder / SETTINGS, settings)

    samples = []
    with counted(found.title) as progress:
        for i in range(len(found.splits)):
            sample = found.describe(i)
            samples.append(sample)
            if sample.name.startswith(".") or {"/", "\\"} & set(sample.name):
                raise GeosslError(f"{src}: the name of a sample, {sample.name!r}, cannot be that of a file")
            file = folder / f"{sample.name}.tif"
            if not file.exists():
                pixels = chosen.of(found.pixels(i))
                write_geotiff(file, pixels, names=chosen.names, transform=sample.transform, crs=sample.crs)
            progress(i + 1, len(found.splits))
    listing = folder / "samples.parquet"
    with naming_full_disk(listing), replacing(listing) as target:
        pq.write_table(_listing(samples), target)
    index, report = build_index(listing, layout="geotiff", threads=threads)
    if report.rejected:
        path, reason = report.rejected[0]
        raise GeosslError(f"{folder / path}: was written, and cannot be indexed: {reason}")
    index.write(out)
    return Converted(title=found.title, folder=folder, bands=chosen.names, report=report, notes=_notes(found))


def _open(src: Path, partition: str) -> BenchmarkSet:
    if not src.exists():
        raise UsageError(f"{src}: no such file or folder")
    if is_geobench_v1(src):
        return GeobenchV1(src, partition=partition)
    if files := find_tortillas(src):
        if partition != "default":
            raise UsageError("--partition: is for GEO-Bench 1; the sets of GEO-Bench 2 have one")
        return GeobenchV2(files)
    inside = sorted(path.name for path in src.iterdir() if is_geobench_v1(path)) if src.is_dir() else []
    if inside:
        raise UsageError(f"{src}: holds several sets; give one: {', '.join(str(src / name) for name in inside)}")
    raise UsageError(
        f"{src}: not a set of GEO-Bench: a folder with task_specs.pkl (GEO-Bench 1), or a .tortilla (GEO-Bench 2)"
    )


def _choose(found: BenchmarkSet, bands: Sequence[str] | None, encoder: LoadedBackbone | None) -> _Pixels:
    if encoder is not None:
        chosen = encoder.chosen_bands or []
        if any(name.isdecimal() for name in chosen):
            raise UsageError(
                f"--run: it chose its bands by number ({','.join(chosen)}), and so it would in these images; "
                "only bands that are chosen by name are found in another data set"
            )
        wanted = bands_of(encoder, bands, option="--bands")
    else:
        wanted = list(found.bands) if bands is None else [band_name(name) for name in bands]
    missing = [name for name in wanted if name not in found.bands]
    if missing:
        raise UsageError(f"--bands: {found.title} has no {', '.join(missing)}; its bands are {', '.join(found.bands)}")
    if not wanted or len(set(wanted)) < len(wanted):
        raise UsageError(f"--bands {','.join(wanted)}: name each band once, and one at least")
    at = [found.bands.index(name) for name in wanted]
    if encoder is None:
        return _Pixels(names=tuple(wanted), bands=at, scale=None, offset=None)
    with counted("statistics") as progress:
        mean, std = training_moments(found, progress=progress)
    # A constant band has nothing to scale.
    scale = np.array(encoder.std) / np.where(std[at] > 0, std[at], 1.0)
    # The loader looks for the bands by the names that the run knows.
    names = tuple(encoder.chosen_bands or wanted)
    return _Pixels(names=names, bands=at, scale=scale, offset=np.array(encoder.mean) - mean[at] * scale)


def _notes(found: BenchmarkSet) -> list[str]:
    """Whether Sentinel-2's bands seem to have one another's names: nothing is as dark as its cirrus band."""
    published = found.published_moments()
    if published is None:
        return []
    mean = dict(zip(found.bands, published[0], strict=True))
    if mean.get("water_vapour", 1.0) >= mean.get("swir_cirrus", 0.0) / 10:
        return []
    return [SHIFTED]


def _listing(samples: list[Sample]) -> pa.Table:
    """What `geossl data index` reads of the images."""
    return pa.table(
        {
            "path": [f"{sample.name}.tif" for sample in samples],
            "category": [sample.category for sample in samples],
            "split": [sample.split for sample in samples],
            "lat": pa.array([sample.lat for sample in samples], pa.float64()),
            "lon": pa.array([sample.lon for sample in samples], pa.float64()),
            "timestamp": pa.array([sample.timestamp for sample in samples], pa.timestamp("us", tz="UTC")),
        }
    )
