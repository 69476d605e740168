"""docs/comparison.md has something to rest on in every cell, and what it says of geossl holds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOL = ROOT / "tools" / "comparison.py"
PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
CELL = re.compile(r"(yes|no|partly)(; (yes|no|partly))?")


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOL.parent))


def test_every_cell_rests_on_something_and_ours_holds() -> None:
    done = subprocess.run([sys.executable, TOOL], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "holds for geossl\n")


def test_cells_are_of_the_words_that_the_page_explains() -> None:
    from comparison import read_rows

    rows = read_rows(PAGE)
    assert sorted(rows) == list(range(1, len(rows) + 1))
    # What is counted or named, not answered.
    named = {8, 15, 20, 35, 36, 40, 53, 54}
    assert {row for row, cells in rows.items() if not all(CELL.fullmatch(cell) for cell in cells[1:])} == named


def test_gaps_are_found() -> None:
    from comparison import PROJECTS, find_gaps

    names = ", ".join(PROJECTS)
    page = f"| 1 | a feature | {' | '.join(['no'] * 7)} |\n\n- **1**\n  - {names}: no `word`\n"
    assert find_gaps(page) == []
    assert find_gaps(page.replace("| no |", "|", 1)) == ["row 1: 6 cells"]
    assert find_gaps(page.replace("no `word`", "no word")) == [f"row 1, {names}: neither a file nor a word"]
    assert find_gaps(page.replace(", lightly", "")) == [f"row 1: rests on {names.replace(', lightly', '')}"]
    assert find_gaps(page.replace("**1**", "**2**")) == ["row 1: rests on nothing", "row 2: is in no table"]


def test_what_does_not_hold_is_named(tmp_path: Path) -> None:
    from comparison import check

    page = "- **1**\n  - lightly, SatMAE: a long\n    line, `a/b.py::def one`, no `h3|dbscan`\n  - lightly: `c.md`\n"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.py").write_text("def one(): ...\n")
    (tmp_path / "c.md").write_text("H3\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_b.py").write_text("import h3\n")
    assert check(page, "lightly", [tmp_path]) == []
    (tmp_path / "a" / "b.py").write_text("def two(): H3\n")
    (tmp_path / "c.md").unlink()
    assert check(page, "lightly", [tmp_path]) == [
        "row 1, lightly: a/b.py does not have def one",
        f"row 1, lightly: h3|dbscan is in {tmp_path / 'a' / 'b.py'}",
        "row 1, lightly: c.md is not there",
    ]
    assert check(page, "torchgeo", [tmp_path]) == []
    assert "c.md" not in "".join(check(page, "SatMAE", [tmp_path]))
