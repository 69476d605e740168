"""Train with the settings of a YAML file, and die of SIGKILL once a given step is logged."""

import os
import signal
import sys
from pathlib import Path

import torch

from geossl.config import make_config, read_yaml
from geossl.training import train
from geossl.training.log import RunLog


def main(settings: Path, last_step: int) -> None:
    log_step = RunLog.step

    def step(self: RunLog, count: int, **rest: object) -> None:
        log_step(self, count, **rest)
        if count == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    RunLog.step = step
    torch.set_num_threads(1)
    train(make_config(read_yaml(settings)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
