"""A detector or segmenter as the training loop has it, and its steps."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from geossl.models import batch_norm
from geossl.models.precision import autocast
from geossl.models.seeds import seeded
from geossl.phases import phase
from geossl.training.figures import gradient_norm
from geossl.training.ranks import ALONE
from geossl.training.step import normalised, which_mirrored

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from geossl.config import TrainConfig
    from geossl.data.loader import Batch, Loader
    from geossl.models.backbone import Encoder
    from geossl.training.ranks import Ranks

Targets = object
"""What a task's model takes beside images in training, of a batch."""


class TransferLearner:
    """The network of a task on an encoder."""

    head = None
    """The geo head, which only pretraining has."""

    def __init__(
        self, model: nn.Module, *, encoder: Encoder, bn: str, device: torch.device, ranks: Ranks = ALONE
    ) -> None:
        """Move the model to the device, and put it into the mode that it trains in.

        Args:
            model: in training, (images, targets) -> {name: loss}; the loss is their sum.
            encoder: whose body is part of the model.
            bn: whether batch normalisation of the body keeps its statistics (eval) or takes each batch's own (train).
            device: where to.
            ranks: the processes that train together, over which gradients are averaged.

        """
        self.model, self.encoder, self._bn = model, encoder, bn
        model.to(device).to(memory_format=torch.channels_last)
        self.train()
        self.trained: nn.Module = model
        """What a forward pass with gradients goes through."""
        if ranks.world > 1:
            with warnings.catch_warnings():
                # Newer versions of torch prefer another name, which 2.6 has not.
                warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
                # As in `geossl.training.learner`: it keeps the order in which gradients are summed.
                ordered = device.type == "cpu" and ranks.world > 2
                self.trained = DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=ordered)

    def train(self) -> None:
        """Put the model into the mode that it trains in."""
        self.model.train()
        self.encoder.body.train(self._bn == "train")

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer trains."""
        return [p for p in self.model.parameters() if p.requires_grad]


class TransferStepper:
    """Takes the steps of a transfer."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        learner: TransferLearner,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        loader: Loader,
        targets: Callable[[Tensor, Tensor, torch.device], Targets],
        ranks: Ranks = ALONE,
        mirror: float,
    ) -> None:
        """Take steps with what is given here; nothing is copied.

        Args:
            config: the settings; everything automatic must be resolved.
            learner: on the device `config.device`.
            optimizer: of the learner's parameters.
            scaler: of the loss.
            loader: whose batches `step` gets.
            targets: of chips (int64 [B]), and whether each is mirrored (bool [B]), on a device.
            ranks: the processes that train together.
            mirror: probability that an image is mirrored left to right.

        """
        self._config, self._learner, self._optimizer, self._scaler = config, learner, optimizer, scaler
        self._loader, self._targets, self._ranks, self._mirror = loader, targets, ranks, mirror
        self._device = torch.device(config.device)
        self._mean, self._std = (torch.tensor(v, device=self._device) for v in config.color.normalization)

    def step(self, batch: Batch, *, number: int, logged: bool = True) -> tuple[dict[str, Tensor], int]:
        """Learn from a batch, as `geossl.training.step.Stepper.step`."""
        del logged
        views, chips = self.prepare(batch, number=number)
        targets = self._targets(chips, self._mirrored(len(chips), number), self._device)
        self._optimizer.zero_grad()
        # What a head drops at random is drawn from the seed and the step alone, whatever was interrupted before.
        dropout = seeded(self._config.seed, f"step {number}")
        with phase("forward"), autocast(self._config.precision, self._device), dropout:
            losses: dict[str, Tensor] = self._learner.trained(views[0], targets)
        losses = {name: value.float() for name, value in losses.items()}
        loss = torch.stack(list(losses.values())).sum()
        with phase("backward"):
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        with phase("optimizer"):
            self._scaler.unscale_(self._optimizer)
            self._scaler.step(self._optimizer)
            self._scaler.update()
        if self._ranks.world > 1:
            self._ranks.average(batch_norm.running_statistics(self._learner.model))
        parts = {name: value.detach() for name, value in losses.items()} if len(losses) > 1 else {}
        figures = {"loss": loss.detach(), **parts}
        figures["grad_norm"] = gradient_norm([p.grad for p in self._learner.parameters() if p.grad is not None])
        return figures, len(chips) * self._ranks.world

    @phase("augment")
    def prepare(self, batch: Batch, *, number: int) -> tuple[Tensor, Tensor]:
        """The images on the device, normalised and mirrored, float32 [1, B, C, S, S], and their chips, int64 [B]."""
        chips = batch.rows[0].cpu()
        count = len(chips)
        views = normalised(batch, count=count, loader=self._loader, device=self._device, mean=self._mean, std=self._std)
        own = self._mirrored(count, number).to(self._device)
        return torch.where(own[:, None, None, None], views.flip(-1), views), chips

    def _mirrored(self, count: int, number: int) -> Tensor:
        images = count * self._ranks.world
        drawn = which_mirrored(images, share=self._mirror, seed=self._config.seed, number=number)
        return drawn[self._ranks.part(images)]
