"""solo-learn's MoCo: its module, transform and loader, its training step in a plain loop without Lightning's costs.

Its loss is symmetric (MoCo-v2+): each image's both views are queries and keys, which is twice the passes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from solo.methods import MoCoV2Plus
from solo.utils.pretrain_dataloader import (
    prepare_dataloader,
    prepare_datasets,
    prepare_n_crop_transform,
    prepare_transform,
)

from trainer_job import Steps

if TYPE_CHECKING:
    from trainer_job import TrainJob

PACKAGES = ("solo-learn", "pytorch-lightning", "torch", "torchvision")


class Quiet(MoCoV2Plus):
    """Without a Lightning trainer, there is nothing to log to."""

    def log(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    def log_dict(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


def train(job: TrainJob) -> Steps:
    """One pass over the folder."""
    torch.manual_seed(job.seed)
    model = Quiet(
        encoder=job.backbone,
        num_classes=2,
        backbone_args={},
        max_epochs=1,
        batch_size=job.batch,
        optimizer="sgd",
        lars=False,
        lr=job.lr,
        weight_decay=job.weight_decay,
        classifier_lr=job.lr,
        exclude_bias_n_norm=False,
        accumulate_grad_batches=1,
        extra_optimizer_args={"momentum": 0.9},
        scheduler="none",
        min_lr=0.0,
        warmup_start_lr=0.0,
        warmup_epochs=0,
        num_large_crops=2,
        num_small_crops=0,
        base_tau_momentum=job.momentum,
        final_tau_momentum=job.momentum,
        momentum_classifier=False,
        proj_output_dim=job.dim,
        proj_hidden_dim=job.features,
        temperature=job.temperature,
        queue_size=job.queue,
    )
    optimizer = model.configure_optimizers()
    colors = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    transform = prepare_transform("custom", crop_size=job.size, min_scale=job.scale[0], **colors)
    crops = prepare_n_crop_transform([transform], num_crops_per_aug=[2])
    folder = Path(job.folder)
    images = prepare_datasets("custom", crops, data_dir=folder.parent, train_dir=folder.name, no_labels=True)
    steps = Steps()
    unknown = torch.full((job.batch,), -1)
    for number, (index, views, *_) in enumerate(prepare_dataloader(images, job.batch, job.workers)):
        loss = model.training_step([index, views, unknown], number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for pair in model.momentum_pairs:
            model.momentum_updater.update(*pair)
        steps.note(loss.item())
    return steps
