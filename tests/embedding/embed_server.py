"""Runs `embed`, see forked.py. A request has `run`, `data`, `out`, and `dies`, the number of the operation of the file
system on names with that of `out` in them before which the child is killed, or None.
"""

from pathlib import Path

import pyarrow.dataset  # noqa: F401 - imports pandas: seconds that every child would need
import pytest
from embedding_data import BATCH, small_pieces

from forked import die_at, serve
from geossl.embedding.embed import embed


def child(request: dict) -> int:
    out = Path(request["out"])
    if request["dies"] is not None:
        die_at(request["dies"], lambda name: out.name in name)
    small_pieces(pytest.MonkeyPatch())
    embed(Path(request["run"]), data=Path(request["data"]), out=out, batch=BATCH, device="cpu", threads=1)
    return 0


if __name__ == "__main__":
    serve(child)
