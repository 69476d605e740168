"""GeoTIFFs of many bands: our loader beside rasterio and torchgeo, crops a second on one core, in one run.

Everybody makes the same crops of the same files: RandomResizedCrop(224, scale 0.2 to 1) without flips, all bands, in
batches of 32. The loader draws them from its seed; the peers are given its windows. One thread, files in the page
cache, which each crop opens anew. Beside them stands the floor: the codec's library alone on the strips or tiles under
the crops, from memory, with the predictor undone and nothing else.

A repetition is one pass of everybody, so that a machine that slows down slows everybody down; ratios are medians of
the repetitions' own ratios.

    python benches/geotiff.py                       with torchgeo, whose environment is made on first use (network)
    python benches/geotiff.py --peers rasterio,torch
    python benches/geotiff.py --quick               fewer images and crops
    python benches/geotiff.py --load FILE --report docs/benchmarks-geotiff.md --check
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

import contestants
import geotiff_report as report
from contestants import FLOOR, Contestant, Peer
from geotiff_report import REFERENCE
from geotiff_sets import LAYOUTS, TiffSet, describe, make_set
from measure import Process
from report import results_of
from work import BATCH, SCALE, SIZE, CropJob

PEERS = {
    "rasterio": Peer(REFERENCE, "peers.rasterio_window"),
    "torch": Peer("rasterio and torch", "peers.rasterio_torch"),
    "torchgeo": Peer("torchgeo", "peers.torchgeo_raster", "torchgeo.txt"),
}
SOURCES = ("files", "lossless")
SEED = 0
MEAN_APART = 0.01
"""How far the mean of a first batch may be from the others' before a loader is said to do other work."""


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def listed(names: list[str], separator: str) -> Any:
        def parse(text: str) -> list[str]:
            chosen = text.split(separator)
            if unknown := [name for name in chosen if name not in names]:
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {separator.join(names)}")
            return chosen

        return parse

    parser.add_argument("--quick", action="store_true", help="fewer images and crops, three repetitions")
    parser.add_argument(
        "--sets", type=listed(list(LAYOUTS), ";"), default=list(LAYOUTS), help=f"of {';'.join(LAYOUTS)}"
    )
    parser.add_argument("--peers", type=listed(list(PEERS), ","), default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--repetitions", type=int, help="by default 7, 3 if quick")
    parser.add_argument("--images", type=int, help="images of a set, by default 32, 16 if quick")
    parser.add_argument("--crops", type=int, help="crops of a pass, by default 192, 64 if quick")
    parser.add_argument("--work", type=Path, help="keep sets, packs and environments here; by default they are removed")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--load", type=Path, help="measure nothing: read the results of an earlier run")
    parser.add_argument("--report", type=Path, help="write the results here, in Markdown")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    return parser.parse_args()


def measured(chosen: argparse.Namespace, work: Path, console: Console) -> dict[str, Any]:
    """Make the sets and measure everybody. Raises RuntimeError without the floor, which tells the crops."""
    quick = chosen.quick
    repetitions = chosen.repetitions or (3 if quick else 7)
    images, crops = chosen.images or (16 if quick else 32), chosen.crops or (64 if quick else 192)
    results: dict[str, Any] = {
        "command": shlex.join(["python", "benches/geotiff.py", *sys.argv[1:]]),
        "machine": report.machine(),
        "settings": {"repetitions": repetitions, "crops": crops, "batch": BATCH, "size": SIZE, "scale": SCALE},
        "sets": [],
        "runs": [],
        "absences": [],
        "versions": {},
    }
    with console.status("making the peers' environments and the floor"):
        floor = contestants.floor("geotiff_floor")
        if floor.absent:
            raise RuntimeError(f"the floor, which tells the crops: {floor.absent}")
        everybody = [
            Contestant(
                name=f"geossl {source}", command=contestants.serve(sys.executable, "geotiff_ours"), source=source
            )
            for source in SOURCES
        ]
        everybody += contestants.peers([PEERS[key] for key in chosen.peers], work)
    results["absences"] = [{"loader": c.name, "reason": c.absent} for c in everybody if c.absent]
    log = work / "log.txt"
    processes = [Process(c, threads=1, log=log) for c in [*everybody, floor] if c.command]
    try:
        with console.status("") as status:
            for name in chosen.sets:
                status.update(f"{name}: making the images")
                made = make_set(name, work=work, images=images)
                results["sets"].append(describe(made))
                status.update(f"{name}: measuring")
                results["runs"] += measure(made, processes, results, packs=work / "packs")
    finally:
        for process in processes:
            process.close()
    results["machine"]["load_after"] = os.getloadavg()[0]
    return results


def measure(images: TiffSet, processes: list[Process], results: dict[str, Any], *, packs: Path) -> list[dict[str, Any]]:
    """Everybody on one set: crops a second of each repetition. Raises RuntimeError if somebody cannot do it."""
    repetitions, crops = results["settings"]["repetitions"], results["settings"]["crops"]
    floor = next(process for process in processes if process.contestant.name == FLOOR)
    told = {key: value for key, value in asdict(images).items() if key not in ("name", "index", "mebibytes", "ratio")}
    ask(floor, {"job": told | {"crops": crops, "seed": SEED, "size": SIZE, "scale": SCALE}}, images)
    windows = [ask(floor, {"windows": number}, images)["windows"] for number in range(repetitions + 1)]
    rates: dict[str, list[float]] = {process.contestant.name: [] for process in processes}
    means: dict[str, float] = {}
    for process in processes:
        contestant = process.contestant
        if contestant.name == FLOOR:
            continue
        job = CropJob(
            files=images.files,
            index=images.index,
            packs=str(packs / f"geotiff-{images.name.replace(', ', '-')}-{len(images.files)}"),
            bands=images.bands,
            windows=windows,
            source=contestant.source,
            seed=SEED,
        )
        answer = ask(process, {"job": asdict(job)}, images)
        batch = answer["batch"]
        if (batch["pairs"], batch["numbers"]) != (job.batch, images.bands * SIZE**2):
            raise RuntimeError(f"{contestant.name}: its batch is {batch}")
        means[contestant.name] = batch["mean"]
        results["versions"][contestant.name] = answer["versions"]
    if max(means.values()) > (1 + MEAN_APART) * min(means.values()):
        raise RuntimeError(f"{images.name}: not the same crops, as the means of the first batch tell: {means}")
    for number in range(1, repetitions + 1):
        for process in processes:
            answer = ask(process, {"pass": number}, images)
            rates[process.contestant.name].append(answer["pairs"] / answer["secs"])
    return [{"set": images.name, "loader": loader, "rates": values} for loader, values in rates.items()]


def ask(process: Process, request: dict[str, Any], images: TiffSet) -> dict[str, Any]:
    """The answer. Raises RuntimeError if there is none."""
    answer = process.ask(request)
    if "error" in answer:
        raise RuntimeError(f"{process.contestant.name}, {images.name}: {answer['error']}")
    return answer


def main() -> int:
    """Measure or load, show, write, check."""
    chosen, console = options(), Console(width=None if sys.stdout.isatty() else 160)
    results = results_of(chosen, measured)
    figures = report.Figures(results)
    report.show(console, figures)
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1) + "\n")
    if chosen.report:
        chosen.report.write_text(report.markdown(figures))
    missed = chosen.check and any(check.verdict == "missed" for check in figures.checks())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
