"""`geossl train` beside the MoCo of others: images a second from files to weights, and the losses on the way.

Each pass is a process that trains from scratch on the same files; the passes of everybody take turns. The clock starts
after the first steps, so that neither start-up nor the first batch counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contestants import environment
from trainer_job import TrainJob
from trainer_sets import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sets import ImageSet

TARGET = 1.3
"""Least ratio of our images a second to a peer's."""
WARM = 4
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """A trainer."""

    name: str
    module: str
    requirements: str = ""
    passes: int = 1
    """Passes through encoders that its loss makes of an image, ours being 1."""


OURS = Peer("geossl", "trainer_ours")
PEERS = [
    Peer("lightly", "peers.lightly_moco", "lightly.txt"),
    Peer("solo-learn (symmetric loss)", "peers.solo_moco", "solo-learn.txt", passes=2),
]


@dataclass(frozen=True)
class Pace:
    """A size of views and batches."""

    size: int
    batch: int
    steps: int


def measure(
    images: ImageSet, *, work: Path, paces: list[Pace], repetitions: int, peers: list[Peer]
) -> Iterator[str | dict[str, Any]]:
    """Yields what is being done, and last the results."""
    rows: list[dict[str, Any]] = []
    absences: dict[str, str] = {}
    versions: dict[str, dict[str, str]] = {}
    pythons = {OURS: Path(sys.executable)}
    for peer in peers:
        yield f"environment of {peer.name}"
        try:
            pythons[peer] = environment(peer.requirements, work)
        except RuntimeError as e:
            absences[peer.name] = str(e)
    for pace in paces:
        folder = make_folder(images, count=pace.steps * pace.batch, work=work)
        runs: dict[Peer, dict[str, Any]] = {
            peer: {"trainer": peer.name, "passes": peer.passes, "rates": [], "losses": []} for peer in pythons
        }
        for repetition in range(repetitions):
            for peer in [peer for peer in runs if peer.name not in absences]:
                yield f"{pace.size} pixels, repetition {repetition + 1} of {repetitions}: {peer.name}"
                reply = run(peer, pythons[peer], job(folder.images, folder.index, pace, seed=repetition))
                if "error" in reply:
                    absences[peer.name] = reply["error"]
                    continue
                versions[peer.name] = reply["versions"]
                ends = reply["ends"]
                runs[peer]["rates"].append((len(ends) - WARM) * pace.batch / (ends[-1] - ends[WARM - 1]))
                runs[peer]["losses"].append(reply["losses"])
        rows += [asdict(pace) | made for made in runs.values() if made["rates"]]
    yield {"runs": rows, "absences": absences, "versions": versions}


def job(images: Path, index: Path, pace: Pace, *, seed: int) -> TrainJob:
    """What everybody is asked for."""
    return TrainJob(
        folder=str(images),
        index=str(index),
        out="",
        steps=pace.steps,
        batch=pace.batch,
        size=pace.size,
        workers=2,
        queue=4 * pace.batch,
        seed=seed,
    )


def run(peer: Peer, python: Path, wanted: TrainJob) -> dict[str, Any]:
    """A pass in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        given = json.dumps(asdict(wanted) | {"out": str(Path(temporary) / "run")})
        command = [str(python), "-W", "ignore", str(HERE / "trainer_run.py"), peer.module]
        done = subprocess.run(command, input=given, env=os.environ, capture_output=True, text=True, check=False)
    try:
        reply: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        reply = {"error": f"its process ended with {done.returncode}: {' '.join(done.stderr.split())[-200:]}"}
    return reply
