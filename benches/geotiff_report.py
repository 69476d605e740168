"""The results of the GeoTIFF bench: ratios, targets, tables."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from contestants import FLOOR
from figures import Check
from geotiff_sets import LAYOUTS, LEAST_PACK, LEAST_SHARE
from report import Sheet, machine, number, page_head, show_sheets, tables

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["REFERENCE", "Figures", "machine", "markdown", "show"]

REFERENCE = "rasterio"
FILES, PACK = "geossl files", "geossl lossless"


class Figures:
    """The rates of a run of the bench, by set and loader, and what follows from them."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results
        self.rates: dict[tuple[str, str], list[float]] = {
            (run["set"], run["loader"]): run["rates"] for run in results["runs"]
        }
        self.sets: list[dict[str, Any]] = results["sets"]
        self.loaders = list(dict.fromkeys(run["loader"] for run in results["runs"]))

    def ratio(self, name: str, loader: str, other: str) -> float | None:
        """Median over the repetitions of one loader's rate over the other's."""
        above, below = self.rates.get((name, loader)), self.rates.get((name, other))
        if not above or not below:
            return None
        return median(a / b for a, b in zip(above, below, strict=True))

    def checks(self) -> list[Check]:
        """Every target beside its measurement."""
        made = []
        for row in self.sets:
            name = row["name"]

            def add(what: str, least: float, loader: str, other: str, name: str = name) -> None:
                measured = self.ratio(name, loader, other)
                made.append(Check(what=f"{name}: {what}", threads="1", least=least, measured=measured))

            add("files against rasterio", LAYOUTS[name].least, FILES, REFERENCE)
            add("lossless pack against rasterio", LEAST_PACK, PACK, REFERENCE)
            if row["codec"] != "none":  # nothing is decoded there
                add("files, share of the codec alone", LEAST_SHARE, FILES, FLOOR)
        return made

    def sheets(self) -> list[Sheet]:
        """Everything that was measured."""
        made = [self._rates()]
        checks = [[c.what, f"{c.least:g}x", number(c.measured, 2), c.verdict] for c in self.checks()]
        made.append(Sheet("Targets", ["what", "target", "measured", ""], checks))
        sets = [
            [
                row["name"],
                f"{row['images']} of {row['bands']} x {row['side']} x {row['side']}",
                "strips" if row["block"][0] == row["side"] else "tiles",
                f"{row['block'][0]} x {row['block'][1]}",
                "bands" if row["planar"] else "pixels",
                str(row["predictor"]),
                f"{row['ratio']:.2f}",
            ]
            for row in self.sets
        ]
        columns = ["set", "images, uint16", "in", "of", "one after the other", "predictor", "bytes of samples per byte"]
        made.append(Sheet("Sets", columns, sets))
        if self.results["absences"]:
            rows = [[absence["loader"], absence["reason"]] for absence in self.results["absences"]]
            made.append(Sheet("Not measured", ["loader", "why"], rows))
        return made

    def facts(self) -> str:
        """The machine and how it was measured, on a few lines."""
        about, settings = self.results["machine"], self.results["settings"]
        low, high = settings["scale"]
        return (
            f"{about['cpu']}, {about['cores']} cores ({about['siblings']}), {about['system']}, "
            f"load average {about['load']:.1f} at the start and {about['load_after']:.1f} at the end\n"
            f"{settings['repetitions']} interleaved repetitions of {settings['crops']} crops, medians; "
            f"RandomResizedCrop({settings['size']}, scale {low:g} to {high:g}), batches of {settings['batch']}, one "
            f"thread; files in the page cache\n"
            f"{self.results['command']}"
        )

    def _rates(self) -> Sheet:
        rows = [
            [
                row["name"],
                "codec alone" if loader == FLOOR else loader,
                number(median(values), 0),
                f"{min(values):.0f} to {max(values):.0f}",
                number(self.ratio(row["name"], loader, REFERENCE), 2),
                number(self.ratio(row["name"], loader, FLOOR), 2),
            ]
            for row in self.sets
            for loader in self.loaders
            if (values := self.rates.get((row["name"], loader)))
        ]
        columns = ["set", "loader", "crops/s", "least to most", "against rasterio", "share of the codec alone"]
        return Sheet("Crops a second on one core", columns, rows)


def show(console: Console, figures: Figures) -> None:
    """Print the tables."""
    show_sheets(console, figures.sheets())
    console.print(figures.facts(), highlight=False)


def markdown(figures: Figures) -> str:
    """The page of the documentation."""
    lines = page_head(
        "GeoTIFFs of many bands: the loader beside rasterio and torchgeo",
        "Written by `benches/geotiff.py`, from one run of it; don't edit it. Everybody makes the same crops of the",
        "same made images, with all bands: the loader draws the windows, the peers are given them. `rasterio`",
        "resamples as it reads (`out_shape`, bilinear); `rasterio and torch` reads the pixels and resamples them with",
        "`interpolate(antialias=True)`; `torchgeo` is a `RasterDataset` that is asked for coordinates and a",
        "resolution. The codec alone is its library on the strips or tiles under the crops, from memory, with the",
        "predictor undone: no reading, no putting together, no resampling.",
        facts=figures.facts().splitlines()[:-1],
        command=figures.results["command"],
    )
    lines += tables(figures.sheets(), figures.results["versions"])
    return "\n".join(lines) + "\n"
