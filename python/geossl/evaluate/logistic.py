"""Logistic regression by scikit-learn on standardised features: without the linear protocol's schedule, and seedless.

L-BFGS on the multinomial loss with an L2 penalty. Its strength is chosen, as the linear protocol's learning rate, on
held-out training places. On large sets it takes longer than the linear protocol.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from geossl.evaluate.validation import hold_out_places, merit

if TYPE_CHECKING:
    from collections.abc import Callable

C_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""What `choose_c` tries: scikit-learn's C, the inverse strength of the penalty."""
DEFAULT_C = 1.0
"""Where nothing is set aside to choose on: scikit-learn's default."""
MAX_ITER = 1000


def fit_logistic(
    *, x: torch.Tensor, y: torch.Tensor, classes: int, c: float
) -> tuple[Callable[[torch.Tensor], torch.Tensor], bool]:
    """Fit the classifier; features are standardised by their own means and standard deviations.

    Args:
        x: features, float32 [N, D], N >= 1.
        y: labels 0..classes-1, int64 [N].
        classes: number of outputs, C.
        c: inverse strength of the penalty, above 0.

    Returns:
        What makes probabilities, float32 [M, C], of features [M, D], 0 for a class that `y` lacks; and whether the
        fit came to its end within `MAX_ITER` steps.

    """
    known = torch.unique(y).cpu()
    scaler = StandardScaler()
    model = LogisticRegression(C=c, max_iter=MAX_ITER)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always", ConvergenceWarning)
        scaled = scaler.fit_transform(x.cpu().numpy())
        if len(known) > 1:
            model.fit(scaled, y.cpu().numpy())

    def predict(features: torch.Tensor) -> torch.Tensor:
        probabilities = torch.zeros(len(features), classes)
        if len(known) == 1:  # there is nothing to fit
            probabilities[:, known] = 1
        else:
            found = model.predict_proba(scaler.transform(features.cpu().numpy()))
            probabilities[:, known] = torch.from_numpy(found.astype(np.float32))
        return probabilities

    return predict, not raised


def choose_c(
    *,
    x: torch.Tensor,
    y: torch.Tensor,
    places: torch.Tensor,
    classes: int,
    seed: int,
    grid: tuple[float, ...] = C_GRID,
) -> float:
    """The C of `grid` with the best top-1 on held-out places of the training set.

    The places are those of `geossl.evaluate.linear.choose_lr`, and so are the arguments, and how equals are told apart.
    Where nothing is set aside it is `DEFAULT_C`.
    """
    held = hold_out_places(places=places, labels=y, seed=seed).to(x.device)
    if not held.any():
        return DEFAULT_C
    truth = y[held].cpu()
    merits = []
    for c in grid:
        predict, _ = fit_logistic(x=x[~held], y=y[~held], classes=classes, c=c)
        merits.append(merit(predict(x[held]), truth))
    return grid[merits.index(max(merits))]
