"""The device that the network runs on."""

from __future__ import annotations

import re

import torch

from geossl.errors import UsageError


def resolve_device(name: str) -> torch.device:
    """The device called auto, cpu, cuda or cuda:N. Raises UsageError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Looked at here, as torch.device wraps large numbers.
    asked = re.fullmatch(r"(cpu|cuda)(?::(\d+))?", name)
    if asked is None or (asked[1] == "cpu" and asked[2]):
        raise UsageError(f"device: unknown device {name}; use auto, cpu, cuda or cuda:N")
    if asked[1] == "cuda" and int(asked[2] or 0) >= torch.cuda.device_count():
        raise UsageError(f"device: {name} is not there ({torch.cuda.device_count()} CUDA devices found); use cpu")
    return torch.device(name)
