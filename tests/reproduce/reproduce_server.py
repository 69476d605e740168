"""Runs a grid, see forked.py. A request has `grid`, `out`, and `dies`, the number of the operation of the file system
inside `out` before which the child is killed, or None; those of the planet, which is made as a whole, do not count.
"""

from pathlib import Path

from rich.console import Console

from forked import die_at, serve
from geossl.reproduce.grid import read_grid
from geossl.reproduce.runner import Reproduction


def child(request: dict) -> int:
    if request["dies"] is not None:
        die_at(request["dies"], lambda name: name.startswith(request["out"]) and "planet" not in name)
    grid, out, console = read_grid(request["grid"]), Path(request["out"]), Console(quiet=True)
    made = Reproduction(grid, "tiny", out=out, data=None, device="cpu", threads=1, console=console)
    made.prepare()
    return 0 if made.run() else 1


if __name__ == "__main__":
    serve(child)
