"""TensorBoard's file of figures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from geossl.files import naming_full_disk
from geossl.training.folder import RESUME

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Board:
    """Writes an event file, in this thread: torch's SummaryWriter meets a full disk in another, and loses what a
    killed process had not written for up to two minutes.
    """

    def __init__(self, folder: Path, *, after: int) -> None:
        """Begin a file in the folder, which is made; what earlier files say of steps beyond `after` is void."""
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard knows event files by this part of the name, and reads them in the order of their names.
        begun = time.time_ns()
        self._path = folder / f"events.out.tfevents.{begun // 10**9}.{begun % 10**9:09}"
        with naming_full_disk(self._path, hint=RESUME):
            self._file = self._path.open("wb")
            self._records = RecordWriter(self._file)
            self._write(Event(file_version="brain.Event:2"))
            self._write(Event(step=after + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, figures: Mapping[str, float], *, step: int) -> None:
        """Note the figures of a completed step."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        with naming_full_disk(self._path, hint=RESUME):
            self._write(Event(step=step, summary=Summary(value=values)))

    def flush(self) -> None:
        """Have all figures in the file."""
        with naming_full_disk(self._path, hint=RESUME):
            self._file.flush()

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
