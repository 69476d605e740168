"""What a library of models gives: a classification model without its classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import nn


class Body(NamedTuple):
    """A model that gives the pooled feature, and what loading weights into it has to know."""

    module: nn.Module
    """float32 [B, bands, H, W] -> [B, F]."""
    classifier: tuple[str, ...]
    """Names of the classifiers that were taken away, which a file of weights may have."""
    first: tuple[str, ...]
    """Names of the convolutions that see the image's bands."""
