"""Batch normalisation whose groups do not depend on where the batch is computed.

MoCo (arXiv 1911.05722, section 3.3) needs the query's and the key's batch statistics to come from different
sets of images, or the encoder tells them apart by the statistics alone. The authors train on several GPUs
and shuffle the keys between them; with one device, the batch is normalised in groups instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


class SplitBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose batch statistics, in training, are those of `groups` equal runs of the batch.

    The first B / groups images are normalised together, then the next, as if each run were on a device of
    its own. Running statistics are the mean of what each group alone would have made of them. In eval mode,
    and in its state_dict, it is BatchNorm2d.
    """

    def __init__(self, num_features: int, *, groups: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.BatchNorm2d's name
        """Normalise [B, C, H, W]; in training, raises ValueError if `groups` does not divide B."""
        if not self.training:
            return super().forward(input)
        if len(input) % self.groups:
            raise ValueError(f"a batch of {len(input)} cannot be split into {self.groups} equal groups")
        # Runs of the batch are views of it in any memory layout; only putting the results together copies.
        means = self._statistic("running_mean").repeat(self.groups, 1)
        variances = self._statistic("running_var").repeat(self.groups, 1)
        normalized = [
            F.batch_norm(part, mean, var, self.weight, self.bias, training=True, momentum=self._rate(), eps=self.eps)
            for part, mean, var in zip(input.chunk(self.groups), means, variances, strict=True)
        ]
        self._statistic("running_mean").copy_(means.mean(0))
        self._statistic("running_var").copy_(variances.mean(0))
        self._statistic("num_batches_tracked").add_(1)
        return torch.cat(normalized)

    def _statistic(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def _rate(self) -> float:
        if self.momentum is None:
            raise ValueError("a cumulative average (momentum=None) is not supported")
        return self.momentum

    def extra_repr(self) -> str:
        """Describe the layer, as printed in a module's tree."""
        return f"{self.num_features}, groups={self.groups}, eps={self.eps}, momentum={self.momentum}"


def found(module: nn.Module) -> bool:
    """Whether there is batch normalisation inside the module."""
    return any(isinstance(child, nn.BatchNorm2d) for child in module.modules())


def convert(module: nn.Module, *, groups: int) -> None:
    """Replace every BatchNorm2d inside the module by a SplitBatchNorm2d over its very weights, in place."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            split = SplitBatchNorm2d(child.num_features, groups=groups, eps=child.eps, momentum=child.momentum or 0.1)
            for key, value in (*child.named_parameters(), *child.named_buffers()):
                setattr(split, key, value)
            split.train(child.training)
            setattr(module, name, split)
        else:
            convert(child, groups=groups)


def in_parts(module: nn.Module, count: int, *, parts: int) -> Iterator[slice]:
    """Cut a batch of `count` images into parts, which the module is to see one after the other.

    Each part finds the running statistics that the first one found, and leaves the mean of what each alone would
    have made of them: with whole groups in every part, that is what the batch at once makes of them.
    """
    sizes = [count // parts + (part < count % parts) for part in range(parts)]
    statistics = running_statistics(module) if parts > 1 else []
    before = [values.clone() for values in statistics]
    total = [torch.zeros_like(values) for values in statistics]
    for part, size in enumerate(sizes):
        start = sum(sizes[:part])
        if statistics:
            torch._foreach_copy_(statistics, before)
        yield slice(start, start + size)
        if statistics:
            torch._foreach_add_(total, statistics, alpha=1 / parts)
    if statistics:
        torch._foreach_copy_(statistics, total)


def running_statistics(module: nn.Module) -> list[Tensor]:
    """The running means and variances inside the module."""
    return [values for name, values in module.named_buffers() if name.endswith(("running_mean", "running_var"))]
