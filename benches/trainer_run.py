"""A trainer in a process of its own, perhaps in another environment: a `TrainJob` in, one JSON reply out.

    python trainer_run.py MODULE < job.json

The reply is {"losses", "ends", "versions"}, or {"error"}. Everything else that is printed goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict
from importlib.metadata import version

from trainer_job import TrainJob


def main() -> None:
    """Train, and reply."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        module = importlib.import_module(sys.argv[1])
        given = json.load(sys.stdin)
        steps = module.train(TrainJob(**given | {"scale": tuple(given["scale"])}))
        reply = asdict(steps) | {"versions": {name: version(name) for name in module.PACKAGES}}
    except Exception as e:  # noqa: BLE001 - whatever a library raises is the reason why it cannot take part
        reply = {"error": f"{type(e).__name__}: {' '.join(str(e).split())}"[:300]}
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
