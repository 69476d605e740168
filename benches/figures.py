"""What follows from the raw rates: ratios, and whether the targets are met."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from contestants import FLOOR, REFERENCE

if TYPE_CHECKING:
    from measure import Run

OURS = "geossl "


@dataclass(frozen=True, kw_only=True)
class Target:
    """Least values that one of our sources shall reach on a set, in a mode, with any number of threads."""

    mode: str
    set: str
    source: str
    best: float | None = None
    """Against the best of the peers."""
    pil: float | None = None
    """Against torchvision PIL."""
    floor: float | None = None
    """Share of the floor."""
    scaling: float | None = None
    """Two threads against one."""


TARGETS = [
    Target(mode="temporal", set="900x700", source="files", best=1.5, pil=3.5, floor=0.9, scaling=1.85),
    Target(mode="temporal", set="900x700", source="lossless", best=2.2, pil=5),
    Target(mode="temporal", set="900x700", source="sized", best=5, pil=12),
    Target(mode="two-views", set="400", source="files", best=1.1, pil=2, floor=0.9, scaling=1.85),
    Target(mode="two-views", set="900x700", source="files", best=1.4, pil=2.5, floor=0.9, scaling=1.85),
    Target(mode="two-views", set="900x700", source="lossless", best=2, pil=4),
    Target(mode="two-views", set="900x700", source="sized", best=2, pil=4),
    Target(mode="float", set="900x700", source="sized", best=5, pil=15),
]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One target and what was measured."""

    what: str
    threads: str
    least: float
    measured: float | None
    """None where somebody that it takes was not there."""

    @property
    def verdict(self) -> str:
        """Met, missed or not measured."""
        if self.measured is None:
            return "not measured"
        return "met" if self.measured >= self.least else "missed"


class Figures:
    """The rates of a run of the bench, by set, mode, number of threads and loader."""

    def __init__(self, runs: list[Run]) -> None:
        self.rates = {(run.set, run.mode, run.threads, run.loader): run.rates for run in runs}
        self.threads = sorted({run.threads for run in runs})
        self.modes = list(dict.fromkeys(run.mode for run in runs))
        self.sets = list(dict.fromkeys(run.set for run in runs))
        self.loaders = list(dict.fromkeys(run.loader for run in runs))

    def rate(self, name: str, mode: str, threads: int, loader: str) -> float | None:
        """Median pairs a second."""
        rates = self.rates.get((name, mode, threads, loader))
        return median(rates) if rates else None

    def ratio(self, name: str, mode: str, threads: int, loader: str, other: str) -> float | None:
        """Median over the repetitions of one loader's rate over the other's."""
        return self._ratio((name, mode, threads, loader), (name, mode, threads, other))

    def scaling(self, name: str, mode: str, loader: str) -> float | None:
        """Two threads against one."""
        return self._ratio((name, mode, 2, loader), (name, mode, 1, loader))

    def best_peer(self, name: str, mode: str, threads: int) -> str | None:
        """The peer that makes the most pairs."""
        rates = {
            loader: rate
            for loader in self.loaders
            if not loader.startswith(OURS) and loader != FLOOR
            if (rate := self.rate(name, mode, threads, loader)) is not None
        }
        return max(rates, key=lambda loader: rates[loader]) if rates else None

    def checks(self) -> list[Check]:
        """Every target beside its measurement."""
        return [check for target in TARGETS for check in self._check(target)]

    def _check(self, target: Target) -> list[Check]:
        loader, checks = f"{OURS}{target.source}", []

        def add(what: str, threads: str, least: float | None, measured: float | None) -> None:
            if least is not None:
                text = f"{target.mode}, {target.set}, {target.source}: {what}"
                checks.append(Check(what=text, threads=threads, least=least, measured=measured))

        for threads in self.threads:
            where = (target.set, target.mode, threads, loader)
            best = self.best_peer(target.set, target.mode, threads)
            against = f"the best peer ({best})" if best else "the best peer"
            add(f"against {against}", str(threads), target.best, self.ratio(*where, best) if best else None)
            add("against torchvision PIL", str(threads), target.pil, self.ratio(*where, REFERENCE))
            add("share of the floor", str(threads), target.floor, self.ratio(*where, FLOOR))
        add("two threads against one", "2", target.scaling, self.scaling(target.set, target.mode, loader))
        return checks

    def _ratio(self, of: tuple[str, str, int, str], to: tuple[str, str, int, str]) -> float | None:
        above, below = self.rates.get(of), self.rates.get(to)
        if not above or not below:
            return None
        return median(a / b for a, b in zip(above, below, strict=True))
