"""Batch normalisation whose groups do not depend on where the batch is computed.

MoCo (arXiv 1911.05722, section 3.3) needs the query's and the key's batch statistics to come from different
sets of images, or the encoder tells them apart by the statistics alone. The authors train on several GPUs
and shuffle the keys between them; here the batch is normalised in groups of its own, each inside one process, or each
over several.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
            return _follow(self, super().forward(input))
        if len(input) % self.groups:
            raise ValueError(f"a batch of {len(input)} cannot be split into {self.groups} equal groups")
        # Runs of the batch are views of it in any memory layout; only putting the results together copies.
        means = self._statistic("running_mean").repeat(self.groups, 1)
        variances = self._statistic("running_var").repeat(self.groups, 1)
        normalized = [
            F.batch_norm(part, mean, var, self.weight, self.bias, training=True, momentum=_rate(self), eps=self.eps)
            for part, mean, var in zip(input.chunk(self.groups), means, variances, strict=True)
        ]
        self._statistic("running_mean").copy_(means.mean(0))
        self._statistic("running_var").copy_(variances.mean(0))
        self._statistic("num_batches_tracked").add_(1)
        return _follow(self, torch.cat(normalized))

    def _statistic(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def extra_repr(self) -> str:
        """Describe the layer, as printed in a module's tree."""
        return f"{self.num_features}, groups={self.groups}, eps={self.eps}, momentum={self.momentum}"


def found(module: nn.Module) -> bool:
    """Whether there is batch normalisation inside the module."""
    return any(isinstance(child, nn.BatchNorm2d) for child in module.modules())


class SyncBatchNorm2d(nn.SyncBatchNorm):
    """BatchNorm2d over the images of a group of processes, on GPUs; timm's too."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.SyncBatchNorm's name
        """Normalise [B, C, H, W]; in training, all processes of the group must call this together."""
        return _follow(self, super().forward(input))


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """SyncBatchNorm2d on the CPU, where torch has none: plain sums over the processes, through which gradients go."""

    def __init__(self, num_features: int, *, eps: float, momentum: float | None, process_group: Any) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.process_group = process_group

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.BatchNorm2d's name
        """Normalise [B, C, H, W]; in training, all processes of the group must call this together."""
        if not self.training:
            return _follow(self, super().forward(input))
        group = self.process_group
        channels, x = (1, -1, 1, 1), input.float()
        count = len(x) * x.shape[2] * x.shape[3] * dist.get_world_size(group)
        mean = _sum(x.sum((0, 2, 3)), group) / count
        x = x - mean.view(channels)
        variance = _sum(x.square().sum((0, 2, 3)), group) / count
        with torch.no_grad():
            self.get_buffer("running_mean").lerp_(mean, _rate(self))
            self.get_buffer("running_var").lerp_(variance * count / (count - 1), _rate(self))
            self.get_buffer("num_batches_tracked").add_(1)
        x = x * (torch.rsqrt(variance + self.eps) * self.weight).view(channels) + self.bias.view(channels)
        return _follow(self, x.to(input.dtype))


def convert(module: nn.Module, *, groups: int) -> None:
    """Replace every BatchNorm2d inside the module by a SplitBatchNorm2d over its very weights, in place."""
    _replace(
        module,
        lambda old: SplitBatchNorm2d(old.num_features, groups=groups, eps=old.eps, momentum=old.momentum or 0.1),
    )


def synchronize(module: nn.Module, *, group: Any, device: torch.device) -> None:
    """Replace every BatchNorm2d inside the module by one over a process group, None for all, in place.

    Args:
        module: what it is in.
        group: the processes.
        device: where the module is to be used.

    """
    layer = CpuSyncBatchNorm2d if device.type == "cpu" else SyncBatchNorm2d
    _replace(module, lambda old: layer(old.num_features, eps=old.eps, momentum=old.momentum, process_group=group))


def _replace(module: nn.Module, make: Callable[[nn.BatchNorm2d], nn.Module]) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            made = make(child)
            own = (child.named_parameters(recurse=False), child.named_buffers(recurse=False), child.named_children())
            for key, value in chain(*own):
                setattr(made, key, value)
            setattr(module, name, made.train(child.training))
        else:
            _replace(child, make)


def _rate(module: nn.BatchNorm2d) -> float:
    if module.momentum is None:
        raise ValueError("a cumulative average (momentum=None) is not supported")
    return module.momentum


def _sum(values: Tensor, group: Any) -> Tensor:
    """The sum over the processes, through which gradients go."""
    total: Tensor = all_reduce(values, group=group)  # type: ignore[no-untyped-call]
    return total


def _follow(module: nn.Module, output: Tensor) -> Tensor:
    """Apply what a layer of timm's (BatchNormAct2d) has inside it: dropout and activation."""
    for child in module.children():
        output = child(output)
    return output


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
