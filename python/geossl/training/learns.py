"""What the training loop asks of what it trains: of pretraining, a classifier, a detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from geossl.data.loader import Batch
    from geossl.models.backbone import Encoder


class Learns(Protocol):
    """A model with what is trained of it."""

    @property
    def model(self) -> nn.Module:
        """What a checkpoint keeps."""

    @property
    def head(self) -> nn.Module | None:
        """The geo head, which a checkpoint keeps apart."""

    @property
    def encoder(self) -> Encoder:
        """The encoder, part of the model."""

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer trains."""


class Steps(Protocol):
    """Takes the steps of a run."""

    def step(self, batch: Batch, *, number: int, logged: bool = True) -> tuple[dict[str, Tensor], int]:
        """Learn from a batch: the figures, `loss` and `grad_norm` among them, and the number of images.

        Args:
            batch: as the loader gave it.
            number: steps taken before this one.
            logged: whether the figures that only a row of metrics has are wanted.

        """

    def prepare(self, batch: Batch, *, number: int) -> tuple[Tensor, Tensor]:
        """The batch's views as the network sees them, float32 [V, B, C, H, W], and its rows, [B]."""


L = TypeVar("L", bound=Learns)
