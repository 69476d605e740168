"""The results of the geography bench: ratios, targets, tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from report import Sheet, page_head, show_sheets, tables

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The same work done by geossl and by a peer, in turn."""

    what: str
    """The work: "k-means, 234,908 cities, K = 100, 20 iterations"."""
    peer: str
    """Who did it beside us, with its version and way: the faster one where there are several."""
    ours: list[float]
    """Seconds of each repetition."""
    theirs: list[float]
    """Seconds of the peer in the same repetitions."""
    target: float
    """Least ratio of the peer's time to ours."""
    same: str
    """What was compared of the two results, and what was found."""
    agrees: bool
    """Whether that is as it has to be."""

    @property
    def ratio(self) -> float:
        """Median over the repetitions of the peer's time over ours."""
        return median(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))

    @property
    def verdict(self) -> str:
        """Met or missed; other results count as missed, however fast."""
        if not self.agrees:
            return "missed: other results"
        return "met" if self.ratio >= self.target else "missed"


def sheets(comparisons: list[Comparison]) -> list[Sheet]:
    """Times and ratios, and what was found equal."""
    times = [
        [c.what, c.peer, _spread(c.theirs), _spread(c.ours), f"{c.ratio:.1f}x", f"{c.target:g}x", c.verdict]
        for c in comparisons
    ]
    columns = ["work", "peer", "peer: median (least to most)", "geossl", "ratio", "target", ""]
    same = [[c.what, c.same] for c in comparisons]
    return [Sheet("Times", columns, times), Sheet("The same work", ["work", "what was compared"], same)]


def facts(results: dict[str, Any]) -> list[str]:
    """The machine and how it was measured."""
    about = results["machine"]
    return [
        (
            f"{about['cpu']}, {about['cores']} cores ({about['siblings']}), {about['system']}, "
            f"load average {about['load']:.1f} at the start and {about['load_after']:.1f} at the end"
        ),
        "repetitions of everybody in turn, on all cores; the ratio is the median of the repetitions' own",
    ]


def show(console: Console, results: dict[str, Any], comparisons: list[Comparison]) -> None:
    """Print the tables."""
    show_sheets(console, sheets(comparisons))
    for line in [*facts(results), results["command"]]:
        console.print(line, highlight=False)


def markdown(results: dict[str, Any], comparisons: list[Comparison]) -> str:
    """The page of the documentation."""
    lines = [
        *page_head(
            "Geography beside its peers",
            "Written by `benches/geography.py`, from one run of it; don't edit it.",
            facts=facts(results),
            command=results["command"],
        ),
        *tables(sheets(comparisons), results["versions"]),
    ]
    return "\n".join(lines) + "\n"


def packed(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    """As JSON."""
    return [asdict(comparison) for comparison in comparisons]


def _spread(secs: list[float]) -> str:
    return f"{_time(median(secs))} ({_time(min(secs))} to {_time(max(secs))})"


def _time(secs: float) -> str:
    return f"{secs * 1e3:.3g} ms" if secs < 1 else f"{secs:.3g} s"
