"""Momentum contrast: a query and a key encoder, and a queue of keys as negatives.

MoCo (arXiv 1911.05722, algorithm 1) with MoCo-v2's projection (arXiv 2003.04297). Parameters and buffers are
named as in the paper's released code, so that checkpoints are read both ways.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from geossl.models import split_batch_norm
from geossl.models.backbone import build_backbone, features, num_features
from geossl.models.heads import projection_head
from geossl.models.seeds import generator, seeded

if TYPE_CHECKING:
    from torch import Tensor


class MocoOutput(NamedTuple):
    """What one step of MoCo gives."""

    logits: Tensor
    """float32 [B, 1 + K]: similarity of each query to its key, then to the queue, over the temperature."""
    projection: Tensor
    """float32 [B, dim]: the query's projection, before its normalisation."""
    feature: Tensor
    """float32 [B, F]: the query's feature, before the projection."""


class MoCo(nn.Module):
    """Query encoder, momentum key encoder and queue.

    Each encoder is the backbone with the projection as its `fc`. Weights and queue are drawn from the seed;
    torch's global generator is left alone.
    """

    queue: Tensor  # float32 [dim, K], unit columns
    queue_ptr: Tensor  # int64 [1], the column that the next key is written to

    def __init__(
        self,
        *,
        backbone: str,
        bands: int,
        dim: int,
        queue: int,
        momentum: float,
        temperature: float,
        bn_groups: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.encoder_q = build_encoder(backbone, bands=bands, dim=dim, seed=seed)
        if bn_groups > 1:
            split_batch_norm.convert(self.encoder_q, groups=bn_groups)
        self.encoder_k = copy.deepcopy(self.encoder_q).requires_grad_(requires_grad=False)
        columns = torch.randn(dim, queue, generator=generator(seed, "queue"))
        self.register_buffer("queue", F.normalize(columns, dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.int64))

    def forward(self, query: Tensor, key: Tensor, *, shuffle: Tensor | None = None) -> MocoOutput:
        """Move the key encoder, compare queries with keys, and put the keys into the queue.

        Args:
            query: float32 [B, C, H, W].
            key: float32 [B, C, H, W], the positives, in the queries' order.
            shuffle: int64 [B], a permutation of the batch: the keys are encoded in this order, so that the
                groups that batch normalisation sees are not the query's. None leaves them in order.

        """
        feature = features(self.encoder_q, query)
        projection: Tensor = self.encoder_q.get_submodule("fc")(feature)
        q = F.normalize(projection)
        with torch.no_grad():
            self.update_key_encoder()
            k = F.normalize(encode_shuffled(self.encoder_k, key, shuffle))
        positive = (q * k).sum(1, keepdim=True)
        # The queue changes below, and the backward pass needs it as it is now.
        negative = q @ self.queue.clone()
        self.enqueue(k)
        return MocoOutput(torch.cat([positive, negative], 1) / self.temperature, projection, feature)

    @torch.no_grad()
    def update_key_encoder(self) -> None:
        """Move the key encoder's parameters: key = momentum * key + (1 - momentum) * query."""
        for k, q in zip(self.encoder_k.parameters(), self.encoder_q.parameters(), strict=True):
            k.lerp_(q, 1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Write the keys, float32 [B, dim], over the oldest of the queue, going round at its end."""
        size = self.queue.shape[1]
        columns = (self.queue_ptr + torch.arange(len(keys), device=keys.device)) % size
        self.queue.index_copy_(1, columns, keys.T)
        self.queue_ptr.add_(len(keys)).remainder_(size)


def build_encoder(backbone: str, *, bands: int, dim: int, seed: int) -> nn.Module:
    """The backbone with MoCo-v2's projection to `dim` as its `fc`, weights drawn from the seed."""
    encoder = build_backbone(backbone, bands=bands, seed=seed)
    with seeded(seed, "projection"):
        encoder.fc = projection_head(features=num_features(encoder), dim=dim)
    return encoder


def encode_shuffled(encoder: nn.Module, images: Tensor, shuffle: Tensor | None) -> Tensor:
    """Encode the images in the order `shuffle`, and give the results back in the images' own order."""
    if shuffle is None:
        result: Tensor = encoder(images)
        return result
    shuffled = encoder(images[shuffle])
    return torch.empty_like(shuffled).index_copy_(0, shuffle, shuffled)
