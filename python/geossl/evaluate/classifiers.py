"""The classifiers of a probe: each learns from features and labels, and predicts test images and places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch

from geossl.evaluate.knn import predict_knn
from geossl.evaluate.linear import choose_lr, fit_linear, predict_linear
from geossl.evaluate.logistic import choose_c, fit_logistic
from geossl.evaluate.validation import hold_out_places

if TYPE_CHECKING:
    from collections.abc import Callable

Method = Literal["linear", "knn", "logistic"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """What a classifier may learn from."""

    x: torch.Tensor
    """Features, float32 [N, D], on the device of the fit."""
    y: torch.Tensor
    """Classes 0..C-1, int64 [N], on the same device."""
    places: torch.Tensor
    """Code of each row's place, integer [N]."""
    classes: int
    """C."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """A classifier that was fitted."""

    predict: Callable[[torch.Tensor], torch.Tensor]
    """Class probabilities, float32 [M, C], of features [M, D]."""
    lr: float | None = None
    """Learning rate, given or chosen."""
    c: float | None = None
    """Inverse strength of the penalty, chosen."""
    validation_places: int | None = None
    """Places that a setting was chosen on; 0 where most classes have a single place, so that there was no choice."""
    converged: bool | None = None
    """Whether logistic regression came to its end."""


def fit(
    method: Method,
    data: Labelled,
    *,
    lr: float | None,
    seed: int,
    anew: Callable[[int], torch.Tensor] | None,
) -> Classifier:
    """Fit a classifier; what is not given is chosen on a part of `data`.

    Args:
        method: linear, knn or logistic.
        data: features and labels.
        lr: learning rate of the linear classifier; by default the best of `linear.LR_GRID`.
        seed: seed of the draws.
        anew: gives each epoch of the linear classifier its own features of the same rows.

    Raises:
        GeosslError: the linear classifier diverged.

    """
    x, y, places, classes = data.x, data.y, data.places, data.classes
    if method == "knn":
        return Classifier(predict=lambda test: predict_knn(train_x=x, train_y=y, test_x=test, classes=classes))
    validation_places = len(torch.unique(places[hold_out_places(places=places, labels=y, seed=seed)]))
    if method == "logistic":
        c = choose_c(x=x, y=y, places=places, classes=classes, seed=seed)
        predict, converged = fit_logistic(x=x, y=y, classes=classes, c=c)
        return Classifier(predict=predict, c=c, validation_places=validation_places, converged=converged)
    chosen = choose_lr(x=x, y=y, places=places, classes=classes, seed=seed) if lr is None else lr
    weight, bias = fit_linear(x=x, y=y, classes=classes, lr=chosen, seed=seed, anew=anew)
    return Classifier(
        predict=lambda test: predict_linear(x=test, weight=weight, bias=bias),
        lr=chosen,
        validation_places=validation_places if lr is None else None,
    )
