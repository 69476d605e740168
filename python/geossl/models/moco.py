"""Momentum contrast: a query and a key encoder, and a queue of keys as negatives.

MoCo (arXiv 1911.05722, algorithm 1) with MoCo-v2's projection (arXiv 2003.04297). Parameters and buffers are
named as in the paper's released code, so that checkpoints are read both ways.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from geossl.models import batch_norm
from geossl.models.backbone import build_backbone, num_features
from geossl.models.heads import projection_head
from geossl.models.seeds import generator, seeded
from geossl.phases import phase

if TYPE_CHECKING:
    from torch import Tensor


class MoCo(nn.Module):
    """Query encoder, momentum key encoder and queue.

    A step is: `encode_keys` of the whole batch, `logits` of its queries (all at once, or a micro-batch after the
    other, with a backward pass each), and `enqueue` of the keys.

    Args:
        encoder: the query encoder, [B, C, H, W] -> [B, dim]; the key encoder starts as its copy.
        dim: width of its output.
        queue: keys kept as negatives.
        momentum: of the key encoder.
        temperature: of the logits.
        seed: of the random keys that the queue starts with; torch's global generator is left alone.

    """

    queue: Tensor  # float32 [dim, K], unit columns
    queue_ptr: Tensor  # int64 [1], the column that the next key is written to

    def __init__(
        self, encoder: nn.Module, *, dim: int, queue: int, momentum: float, temperature: float, seed: int
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.temperature = temperature
        self.encoder_q = encoder
        self.encoder_k = copy.deepcopy(encoder).requires_grad_(requires_grad=False)
        columns = torch.randn(dim, queue, generator=generator(seed, "queue"))
        self.register_buffer("queue", F.normalize(columns, dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def encode_keys(self, images: Tensor, *, shuffle: Tensor | None = None, parts: int = 1) -> Tensor:
        """Move the key encoder, and encode a batch's keys.

        Args:
            images: float32 [B, C, H, W], the positives, in the queries' order.
            shuffle: int64 [B], a permutation of the batch: the keys are encoded in this order, so that the
                groups that batch normalisation sees are not the query's. None leaves them in order.
            parts: encode this many micro-batches one after the other.

        Returns:
            float32 [B, dim], unit rows, in the queries' order.

        """
        self.update_key_encoder()
        images = images if shuffle is None else images[shuffle]
        made = [self.encoder_k(images[part]) for part in batch_norm.in_parts(self.encoder_k, len(images), parts=parts)]
        keys = F.normalize(torch.cat(made).float())
        return keys if shuffle is None else torch.empty_like(keys).index_copy_(0, shuffle, keys)

    def logits(self, projection: Tensor, keys: Tensor) -> Tensor:
        """Compare queries with their keys and with the queue.

        Args:
            projection: float32 [B, dim], of the queries, of any length.
            keys: float32 [B, dim], unit rows.

        Returns:
            float32 [B, 1 + K]: similarity of each query to its key, then to the queue, over the temperature.

        """
        q = F.normalize(projection)
        positive = (q * keys).sum(1, keepdim=True)
        return torch.cat([positive, q @ self.queue], 1) / self.temperature

    @phase("momentum update")
    @torch.no_grad()
    def update_key_encoder(self) -> None:
        """Move the key encoder's parameters: key = momentum * key + (1 - momentum) * query."""
        torch._foreach_lerp_(list(self.encoder_k.parameters()), list(self.encoder_q.parameters()), 1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Write the keys, float32 [B, dim], over the oldest of the queue, going round at its end.

        Backward passes through `logits` must be over: they need the queue as it was.
        """
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
