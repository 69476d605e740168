"""Runs `embed` in forked children, so that Python starts once; a child may be killed at an operation on its files.

Each line of standard input is a request as JSON: `run`, `data`, `out`, and `dies`, the number of the operation of the
file system on names that begin with that of `out` before which the child is killed, or None. The answer is a line with
its exit code, or the signal that it died of as a negative number.
"""

import json
import os
import signal
import sys
from pathlib import Path

import pyarrow.dataset  # noqa: F401 - imports pandas: seconds that every child would need
import pytest
import torch
from embedding_data import BATCH, small_pieces

from geossl.embedding.embed import embed

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}


def die_at(number: int, name: str) -> None:
    left = number

    def audit(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in EVENTS and name in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


def child(request: dict) -> int:
    out = Path(request["out"])
    if request["dies"] is not None:
        die_at(request["dies"], out.name)
    small_pieces(pytest.MonkeyPatch())
    embed(Path(request["run"]), data=Path(request["data"]), out=out, batch=BATCH, device="cpu", threads=1)
    return 0


def serve() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = child(json.loads(line))
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
