"""A loader in a process of its own, perhaps in another environment: one JSON request a line, one JSON reply a line.

    python serve.py MODULE

{"job": {...}} (the fields of `work.Job` or `work.CropJob`) makes MODULE's loader: {"ready": true, "versions", "batch"},
or {"error"}.
{"pass": k} runs pass k of it: {"pairs", "secs"}. Everything else that is printed goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from work import CropJob, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Passes = Callable[[int], Iterator[Any]]
    """From a pass's number to its batches, [pairs, ...] each: arrays or CPU tensors."""


def first_batch(passes: Passes) -> dict[str, Any]:
    """What a batch looks like, so that a loader that does other work than the rest is found out."""
    first: np.ndarray | None = None
    for batch in passes(0):  # to the end, as a pass left early might go on in the background
        first = np.asarray(batch).copy() if first is None else first
    if first is None:
        raise RuntimeError("a pass made no batch")
    return {"pairs": len(first), "numbers": first[0].size, "dtype": str(first.dtype), "mean": float(first.mean())}


def run(passes: Passes, number: int) -> dict[str, Any]:
    """One pass, timed from its start to its last batch."""
    started = time.perf_counter()
    pairs = sum(len(batch) for batch in passes(number))
    return {"pairs": pairs, "secs": time.perf_counter() - started}


def main() -> None:
    """Answer requests until there are no more."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not come between the replies
    passes: Passes | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "job" in request:
                passes = None  # stops the threads and processes of the last one
                module = importlib.import_module(sys.argv[1])
                passes = module.make((CropJob if "windows" in request["job"] else Job)(**request["job"]))
                versions = {name: version(name) for name in module.PACKAGES}
                reply: dict[str, Any] = {"ready": True, "versions": versions, "batch": first_batch(passes)}
            elif passes is None:
                reply = {"error": "a pass without a job"}
            else:
                reply = run(passes, request["pass"])
        except Exception as e:  # noqa: BLE001 - whatever a library raises is the reason why it cannot take part
            reply = {"error": f"{type(e).__name__}: {' '.join(str(e).split())}"[:300]}
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
