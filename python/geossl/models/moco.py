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
from geossl.models.backbone import build_backbone
from geossl.models.heads import projection_head
from geossl.models.seeds import generator, seeded
from geossl.phases import phase

if TYPE_CHECKING:
    from torch import Tensor

    from geossl.models.backbone import Encoder, Stem


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

    >>> from geossl.losses import info_nce
    >>> encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16))
    >>> moco = MoCo(encoder, dim=16, queue=32, momentum=0.9, temperature=0.2, seed=0)
    >>> query, key = torch.rand(2, 4, 3, 24, 24)
    >>> keys = moco.encode_keys(key)
    >>> logits = moco.logits(moco.encoder_q(query), keys)
    >>> logits.shape  # the positive, then the queue
    torch.Size([4, 33])
    >>> info_nce(logits).backward()
    >>> moco.enqueue(keys)

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
    def encode_keys(self, images: Tensor, *, parts: int = 1) -> Tensor:
        """Move the key encoder, and encode a batch's keys.

        Batch normalisation needs them in another order than the queries: see `geossl.models.batch_norm`.

        Args:
            images: float32 [B, C, H, W], the positives.
            parts: encode this many micro-batches one after the other.

        Returns:
            float32 [B, dim], unit rows, in the order of the images.

        """
        self.update_key_encoder()
        cuts = batch_norm.in_parts(self.encoder_k, len(images), parts=parts)
        return F.normalize(torch.cat([self.encoder_k(images[cut]) for cut in cuts]).float())

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
        """Move the key encoder's parameters: key = momentum * key + (1 - momentum) * query.

        >>> moco = MoCo(nn.Linear(2, 2), dim=2, queue=4, momentum=0.75, temperature=0.2, seed=0)
        >>> _ = nn.init.ones_(moco.encoder_q.bias), nn.init.zeros_(moco.encoder_k.bias)
        >>> moco.update_key_encoder()
        >>> moco.encoder_k.bias
        Parameter containing:
        tensor([0.2500, 0.2500])

        """
        torch._foreach_lerp_(list(self.encoder_k.parameters()), list(self.encoder_q.parameters()), 1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Write the keys, float32 [B, dim], over the oldest of the queue, going round at its end.

        Backward passes through `logits` must be over: they need the queue as it was.

        >>> moco = MoCo(nn.Identity(), dim=2, queue=4, momentum=0.9, temperature=0.2, seed=0)
        >>> for key in ([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]):
        ...     moco.enqueue(torch.tensor([key, key]))
        >>> moco.queue[0]  # the third pair replaced the first
        tensor([-1., -1.,  0.,  0.])

        """
        size = self.queue.shape[1]
        columns = (self.queue_ptr + torch.arange(len(keys), device=keys.device)) % size
        self.queue.index_copy_(1, columns, keys.T)
        self.queue_ptr.add_(len(keys)).remainder_(size)


def build_encoder(
    backbone: str, *, bands: int, dim: int, seed: int, size: int = 224, stem: Stem = "imagenet"
) -> Encoder:
    """What `build_backbone` makes of these, with MoCo-v2's projection to `dim` as its `fc`, drawn from the seed.

    >>> encoder = build_encoder("resnet18", bands=4, dim=128, seed=0)
    >>> encoder(torch.rand(2, 4, 64, 64)).shape
    torch.Size([2, 128])

    """
    encoder = build_backbone(backbone, bands=bands, seed=seed, size=size, stem=stem)
    with seeded(seed, "projection"):
        encoder.fc = projection_head(features=encoder.num_features, dim=dim)
    return encoder
