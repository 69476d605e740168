"""The trainer beside a hand-written loop and beside its peers, in one run.

Three questions: what a step costs beside the same step written by hand; how long a step of ResNet-50 waits for its
images; and how many images a second go from files to weights beside lightly and solo-learn, on the same losses.

    python benches/trainer.py                      everything; environments of the peers are made (needs the network)
    python benches/trainer.py --quick              fewer steps
    python benches/trainer.py --only overhead
    python benches/trainer.py --load FILE --report docs/benchmarks-trainer.md --check
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

import trainer_overhead
import trainer_peers
import trainer_report as report
import trainer_wait
from report import machine, results_of
from sets import make_set
from trainer_peers import Pace

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("overhead", "wait", "peers")
SET = "400"


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be given again")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="real imagery: naip/, bmng/")
    parser.add_argument("--work", type=Path, help="keep sets and environments here; by default they are removed")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--load", type=Path, help="measure nothing: read the results of an earlier run")
    parser.add_argument("--report", type=Path, help="write the results here, in Markdown")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target that was measured is missed")
    return parser.parse_args()


def measured(chosen: argparse.Namespace, work: Path, console: Console) -> dict[str, Any]:
    """Everything chosen, as it is written to the JSON file."""
    quick, parts = chosen.quick, chosen.only or PARTS
    results: dict[str, Any] = {
        "command": shlex.join(["python", "benches/trainer.py", *sys.argv[1:]]),
        "machine": machine(),
    }
    with console.status("making the images") as status:
        images = make_set(SET, work=work, data=chosen.data)
        results["set"] = f"{len(images.files)} JPEGs of 400 x 400 from {images.origin}, again and again"
        if "overhead" in parts:
            status.update("our step and one by hand")
            many, few = (12, 2) if quick else (150, 24)
            results["overhead"] = trainer_overhead.measure(images, work=work, steps=many, large_steps=few)
        if "wait" in parts:
            status.update("waiting for data")
            results["wait"] = trainer_wait.measure(images, work=work, steps=2 if quick else 12)
        if "peers" in parts:
            paces = [Pace(32, 64, 10)] if quick else [Pace(32, 64, 120), Pace(112, 32, 40)]
            repetitions = 2 if quick else 3
            everybody = trainer_peers.measure(
                images, work=work, paces=paces, repetitions=repetitions, peers=trainer_peers.PEERS
            )
            for said in everybody:
                if isinstance(said, dict):
                    results["peers"] = said
                else:
                    status.update(said)
    results["machine"]["load_after"] = os.getloadavg()[0]
    return results


def main() -> int:
    """Measure or load, show, write, check."""
    chosen, console = options(), Console(width=None if sys.stdout.isatty() else 160)
    results = results_of(chosen, measured)
    report.show(console, results)
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1) + "\n")
    if chosen.report:
        chosen.report.write_text(report.markdown(results))
    return 1 if chosen.check and report.missed(results) else 0


if __name__ == "__main__":
    sys.exit(main())
