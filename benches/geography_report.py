"""One comparison of the geography bench."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Something done here and by a peer, on the same input, in turns."""

    what: str
    """The task and its size."""
    peer: str
    """Who else did it; the fastest of several."""
    ours: list[float]
    """Seconds of each repetition, interleaved with the peer's."""
    theirs: list[float]
    target: float
    """Least ratio of theirs to ours."""
    same: str
    """What of the results was compared, and what was found."""
    agrees: bool
    """Whether that is as it has to be."""
