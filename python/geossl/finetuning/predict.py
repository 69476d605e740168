"""What a finetuned classifier says of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from geossl.config import LoaderConfig
from geossl.evaluate.features import extract
from geossl.models.precision import autocast

if TYPE_CHECKING:
    from geossl.finetuning.data import LabelledData
    from geossl.training.checkpoint import TrainState


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Of N test images that could be read; all on the CPU."""

    probabilities: torch.Tensor
    """Softmax of the classifier, float32 [N, C]."""
    labels: torch.Tensor
    """True class, 0..C-1, int64 [N]."""
    places: torch.Tensor
    """Code of the image's place (`Index.places`), int32 [N]."""
    rows: torch.Tensor
    """The image's row in the index, int64 [N]."""
    failures: list[tuple[str, str]]
    """Unreadable images that were left out: (path, reason)."""

    @property
    def top1(self) -> float:
        """Share of the images whose likeliest class is the true one."""
        return (self.probabilities.argmax(1) == self.labels).double().mean().item()


def predict(state: TrainState, data: LabelledData, *, title: str = "test images") -> Predictions:
    """Have the classifier of a run, in eval mode, look at the rows `data.test`, as the protocol tests.

    An image is its box with context, resized on the short side, and the central square.

    Args:
        state: the run; afterwards its encoder is in the mode that it was in.
        data: whose rows.
        title: what the progress bar says.

    Raises:
        GeosslError: no image can be read, or an output is not finite.

    """
    config, encoder = state.config, state.learner.encoder
    mean, std = config.color.mean, config.color.std
    if mean is None or std is None:
        raise ValueError("color.mean and color.std must be resolved")
    device = torch.device(config.device)

    def logits(images: torch.Tensor) -> torch.Tensor:
        with autocast(config.precision, device):
            output: torch.Tensor = encoder(images)
        return output

    training = encoder.training
    encoder.eval()
    try:
        found = extract(
            logits,
            index=data.index,
            rows=data.test,
            size=config.crop.size,
            mean=mean,
            std=std,
            context=config.crop.context,
            device=device,
            loader=LoaderConfig(**config.loader.model_dump(exclude={"on_error"}), on_error="skip"),
            title=title,
        )
    finally:
        encoder.train(training)
    return Predictions(
        probabilities=found.x.softmax(1),
        labels=torch.from_numpy(data.labels)[found.rows],
        places=found.places,
        rows=found.rows,
        failures=found.failures,
    )
