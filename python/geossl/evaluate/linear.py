"""The frozen protocol: a linear classifier on features that no longer change.

Source: "Geography-Aware Self-Supervised Learning" (ICCV 2021), section 5.1, and the linear-classification
settings of its released code: a linear layer ~ N(0, 0.01) with bias 0, SGD with momentum 0.9 and no weight
decay, batches of 256, 100 epochs, the learning rate x0.1 at 60 and 80, features as the encoder gives them.

Where ours differs: theirs reports the best epoch *on the test set*, ours the last one; theirs sets the
learning rate by hand, ours by `choose_lr`, on a part of the training places.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from geossl.errors import GeosslError
from geossl.evaluate.validation import hold_out_places, merit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LR_GRID = (0.001, 0.01, 0.1, 1.0, 10.0, 30.0)
"""What `choose_lr` tries: 1 is the paper's, 30 MoCo's; longer features (a random encoder) need less."""
PUBLISHED_LR = 1.0
"""Where nothing is set aside to choose on: the paper's, or the next lower of the grid that does not diverge."""
MOMENTUM = 0.9


def fit_linear(
    *,
    x: torch.Tensor,
    y: torch.Tensor,
    classes: int,
    lr: float,
    epochs: int = 100,
    batch: int = 256,
    milestones: tuple[int, ...] = (60, 80),
    seed: int,
    anew: Callable[[int], torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit softmax regression by the frozen protocol; the weights of the last epoch.

    Every epoch goes through the rows in a new order (`torch.randperm` of a CPU generator that is seeded once
    with `seed` and has first drawn the initial weight); the last, smaller batch counts too. On the CPU it runs
    in one thread, so that the result does not depend on the number of cores.

    Args:
        x: features, float32 [N, D]; the fit runs on their device.
        y: labels 0..classes-1, int64 [N], on the same device.
        classes: number of outputs, C.
        lr: learning rate of the first epochs.
        epochs: passes over the rows.
        batch: rows a step.
        milestones: epochs (from 0) at whose start the learning rate falls to a tenth.
        seed: seed of the initial weight and of the order.
        anew: gives each epoch (from 0) its own features in place of `x`, of the same rows: new random crops.

    Returns:
        weight float32 [C, D] and bias float32 [C], on the device of `x`.

    Raises:
        GeosslError: the fit diverged (`lr` is too large for these features).

    """
    device = x.device
    draw = torch.Generator().manual_seed(seed)
    weight = torch.empty(classes, x.shape[1]).normal_(0, 0.01, generator=draw).to(device)
    bias = torch.zeros(classes, device=device)
    weight_step, bias_step = torch.zeros_like(weight), torch.zeros_like(bias)
    # The gradient is written out: at this size autograd and torch.optim would cost more than the arithmetic.
    with torch.no_grad(), _one_thread():
        for epoch in range(epochs):
            if anew is not None:
                x = anew(epoch).to(device)
            lr_now = lr * 0.1 ** sum(epoch >= m for m in milestones)
            for rows in torch.split(torch.randperm(len(x), generator=draw).to(device), batch):
                features = x[rows]
                error = torch.addmm(bias, features, weight.T).softmax(dim=1)
                error[torch.arange(len(rows), device=device), y[rows]] -= 1
                error /= len(rows)
                weight_step.mul_(MOMENTUM).addmm_(error.T, features)
                bias_step.mul_(MOMENTUM).add_(error.sum(dim=0))
                weight.sub_(weight_step, alpha=lr_now)
                bias.sub_(bias_step, alpha=lr_now)
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise GeosslError(f"the linear classifier diverged at learning rate {lr:g}: give a lower --lr")
    return weight, bias


def predict_linear(*, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Class probabilities (softmax), float32 [N, C], of features float32 [N, D]."""
    return torch.addmm(bias, x, weight.T).softmax(dim=1)


def choose_lr(
    *,
    x: torch.Tensor,
    y: torch.Tensor,
    places: torch.Tensor,
    classes: int,
    seed: int,
    grid: tuple[float, ...] = LR_GRID,
) -> float:
    """The learning rate of `grid` with the best top-1 on held-out places of the training set.

    A fifth of each class's places is set aside whole, and equals are told apart, by `geossl.evaluate.validation`; a
    rate that diverges is left out. Where most classes have a single place, nothing is set aside, and it is
    `PUBLISHED_LR`.

    Args:
        x: training features, float32 [N, D].
        y: training labels, int64 [N], on the same device.
        places: code of each row's place, integer [N].
        classes: number of outputs, C.
        seed: seed of the draw of places, and of the fits.
        grid: learning rates to try.

    Raises:
        GeosslError: every rate diverged.

    """
    held = hold_out_places(places=places, labels=y, seed=seed).to(x.device)
    if not held.any():
        grid = tuple(sorted((lr for lr in grid if lr <= PUBLISHED_LR), reverse=True))
    best_lr, best = None, (-1.0, 0.0)
    for lr in grid:
        try:
            weight, bias = fit_linear(x=x[~held], y=y[~held], classes=classes, lr=lr, seed=seed)
        except GeosslError:
            continue
        if not held.any():
            return lr
        found = merit(predict_linear(x=x[held], weight=weight, bias=bias), y[held])
        if found > best:
            best_lr, best = lr, found
    if best_lr is None:
        raise GeosslError(f"the linear classifier diverged at every learning rate of {grid}: give --lr")
    return best_lr


@contextmanager
def _one_thread() -> Iterator[None]:
    """One CPU thread inside the block: steps of a millisecond gain little by more, and on a busy machine, where
    threads wait for each other at every step, they become ten times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
