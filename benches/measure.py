"""Interleaved passes of everybody: what is measured, and how."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from contestants import FLOOR
from work import SIZE, Job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from contestants import Contestant
    from sets import ImageSet


@dataclass(frozen=True)
class Run:
    """One loader on one set in one mode with one number of threads."""

    set: str
    mode: str
    threads: int
    loader: str
    rates: list[float] = field(default_factory=list)
    """Pairs a second of each repetition."""


@dataclass(frozen=True)
class Absence:
    """A loader that took no part."""

    set: str
    mode: str
    loader: str
    reason: str


class Process:
    """A contestant with some number of threads, in a process of its own."""

    def __init__(self, contestant: Contestant, *, threads: int, log: Path) -> None:
        self.contestant, self.threads = contestant, threads
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                contestant.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # Libraries below the loader do not start threads of their own.
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; {"error"} if the process has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("made with pipes")
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except OSError:
            line = ""
        if not line:
            return {"error": f"its process ended with {self._process.wait()}; the log says why"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process: it stops when there are no more requests."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Bench:
    """Everybody's processes, and what they have measured so far."""

    def __init__(self, contestants: list[Contestant], *, threads: list[int], work: Path) -> None:
        log = work / "log.txt"
        log.write_text("")
        self.runs: list[Run] = []
        self.absences = [Absence("all", "all", c.name, c.absent) for c in contestants if c.absent]
        self.versions: dict[str, dict[str, str]] = {}
        self._packs = work / "packs"
        self._processes = [
            Process(contestant, threads=count, log=log)
            for contestant in contestants
            if contestant.command
            for count in threads
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.close()

    def measure(self, images: ImageSet, mode: str, *, repetitions: int) -> Iterator[str]:
        """Everybody on one set in one mode; yields what is being done."""
        ready = []
        for process in self._processes:
            name = process.contestant.name
            if name == FLOOR and mode == "float":
                continue  # the codec and the resize alone make no floats
            yield f"{images.name}, {mode}: {name} gets ready"
            reason = self._ready(process, images, mode)
            if not reason:
                ready.append((process, Run(images.name, mode, process.threads, name)))
            elif (absence := Absence(images.name, mode, name, reason)) not in self.absences:
                self.absences.append(absence)
        for repetition in range(1, repetitions + 1):
            yield f"{images.name}, {mode}: repetition {repetition} of {repetitions}"
            for process, run in ready:
                answer = process.ask({"pass": repetition})
                if "error" in answer:
                    raise RuntimeError(f"{run.loader}, {run.set}, {mode}: {answer['error']}")
                run.rates.append(answer["pairs"] / answer["secs"])
        self.runs += [run for _, run in ready]

    def _ready(self, process: Process, images: ImageSet, mode: str) -> str:
        """Give the process its job; an empty string, or why it cannot do it."""
        contestant = process.contestant
        job = Job(
            files=images.files,
            places=images.places,
            index=images.index,
            packs=str(self._packs / f"{images.name}-{len(images.files)}"),
            temporal=mode == "temporal",
            floats=mode == "float",
            threads=process.threads,
            pairs=images.pairs,
            source=contestant.source,
        )
        answer = process.ask({"job": asdict(job)})
        if "error" in answer:
            return str(answer["error"])
        if "versions" in answer:
            self.versions[contestant.name] = answer["versions"]
        made, wanted = answer.get("batch"), (job.batch, 2 * 3 * SIZE**2, "float32" if job.floats else "uint8")
        if made is not None and (made["pairs"], made["numbers"], made["dtype"]) != wanted:
            raise RuntimeError(f"{contestant.name}: its batch is {made}, where the others' is {wanted}")
        return ""
