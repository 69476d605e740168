"""Calls in forked children of one process, so that Python starts once; a child may be killed at an operation on files.

The process is a script that calls `serve`; a test talks to it through `Forked`. Each line of its standard input is a
request as JSON, and its answer a line with the child's exit code, or the signal that it died of as a negative number.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"}


class Forked:
    """Starts the script; each call is a child."""

    def __init__(self, script):
        here = str(Path(__file__).parent)
        path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": path}, **pipes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __call__(self, **request):
        """The child's exit code."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def serve(child):
    """Fork for each request, and exit with what `child` makes of it."""
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = child(json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def die_at(number, counts):
    """Kill this process before the operation of that number, from 1, on a file whose name `counts`."""
    left = number

    def audit(event, arguments):
        nonlocal left
        if event in FILE_EVENTS and counts(str(arguments[0])):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
