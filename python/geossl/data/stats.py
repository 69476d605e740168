"""What a loader counts, to tell who waits for whom."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, kw_only=True)
class LoaderStats:
    """Counters since the loader was made, or between two readings (see `since`).

    Two signs tell who is slower: `wait_secs` grows and `queue_depth` is near 0 where the consumer waits for the
    loader, `idle_secs` grows where the loader's threads wait for the consumer.
    """

    images: int = 0
    """Images read and decoded."""
    bytes_read: int = 0
    """Bytes of files read."""
    work_secs: float = 0.0
    """Seconds that all decoding threads together spent on samples."""
    read_secs: float = 0.0
    """Those of them spent on reading."""
    decode_secs: float = 0.0
    """Those spent on decoding."""
    resample_secs: float = 0.0
    """Those spent on cutting and resampling views."""
    idle_secs: float = 0.0
    """Seconds that all decoding threads together waited for a slot, because the consumer was slower."""
    wait_secs: float = 0.0
    """Seconds that the consumer waited for batches: it was starved."""
    run_secs: float = 0.0
    """Seconds from the start of each iteration over the loader to its end."""
    batches: int = 0
    """Batches handed over."""
    ready_at_once: int = 0
    """Batches that were ready when they were asked for."""
    ready_sum: int = 0
    """Batches that were ready whenever one was asked for, added up."""
    ready_now: int = 0
    """Batches that are ready now."""
    slots: int = 0
    """Batches held in memory, the one in use among them."""
    failures: dict[str, int] = field(default_factory=dict)
    """Unreadable images so far by reason; numbers in a reason are left out, so that like ones count as one."""

    @property
    def ms_an_image(self) -> float:
        """Milliseconds that a decoding thread spent on an image: reading, decoding and resampling."""
        return 1e3 * self.work_secs / max(self.images, 1)

    @property
    def decode_ms(self) -> float:
        """Milliseconds that a thread spent on decoding an image."""
        return 1e3 * self.decode_secs / max(self.images, 1)

    @property
    def queue_depth(self) -> float:
        """Mean number of batches that were ready when one was asked for."""
        return self.ready_sum / max(self.batches, 1)

    @property
    def starved(self) -> float:
        """Share of the time, 0 to 1, that the consumer waited."""
        return min(self.wait_secs / max(self.run_secs, 1e-9), 1.0)

    @property
    def bytes_per_sec(self) -> float:
        """Bytes read in a second of iteration."""
        return self.bytes_read / max(self.run_secs, 1e-9)

    def since(self, earlier: LoaderStats) -> LoaderStats:
        """What was counted after an earlier reading; `failures` and `ready_now` stay as they are."""
        kept = {"ready_now", "slots", "failures"}
        names = [f.name for f in fields(self) if f.name not in kept]
        return replace(self, **{name: getattr(self, name) - getattr(earlier, name) for name in names})

    def __str__(self) -> str:
        """One line for people."""
        parts = [
            f"{self.ms_an_image:.1f} ms an image",
            f"{self.queue_depth:.1f} of {self.slots} batches ready",
            f"starved {self.wait_secs:.1f} s ({self.starved:.0%})",
            f"{self.bytes_per_sec / 1e6:.1f} MB/s",
        ]
        if self.failures:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self.failures.items())
            parts.append(f"{sum(self.failures.values())} unreadable ({reasons})")
        return ", ".join(parts)


def count_reasons(reasons: Iterable[str]) -> dict[str, int]:
    """How often each reason comes, the most frequent first; reasons that differ by numbers alone are one."""
    return dict(Counter(map(plain_reason, reasons)).most_common())


def plain_reason(reason: str) -> str:
    """A reason with N in place of its numbers, so that like ones are the same."""
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r" \(os error \d+\)", "", reason))
