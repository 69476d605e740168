"""What a finetuned classifier says of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from geossl.config import LoaderConfig
from geossl.evaluate.features import extract
from geossl.evaluate.places import group_places
from geossl.evaluate.predictions import Fit, Predictions
from geossl.finetuning.classifier import NOTES
from geossl.models.precision import autocast

if TYPE_CHECKING:
    from geossl.finetuning.data import LabelledData
    from geossl.training.checkpoint import TrainState
    from geossl.training.learner import Learner


def predict(
    state: TrainState[Learner], data: LabelledData, *, title: str = "test images"
) -> tuple[Predictions, list[tuple[str, str]]]:
    """Have the classifier of a run, in eval mode, look at the rows `data.test`, as the protocol tests.

    An image is its box with context, resized on the short side, and the central square.

    Args:
        state: the run; afterwards its encoder is in the mode that it was in.
        data: whose rows.
        title: what the progress bar says.

    Returns:
        Of the images that could be read, and the others: (path, reason).

    Raises:
        GeosslError: no image can be read, or an output is not finite.

    """
    config, encoder = state.config, state.learner.encoder
    mean, std = config.color.normalization
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
    labels = torch.from_numpy(data.labels)[found.rows]
    # The classifier is linear: what it says of the mean feature is the mean of what it says.
    of_places = group_places(places=found.places.numpy(), labels=labels.numpy()).mean(found.x)
    notes = state.notes[NOTES]
    fit = Fit(
        encoder=notes["encoder"],
        method="finetune",
        labels=notes["settings"]["labels"],
        train_images=len(data.train),
        train_places=len(np.unique(data.index.places[data.train])),
        lr=config.optim.lr,
    )
    made = Predictions(
        fit=fit,
        probabilities=found.x.softmax(1),
        labels=labels,
        places=found.places,
        rows=found.rows,
        by_mean_feature=of_places.softmax(1),
    )
    return made, found.failures
