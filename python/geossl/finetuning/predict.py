"""What a finetuned classifier says of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from geossl.evaluate.features import extract
from geossl.evaluate.places import group_places
from geossl.evaluate.predictions import Fit, Predictions
from geossl.finetuning.classifier import NOTES
from geossl.models.precision import autocast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geossl.config import LoaderConfig, TrainConfig
    from geossl.data.index import Index
    from geossl.evaluate.features import Features
    from geossl.finetuning.data import LabelledData
    from geossl.models.backbone import Encoder
    from geossl.training.checkpoint import TrainState
    from geossl.training.learner import Learner


def classify_rows(
    encoder: Encoder,
    config: TrainConfig,
    *,
    index: Index,
    rows: NDArray[np.int64],
    loader: LoaderConfig,
    title: str,
    max_failures: float = 0.01,
) -> Features:
    """What a classifier says of rows of an index, as the protocol tests: logits, float32 [N, C], in place of features.

    Args:
        encoder: in eval mode on its device, with the classifier on it.
        config: of its run: size, mean and std, context, precision and device.
        index: the images.
        rows: int64 [N], which.
        loader: how they are read; those that cannot be are left out.
        title: what the progress bar says.
        max_failures: share of them that may be unreadable.

    Raises GeosslError: no image can be read, or an output is not finite.
    """
    mean, std = config.color.normalization
    device = torch.device(config.device)

    def logits(images: torch.Tensor) -> torch.Tensor:
        with autocast(config.precision, device):
            output: torch.Tensor = encoder(images)
        return output

    return extract(
        logits,
        index=index,
        rows=rows,
        size=config.crop.size,
        mean=mean,
        std=std,
        context=config.crop.context,
        device=device,
        loader=loader.model_copy(update={"on_error": "skip"}),
        max_failures=max_failures,
        title=title,
    )


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
    training = encoder.training
    encoder.eval()
    try:
        found = classify_rows(encoder, config, index=data.index, rows=data.test, loader=config.loader, title=title)
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
