"""One step of training: from the loader's batch to moved weights."""

from __future__ import annotations

from contextlib import nullcontext
from functools import reduce
from typing import TYPE_CHECKING

import torch

from geossl.augment import augment
from geossl.models import batch_norm
from geossl.models.checkpointing import buffers_kept
from geossl.models.moco import MoCo
from geossl.models.precision import autocast
from geossl.models.seeds import generator
from geossl.phases import phase
from geossl.training.figures import gradient_norm
from geossl.training.learner import Outputs, Share
from geossl.training.ranks import ALONE

if TYPE_CHECKING:
    from torch import Tensor

    from geossl.config import TrainConfig
    from geossl.data.loader import Batch, Loader
    from geossl.training.learner import Learner
    from geossl.training.ranks import Ranks
    from geossl.training.targets import Targets


class Stepper:
    """Takes the steps of a run."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        loader: Loader,
        targets: Targets,
        ranks: Ranks = ALONE,
        mirror: float = 0.0,
    ) -> None:
        """Take steps with what is given here; nothing is copied.

        Args:
            config: the settings; everything automatic must be resolved.
            learner: on the device `config.device`.
            optimizer: of the learner's parameters.
            scaler: of the loss; see `geossl.models.precision`.
            loader: whose batches `step` gets.
            targets: what each row of the index is to predict.
            ranks: the processes that train together.
            mirror: probability that an image is mirrored left to right, where the loader's cut does not do it.

        """
        self._config, self._learner, self._optimizer, self._mirror = config, learner, optimizer, mirror
        self._scaler, self._loader, self._targets, self._ranks = scaler, loader, targets, ranks
        self._device = torch.device(config.device)
        self._mean, self._std = (torch.tensor(v, device=self._device) for v in config.color.normalization)

    def step(self, batch: Batch, *, number: int, logged: bool = True) -> tuple[dict[str, Tensor], int]:
        """Learn from a batch.

        Args:
            batch: as the loader gave it, this process's part of the global batch.
            number: steps taken before this one, over all epochs; decides how keys are shuffled.
            logged: whether the figures that only a row of metrics has are wanted.

        Returns:
            The figures, on the device, whose means over the processes are those of the global batch, and the
            number of images that all have learnt from.

        """
        views, rows = self.prepare(batch, number=number)
        learner, ranks, targets = self._learner, self._ranks, self._targets.of(rows, self._device)
        moco = learner.model if isinstance(learner.model, MoCo) else None
        keys = None
        if moco is not None:
            keys = self._encode_keys(moco, views[1], number)
        own = None if keys is None else keys[ranks.part(len(keys))]
        known = targets.known
        # Of the global batch, for each process, as their gradients are averaged.
        labelled = torch.zeros((), device=self._device) if known is None else ranks.total(known.sum()).clamp(min=1)
        self._optimizer.zero_grad()
        made = []
        for cut in batch_norm.in_parts(learner.encoder, len(rows), parts=self._config.accumulate):
            share = Share(
                images=(cut.stop - cut.start) / len(rows),
                known=labelled if known is None else known[cut].sum() * ranks.world / labelled,
            )
            with nullcontext() if cut.stop == len(rows) else learner.gathering():
                with phase("forward"):
                    key = None if own is None else own[cut]
                    part = learner.part(views[0, cut], keys=key, targets=targets.cut(cut), share=share)
                self._backward(part.loss)
            made.append(part)
        if moco is not None and keys is not None:
            moco.enqueue(keys)
        self._move()
        if ranks.world > 1:
            ranks.average(batch_norm.running_statistics(learner.model))
        figures = {name: reduce(torch.add, [part.figures[name] for part in made]) for name in made[0].figures}
        figures["grad_norm"] = gradient_norm([p.grad for p in learner.parameters() if p.grad is not None])
        if logged:
            figures |= learner.watch(Outputs.together([part.outputs for part in made]), targets, keys)
        return figures, len(rows) * ranks.world

    def _encode_keys(self, moco: MoCo, images: Tensor, number: int) -> Tensor:
        """The keys of the global batch, in its order, from this process's part of the images."""
        order = self._shuffle(len(images) * self._ranks.world, number)
        if order is not None:
            images = self._ranks.take(images, order)
        with phase("forward"), autocast(self._config.precision, self._device):
            keys = moco.encode_keys(images, parts=self._config.accumulate)
        keys = self._ranks.gather(keys)
        if order is None:
            return keys
        return torch.empty_like(keys).index_copy_(0, order.to(self._device, non_blocking=True), keys)

    @phase("backward")
    def _backward(self, loss: Tensor) -> None:
        scaled = self._scaler.scale(loss)
        with buffers_kept(self._learner.encoder) if self._config.model.checkpointing else nullcontext():
            scaled.backward()  # type: ignore[no-untyped-call]

    @phase("optimizer")
    def _move(self) -> None:
        """Move the weights; of fp16, only where no gradient has overflown."""
        # From here on, whoever looks at the gradients sees the loss's own.
        self._scaler.unscale_(self._optimizer)
        self._scaler.step(self._optimizer)
        self._scaler.update()

    @phase("augment")
    def prepare(self, batch: Batch, *, number: int) -> tuple[Tensor, Tensor]:
        """The batch's views on the device, augmented and normalised, float32 [V, B, C, H, W], and its rows, [B].

        A batch that unreadable images were left out of is shortened to whole groups of batch normalisation.
        """
        count = len(batch.rows[0])
        count -= count % self._config.model.bn_groups
        views = normalised(batch, count=count, loader=self._loader, device=self._device, mean=self._mean, std=self._std)
        return self._mirrored(views, number), batch.rows[0, :count]

    def _mirrored(self, views: Tensor, number: int) -> Tensor:
        """The views of some images mirrored left to right; which, the seed and the step alone say."""
        if not self._mirror:
            return views
        images = views.shape[1] * self._ranks.world
        drawn = which_mirrored(images, share=self._mirror, seed=self._config.seed, number=number)
        own = drawn[self._ranks.part(images)].to(self._device, non_blocking=True)
        return torch.where(own[:, None, None, None], views.flip(-1), views)

    def _shuffle(self, images: int, number: int) -> Tensor | None:
        """The order in which the global batch's keys are encoded, from the seed and the step alone; None is theirs."""
        if not self._learner.shuffles:
            return None
        return torch.randperm(images, generator=generator(self._config.seed, "shuffle", number))


def normalised(batch: Batch, *, count: int, loader: Loader, device: torch.device, mean: Tensor, std: Tensor) -> Tensor:
    """The first `count` images of a batch on the device, augmented and normalised, float32 [V, count, C, H, W]."""
    images = batch.to(device).images[:, :count]
    if loader.normalizes:
        return images
    color, gains = (values[:, :count].flatten(0, 1) for values in (batch.color, batch.gains))
    views = augment(images.flatten(0, 1), color, gains=gains, nodata=loader.nodata, mean=mean, std=std)
    return views.view(*images.shape[:2], *views.shape[1:])


def which_mirrored(images: int, *, share: float, seed: int, number: int) -> Tensor:
    """Which of a global batch's images are mirrored left to right, bool [images]; the seed and the step alone say."""
    return torch.rand(images, generator=generator(seed, "mirror", number)) < share
