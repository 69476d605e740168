"""Runs `geossl train`, see forked.py; on request a child comes to grief.

A request has the `arguments` of the command line, the file `output` that it prints to, and `fate`, None or what happens
to it: `kind`, after how many `steps`, and `where` from 0 to 1.

Kinds: term and kill are sent at a random moment after the steps; kill_write and kill_file fall inside the next save,
while it writes the file or between the operations of the file system around that; disk_full lets the next save meet
a device that is full, disk_limit a file that may not grow any more. Both are the kernel's own doing.
"""

import os
import resource
import signal
import threading
import time

import torch

from forked import die_at, serve
from geossl.cli import main
from geossl.models import timm_models
from geossl.training import checkpoint
from geossl.training.log import RunLog


class Grief:
    """What happens to a child."""

    def __init__(self, kind, *, steps, where):
        self.kind, self.steps_left, self.where = kind, steps, where
        self.size, self.last_step = 0, time.perf_counter()
        save, log_step = checkpoint.save, RunLog.step

        def step(log, count, **rest):
            log_step(log, count, **rest)
            self.steps_left -= 1
            if self.steps_left == 0:
                self.prepare(log._path.parent)
            self.last_step = time.perf_counter()

        def saved(state, **rest):
            self.size = checkpoint.size(state)
            if self.steps_left <= 0:
                self.begin()
            save(state, **rest)

        RunLog.step, checkpoint.save = step, saved

    def prepare(self, run):
        """The steps are over."""
        if self.kind in {"term", "kill"}:
            number = signal.SIGTERM if self.kind == "term" else signal.SIGKILL
            # Within about two steps and what lies between them.
            delay = self.where * 2 * (time.perf_counter() - self.last_step)
            threading.Timer(delay, os.kill, (os.getpid(), number)).start()
        elif self.kind == "disk_full":
            (run / "checkpoints").mkdir(exist_ok=True)
            (run / "checkpoints" / ".last.pt.tmp").symlink_to("/dev/full")

    def begin(self):
        """The save begins that is not to end."""
        at = int(self.where * self.size)
        if self.kind == "disk_limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (at, resource.RLIM_INFINITY))
        elif self.kind == "kill_write":
            torch_save = torch.save
            torch.save = lambda content, file: torch_save(content, Mortal(file, at))
        elif self.kind == "kill_file":
            die_at(1 + int(self.where * 7), lambda _: True)


class Mortal:
    """A file whose writer dies at a given byte."""

    def __init__(self, file, at):
        self.file, self.left = file, at

    def write(self, data):
        data = bytes(data)
        if len(data) >= self.left:
            self.file.write(data[: self.left])
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= len(data)
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


def child(request):
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if request["fate"]:
        Grief(**request["fate"])
    return main(request["arguments"])


if __name__ == "__main__":
    timm_models.names()  # imports timm: seconds that every child would need
    serve(child)
