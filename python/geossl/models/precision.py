"""The numbers that encoders compute with: float32, or bfloat16 or float16 where torch's autocast finds them good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from geossl.config import Precision

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A block in which encoders compute with these numbers; for fp32, nothing changes.

    Weights stay float32, and statistics of batch normalisation do. What comes out of an encoder is to be made float32
    before it is compared: eight bits are too few for cosines.
    """
    return torch.autocast(device.type, dtype=_DTYPES[precision], enabled=precision != "fp32")


def gradient_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """What scales the loss of fp16, whose small gradients would be 0; for the others it changes nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
