"""Check what docs/comparison.md rests on: that the files and texts it names are there, and the words it misses are not.

    python tools/comparison.py
    python tools/comparison.py --source torchgeo=FOLDER --source lightly=WHEEL --source lightly=CHECKOUT ...

geossl is read in this checkout, the others where `--source` says: folders of an unpacked wheel or a checkout, of which
the first that has a file counts. Nothing is fetched. The exit code is 1 if something does not hold.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "comparison.md"
PROJECTS = ("geossl", "GASSL", "torchgeo", "lightly", "solo-learn", "stable-pretraining", "SatMAE")
CITED = re.compile(r"`((?:[\w.+-]+/)*[\w.+-]+\.(?:ipynb|md|py|rst|sbatch|toml|yaml))(?:::([^`]+))?`")
"""A file of the project, and a text in it."""
MISSED = re.compile(r"\bno `([^`]+)`")
"""A regular expression that none of the project's Python files has."""
TESTS = {"tests", "test"}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the cells of some projects in a row rest on."""

    row: int
    projects: tuple[str, ...]
    text: str

    @property
    def cited(self) -> list[tuple[str, str]]:
        """Files and the texts in them; an empty text where the file is enough."""
        return CITED.findall(self.text)

    @property
    def missed(self) -> list[str]:
        """Expressions that are nowhere."""
        return MISSED.findall(self.text)


def read_rows(page: str) -> dict[int, list[str]]:
    """The numbered rows of the page's tables: the cells, a feature and one for each project."""
    rows = {}
    for line in page.splitlines():
        if found := re.match(r"\| (\d+) \|(.*)\|$", line):
            rows[int(found[1])] = [cell.strip() for cell in found[2].split("|")]
    return rows


def read_evidence(page: str) -> list[Evidence]:
    """The lists under "What each cell rests on"; an item goes on in lines that are further to the right."""
    items: list[Evidence] = []
    row = 0
    joined = re.sub(r"\n {4,}", " ", page)
    for line in joined.splitlines():
        if found := re.fullmatch(r"- \*\*(\d+)\*\*", line):
            row = int(found[1])
        elif found := re.match(r"  - ([^:`]+): (.*)", line):
            items.append(Evidence(row=row, projects=tuple(found[1].split(", ")), text=found[2]))
    return items


def find_gaps(page: str) -> list[str]:
    """Rows without a cell for each project, and cells that rest on nothing."""
    rows = read_rows(page)
    held: dict[int, list[str]] = defaultdict(list)
    gaps = [f"row {row}: {len(cells) - 1} cells" for row, cells in rows.items() if len(cells) != 1 + len(PROJECTS)]
    for item in read_evidence(page):
        if not item.cited and not item.missed:
            gaps.append(f"row {item.row}, {', '.join(item.projects)}: neither a file nor a word")
        held[item.row] += item.projects
    for row in sorted(rows.keys() | held.keys()):
        if row not in rows:
            gaps.append(f"row {row}: is in no table")
        elif sorted(held[row]) != sorted(PROJECTS):
            gaps.append(f"row {row}: rests on {', '.join(held[row]) or 'nothing'}")
    return gaps


def _is_aside(parts: tuple[str, ...]) -> bool:
    """Whether a file is a test, or another package's, in an environment that lies in the checkout."""
    return bool((TESTS | {"site-packages"}).intersection(parts))


def check(page: str, project: str, sources: list[Path]) -> list[str]:
    """What the page says of a project and its sources do not bear out, a line each."""
    faults = []
    python = [
        (file, file.read_text(encoding="utf-8", errors="replace"))
        for source in sources
        for file in sorted(source.rglob("*.py"))
        if not _is_aside(file.relative_to(source).parts)
    ]
    for item in read_evidence(page):
        if project not in item.projects:
            continue
        for name, text in item.cited:
            file = next((source / name for source in sources if (source / name).is_file()), None)
            if file is None:
                faults.append(f"row {item.row}, {project}: {name} is not there")
            elif text not in file.read_text(encoding="utf-8", errors="replace"):
                faults.append(f"row {item.row}, {project}: {name} does not have {text}")
        for word in item.missed:
            seen = re.compile(word, re.IGNORECASE)
            files = [str(file) for file, content in python if seen.search(content)]
            if files:
                faults.append(f"row {item.row}, {project}: {word} is in {', '.join(files[:3])}")
    return faults


def main() -> int:
    """Check the page's form, our own column, and those whose sources are given."""
    parser = argparse.ArgumentParser(description="Check what docs/comparison.md rests on.")
    parser.add_argument("--source", metavar="NAME=FOLDER", action="append", default=[], help="where a project lies")
    sources: dict[str, list[Path]] = defaultdict(list)
    for given in parser.parse_args().source:
        name, _, folder = given.partition("=")
        if name not in PROJECTS[1:] or not Path(folder).is_dir():
            parser.error(f"--source {given}: takes one of {', '.join(PROJECTS[1:])}, =, and a folder that is there")
        sources[name].append(Path(folder))
    page = PAGE.read_text(encoding="utf-8")
    faults = [*find_gaps(page), *check(page, "geossl", [ROOT])]
    for name, folders in sources.items():
        faults += check(page, name, folders)
    print("\n".join(faults) or f"holds for {', '.join(['geossl', *sources])}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
