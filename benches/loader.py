"""The loader beside its peers: pairs of views a second, from the same JPEG files, in one run.

Everybody does the same work: decodes the files, cuts views by RandomResizedCrop(224, scale 0.2 to 1), flips half of
them, and puts 32 pairs into a batch. Modes: `two-views` of one image, `temporal` pairs, and `float`, which adds
MoCo-v2's colour changes and normalisation on the CPU. Beside them stands the floor: libjpeg-turbo and the resize
alone on the same crops, from memory. The mode `step` is another question: how long a training step waits for data.

A repetition is one pass of everybody, with each number of threads, so that a machine that slows down slows everybody
down; ratios are medians of the repetitions' own ratios. With one thread a DataLoader has no workers, else that many.

    python benches/loader.py                        the sets, modes and loaders of the project's own environment
    python benches/loader.py --quick                the same on two sets, about two minutes
    python benches/loader.py --peers all            every peer; environments are made on first use (needs the network)
    python benches/loader.py --modes step           how long a training step waits
    python benches/loader.py --load FILE --report docs/benchmarks.md --plot docs/benchmarks.svg --check
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
import report
from figures import Figures
from measure import Bench, Run
from report import results_of
from sets import SHAPES, describe, make_set
from work import BATCH, MODES, SIZE

ROOT = Path(__file__).resolve().parents[1]
STEP, STEP_SET = "step", "900x700"
QUICK_SETS = ["400", "900x700"]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def listed(names: list[str], also: dict[str, list[str]]) -> Any:
        def parse(text: str) -> list[str]:
            chosen = also.get(text) or text.split(",")
            if unknown := [name for name in chosen if name not in names]:
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join([*also, *names])}")
            return chosen

        return parse

    everybody = [*contestants.PEERS, contestants.FLOOR]
    usual = [*contestants.DEFAULT_PEERS, contestants.FLOOR]
    none: dict[str, list[str]] = {}
    parser.add_argument("--quick", action="store_true", help="two sets, short passes, three repetitions")
    parser.add_argument("--sets", type=listed(list(SHAPES), none), help=f"of {', '.join(SHAPES)}")
    modes = [*MODES, STEP]
    parser.add_argument("--modes", type=listed(modes, none), default=modes, help=f"of {', '.join(modes)}")
    sources = list(contestants.SOURCES)
    parser.add_argument("--sources", type=listed(sources, none), default=sources, help=f"of {', '.join(sources)}")
    parser.add_argument(
        "--peers",
        type=listed(everybody, {"all": everybody}),
        default=usual,
        help=f"all, or of {', '.join(everybody)}; by default {', '.join(usual)}",
    )
    parser.add_argument("--threads", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2], help="1,2")
    parser.add_argument("--repetitions", type=int, help="by default 5, 3 if quick")
    parser.add_argument("--images", type=int, default=0, help="images of a set, if not as many as usual")
    parser.add_argument("--pairs", type=int, default=0, help="pairs of a pass, if not as many as usual")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="real imagery: naip/, bmng/")
    parser.add_argument("--work", type=Path, help="keep sets, packs and environments here; by default they are removed")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--load", type=Path, help="measure nothing: read the results of an earlier run")
    parser.add_argument("--report", type=Path, help="write the results here, in Markdown")
    parser.add_argument("--plot", type=Path, help="draw the results here, .svg or .png")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target that was measured is missed")
    return parser.parse_args()


def measured(chosen: argparse.Namespace, work: Path, console: Console) -> dict[str, Any]:
    """Everything that is asked for, as it is written to the JSON file."""
    quick = chosen.quick
    names = chosen.sets or (QUICK_SETS if quick else list(SHAPES))
    repetitions = chosen.repetitions or (3 if quick else 5)
    images, pairs = chosen.images or (60 if quick else 0), chosen.pairs or (64 if quick else 0)
    modes = [mode for mode in chosen.modes if mode != STEP]
    results: dict[str, Any] = {
        "command": shlex.join(["python", "benches/loader.py", *sys.argv[1:]]),
        "machine": report.machine(),
        "settings": {"repetitions": repetitions, "batch": BATCH, "size": SIZE, "threads": chosen.threads},
        "sets": [],
    }
    with console.status("making the peers' environments and the floor"):
        chosen_peers = [contestants.PEERS[key] for key in chosen.peers if key in contestants.PEERS]
        everybody = contestants.ours(chosen.sources) if modes else []
        everybody += contestants.peers(chosen_peers, work) if modes else []
        everybody += [contestants.floor()] if modes and contestants.FLOOR in chosen.peers else []
    with Bench(everybody, threads=chosen.threads, work=work) as bench, console.status("") as status:
        for name in names if modes else []:
            status.update(f"{name}: making the images")
            made = make_set(name, work=work, data=chosen.data, images=images, pairs=pairs)
            results["sets"].append(describe(made))
            for mode in modes:
                for doing in bench.measure(made, mode, repetitions=repetitions):
                    status.update(doing)
    results |= {"versions": bench.versions, "step": []}
    if STEP in chosen.modes:
        import step  # here, as it imports torch

        name = STEP_SET if STEP_SET in names else names[-1]
        with console.status(f"training on {name}"):
            made = make_set(name, work=work, data=chosen.data, images=images)
            results["step"] = step.measure(made, steps=4 if quick else 8, repetitions=2 if quick else 3)
    results["machine"]["load_after"] = os.getloadavg()[0]
    results["runs"] = [asdict(run) for run in bench.runs]
    results["absences"] = [asdict(absence) for absence in bench.absences]
    return results


def main() -> int:
    """Measure or load, show, write, check."""
    chosen, console = options(), Console(width=None if sys.stdout.isatty() else 160)
    results = results_of(chosen, measured)
    figures = Figures([Run(**run) for run in results["runs"]])
    report.show(console, results, figures)
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1) + "\n")
    if chosen.plot and figures.rates:
        report.plot(figures, chosen.plot)
    if chosen.report:
        # The page links to a plot that lies beside it.
        beside = chosen.report.with_suffix(".svg")
        picture = chosen.plot or (beside if beside.is_file() else None)
        link = os.path.relpath(picture, chosen.report.parent) if picture else None
        chosen.report.write_text(report.markdown(results, figures, link))
    missed = chosen.check and any(check.verdict == "missed" for check in figures.checks())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
