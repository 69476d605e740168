"""lightly's MoCo, put together as its documentation does it: its dataset, transform, head, loss and momentum update."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import MoCoV2Transform

from trainer_job import Steps

if TYPE_CHECKING:
    from trainer_job import TrainJob

PACKAGES = ("lightly", "torch", "torchvision")


def train(job: TrainJob) -> Steps:
    """One pass over the folder."""
    torch.manual_seed(job.seed)
    backbone = getattr(torchvision.models, job.backbone)()
    backbone.fc = torch.nn.Identity()
    head = MoCoProjectionHead(job.features, job.features, job.dim)
    backbone_k, head_k = copy.deepcopy(backbone), copy.deepcopy(head)
    for module in (backbone_k, head_k):
        deactivate_requires_grad(module)
    loss_of = NTXentLoss(temperature=job.temperature, memory_bank_size=(job.queue, job.dim))
    optimizer = torch.optim.SGD(
        [*backbone.parameters(), *head.parameters()], lr=job.lr, momentum=0.9, weight_decay=job.weight_decay
    )
    transform = MoCoV2Transform(input_size=job.size, min_scale=job.scale[0], sigmas=job.sigma)
    loader = torch.utils.data.DataLoader(
        LightlyDataset(job.folder, transform=transform),
        batch_size=job.batch,
        shuffle=True,
        drop_last=True,
        num_workers=job.workers,
    )
    steps = Steps()
    for (query, key), *_ in loader:
        update_momentum(backbone, backbone_k, m=job.momentum)
        update_momentum(head, head_k, m=job.momentum)
        q = head(backbone(query).flatten(start_dim=1))
        with torch.no_grad():
            k = head_k(backbone_k(key).flatten(start_dim=1))
        loss = loss_of(q, k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps.note(loss.item())
    return steps
