"""Runs a grid in forked children, so that Python starts once; a child may be killed at an operation on its files.

Each line of standard input is a request as JSON: `grid`, `out`, and `dies`, the number of the operation of the file
system inside `out` before which the child is killed, or None; those of the planet, which is made as a whole, do not
count. The answer is a line with its exit code, or the signal
that it died of as a negative number.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from rich.console import Console

from geossl.reproduce.grid import read_grid
from geossl.reproduce.runner import Reproduction

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}


def die_at(number: int, folder: str) -> None:
    left = number

    def audit(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in EVENTS and str(arguments[0]).startswith(folder) and "planet" not in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


def child(request: dict) -> int:
    if request["dies"] is not None:
        die_at(request["dies"], request["out"])
    out, console = Path(request["out"]), Console(quiet=True)
    made = Reproduction(
        read_grid(request["grid"]), "tiny", out=out, data=None, device="cpu", threads=1, console=console
    )
    made.prepare()
    return 0 if made.run() else 1


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
