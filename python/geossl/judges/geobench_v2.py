"""The classification sets of GEO-Bench 2: tortilla files of samples, each a tortilla of one GeoTIFF a sensor.

Source: The-AI-Alliance/GEO-Bench-2 as the package geobenchv2 0.9 has it: geobench_v2/datasets/base.py reads the files
(the splits are in `tortilla:data_split`), geobench_v2/generate_benchmark/{forestnet,so2sat}.py wrote them. One class an
image have forestnet and so2sat; benv2 and treesatai have several, the others are no classification sets.
"""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from geossl.errors import GeosslError, UsageError
from geossl.judges.samples import SPLITS, Sample
from geossl.judges.tortilla import NESTED, inner_path, read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BANDS = {
    ("image", 6): ("blue", "green", "red", "nir", "swir_1", "swir_2"),
    ("s1", 2): ("vh", "vv"),
    ("s2", 10): (
        *("blue", "green", "red", "red_edge_1", "red_edge_2", "red_edge_3"),
        *("nir", "red_edge_4", "swir_1", "swir_2"),
    ),
}
"""Names of a sensor's bands, by its name and their number: the files do not name them. They are in the order in which
the generators write them: that of the bands' names in GEO-Bench 1, sorted."""


def find_tortillas(src: Path) -> list[Path]:
    """The tortilla that `src` is, or those in a folder, in the order of their parts."""
    if src.is_dir():
        return sorted(path for path in src.iterdir() if path.suffix in {".tortilla", ".taco"})
    return [src] if src.suffix in {".tortilla", ".taco"} else []


class GeobenchV2:
    """A classification set of GEO-Bench 2. A `BenchmarkSet`."""

    def __init__(self, files: list[Path]) -> None:
        """Read the tables.

        Args:
            files: the tortilla, or its parts.

        Raises:
            UsageError: the set has no labels of one class an image, or no splits.
            GeosslError: a file is damaged.

        """
        self.title = f"{files[0].name.split('.')[0]} of GEO-Bench 2"
        self._rows = [(file, row) for file in files for row in read_rows(file)]
        where = files[0]
        if not self._rows:
            raise UsageError(f"{where}: has no samples")
        columns = sorted(self._rows[0][1])
        if "labels" not in columns or "tortilla:data_split" not in columns:
            raise UsageError(
                f"{where}: no classification set of one class an image: it has no columns labels and "
                f"tortilla:data_split, but {', '.join(columns)}"
            )
        for _, row in self._rows:
            if not isinstance(row["labels"], str | int):
                raise UsageError(f"{where}: labels such as {row['labels']!r}; only sets of one class an image are read")
        try:
            self.splits = [SPLITS[row["tortilla:data_split"]] for _, row in self._rows]
        except KeyError as e:
            raise UsageError(f"{where}: a split {e}, which is not train, validation or test") from e
        names = [str(row["tortilla:id"]) for _, row in self._rows]
        if len(set(names)) < len(names):
            raise UsageError(f"{where}: samples of the same name")
        self._sensors = [(str(part["tortilla:id"]), self._opened(0, part)[0].shape[0]) for part in self._parts(0)]
        self.bands = tuple(name for sensor, count in self._sensors for name in _band_names(sensor, count))

    def describe(self, sample: int) -> Sample:
        """As `BenchmarkSet` says. Raises GeosslError for a damaged file."""
        _, row = self._rows[sample]
        _, transform, crs = self._opened(sample, self._parts(sample)[0], pixels=False)
        begin = row.get("stac:time_start")
        return Sample(
            name=str(row["tortilla:id"]),
            split=self.splits[sample],
            category=str(row["labels"]),
            transform=transform,
            crs=crs,
            lat=row.get("lat"),
            lon=row.get("lon"),
            # The format's times are seconds since 1970.
            timestamp=datetime.fromtimestamp(begin, UTC) if isinstance(begin, int | float) else None,
        )

    def pixels(self, sample: int) -> NDArray[Any]:
        """As `BenchmarkSet` says. Raises GeosslError for a damaged file, or one with other bands than the first."""
        parts = self._parts(sample)
        arrays = [self._opened(sample, part)[0] for part in parts]
        found = [(str(part["tortilla:id"]), array.shape[0]) for part, array in zip(parts, arrays, strict=True)]
        if found != self._sensors:
            raise GeosslError(f"{self._where(sample)}: has the bands {found}, where the first has {self._sensors}")
        if len({array.shape[1:] for array in arrays}) > 1:
            sizes = ", ".join(f"{part['tortilla:id']} {a.shape[1:]}" for part, a in zip(parts, arrays, strict=True))
            raise GeosslError(f"{self._where(sample)}: its sensors have images of different sizes: {sizes}")
        return np.concatenate(arrays)

    def published_moments(self) -> None:
        """None: the files do not have them."""

    def _where(self, sample: int) -> str:
        file, row = self._rows[sample]
        return f"{file}: {row['tortilla:id']}"

    def _parts(self, sample: int) -> list[dict[str, Any]]:
        """The rows of a sample's images, one a sensor."""
        file, row = self._rows[sample]
        return read_rows(file, offset=row["tortilla:offset"]) if row["tortilla:file_format"] == NESTED else [row]

    def _opened(
        self, sample: int, part: dict[str, Any], *, pixels: bool = True
    ) -> tuple[NDArray[Any], tuple[float, ...] | None, Any]:
        """An image's pixels, [bands, height, width], and its geotransform and CRS, or None."""
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(inner_path(self._rows[sample][0], part)) as image:
                    transform = None if image.transform.is_identity else tuple(image.transform)[:6]
                    return image.read() if pixels else np.empty(0), transform, image.crs
        except RasterioError as e:
            raise GeosslError(f"{self._where(sample)}: cannot be read: {' '.join(str(e).split())}") from e


def _band_names(sensor: str, count: int) -> tuple[str, ...]:
    return BANDS.get((sensor, count)) or tuple(f"{sensor}_{band}" for band in range(1, count + 1))
