"""Whether torch.compile works on this machine."""

from __future__ import annotations

import torch

from geossl.errors import UsageError


def check_compiler(device: torch.device) -> None:
    """Compile something small for the device: what a compiler lacks is better said now than in the first step.

    Raises UsageError, with the reason, where that fails.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as e:  # torch raises errors of many kinds here, of its own and of the tools that it runs
        said = str(e).strip().partition("\n")[0]
        what = "torch cannot compile on this machine; install a C++ compiler, such as g++, or leave compile out"
        raise UsageError(f"compile: {what} ({said})") from e
