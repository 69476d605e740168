"""The processes that train together: one a GPU (or a few on a CPU), each with its contiguous part of every batch.

torchrun starts them and tells each its place in the environment. A process that runs alone needs no process group,
and every method costs it nothing.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from geossl.errors import GeosslError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

SIGNAL = "signal"
"""Name of what `Ranks.agree` adds to the figures."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """A process among those that train together. All of them must make the same calls in the same order."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """The process's part of a global batch of `count`."""
        size = count // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def gather(self, values: Tensor) -> Tensor:
        """The global batch's [world * B, ...] values, from each process's [B, ...]."""
        if self.world == 1:
            return values
        gathered = values.new_empty((self.world * len(values), *values.shape[1:]))
        dist.all_gather_into_tensor(gathered, values.contiguous())
        return gathered

    def total(self, value: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.world == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their means over the processes, in place."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat / self.world, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [part.view_as(to) for part, to in zip(parts, tensors, strict=True)])

    def take(self, images: Tensor, order: Tensor) -> Tensor:
        """The process's part of the global batch in another order; each image is sent to where it is needed alone.

        Args:
            images: float32 [B, C, H, W], this process's part in the batch's own order.
            order: int64 [world * B] on the CPU, a permutation of the global batch, the same for all.

        Returns:
            float32 [B, C, H, W] in channels_last memory.

        """
        count = len(images)
        pixels = images.permute(0, 2, 3, 1)
        if self.world == 1:
            return pixels[order.to(images.device, non_blocking=True)].permute(0, 3, 1, 2)
        wanted = order.view(self.world, count)  # by each process
        owners = wanted // count
        leaving = [row[owner == self.rank] - self.rank * count for row, owner in zip(wanted, owners, strict=True)]
        sent = pixels[torch.cat(leaving).to(images.device)].contiguous()
        received = torch.empty_like(sent)
        coming = owners[self.rank]
        sizes = torch.bincount(coming, minlength=self.world).tolist()
        dist.all_to_all_single(received, sent, sizes, [len(rows) for rows in leaving])
        # They came by their owner, in the order wanted of each.
        place = coming.argsort(stable=True).argsort().to(images.device)
        return received[place].permute(0, 3, 1, 2)

    def agree(self, figures: Mapping[str, Tensor], signal: int | None) -> dict[str, Tensor]:
        """The means of the figures over the processes, on the device.

        With several processes there is one more, `SIGNAL`: the highest signal that any of them has got, or 0. So all
        can stop after the same step.
        """
        if self.world == 1:
            return dict(figures)
        values = torch.stack([value.float() for value in figures.values()])
        rows = self.gather(torch.cat([values, values.new_tensor([signal or 0])])[None])
        means = rows[:, :-1].mean(0)
        return dict(zip((*figures, SIGNAL), (*means, rows[:, -1].amax()), strict=True))

    def each(self, value: Any) -> list[Any]:
        """What each process gives, for all."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def subset(self, size: int) -> Any:
        """The process group of the run of `size` processes that this one is in; None for all of them."""
        if size == self.world:
            return None
        group, _ = dist.new_subgroups(size)
        return group

    def check_alike(self, what: Mapping[str, Any]) -> None:
        """Raise UsageError, with the names of what differs, unless all processes give the same."""
        rows = self.each(dict(what))
        differ = [name for name in what if any(row[name] != what[name] for row in rows)]
        if differ:
            raise UsageError(
                f"the {self.world} processes differ in: {', '.join(differ)}; give all the same command, and a run "
                "folder and data that each of them sees"
            )

    def wait(self) -> None:
        """Wait for the others."""
        if self.world > 1:
            dist.barrier()


ALONE = Ranks()
"""A process that trains by itself."""


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the other processes, as torchrun's environment says, over NCCL on GPUs and gloo on CPUs.

    A process group that exists already is used, and left.

    Args:
        device: the setting: auto, cpu or cuda. `cuda` is from here on the process's own GPU.

    Raises:
        UsageError: the environment or the device do not go together with several processes.
        GeosslError: the others are not found.

    """
    if dist.is_initialized():
        yield Ranks(rank=dist.get_rank(), world=dist.get_world_size())
        return
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        yield ALONE
        return
    rank = _number("RANK", None)
    own = _own_device(device)
    try:
        if own.type == "cpu":
            dist.init_process_group("gloo", store=_store(), rank=rank, world_size=world)
        else:
            dist.init_process_group("nccl", store=_store(), rank=rank, world_size=world, device_id=own)
    except (RuntimeError, ValueError) as e:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise GeosslError(f"process {rank} of {world} did not find the others at {where}: {_first_line(e)}") from e
    yield Ranks(rank=rank, world=world)
    # Not after an error: the others may wait for this process in a call that it will not make.
    dist.destroy_process_group()


def _store() -> Any:
    """Where the processes find each other.

    torchrun gives all its attempts one store, in which a restarted process may find where another one was before it
    died. On a single machine the attempts have numbers that all know; for several, see docs/distributed.md.
    """
    store, _, _ = next(rendezvous("env://"))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT")
    if attempt is None or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return store
    return PrefixStore(f"attempt {attempt}", store)


def _own_device(name: str) -> torch.device:
    """The device of this process among those of its machine."""
    if name.startswith("cuda:"):
        raise UsageError(f"device: {name} is one GPU, and there are several processes; use cuda, each one's own")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    own, there = _number("LOCAL_RANK", 0), torch.cuda.device_count()
    if own >= there:
        raise UsageError(f"there are {there} GPUs here, and more processes; use --nproc-per-node {there}")
    torch.cuda.set_device(own)
    return torch.device("cuda", own)


def _number(name: str, default: int | None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdigit():
        raise UsageError(f"WORLD_SIZE is set, but {name} is {text or 'not'}; start the processes with torchrun")
    return int(text)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
