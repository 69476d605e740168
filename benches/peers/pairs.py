"""Pairs through torch's DataLoader, as four of the peers make them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from work import Job


class Pairs(Dataset[torch.Tensor]):
    """Item i is two views of file i, or of it and another date of its place, stacked."""

    def __init__(self, job: Job, *, read: Callable[[str], Any], view: Callable[[Any], torch.Tensor]) -> None:
        """`read` decodes a file, `view` makes a random view of what it gave."""
        self.job, self.read, self.view = job, read, view
        self.others = job.others()

    def __len__(self) -> int:
        """Pairs of a pass."""
        return self.job.pairs

    def __getitem__(self, i: int) -> torch.Tensor:
        """[2, ...]."""
        row = i % len(self.job.files)
        first = second = self.read(self.job.files[row])
        if self.job.temporal:
            one = self.view(first)  # before the next is decoded: one image at a time fits the caches better
            second = self.read(self.job.files[random.choice(self.others[row])])
            return torch.stack([one, self.view(second)])
        return torch.stack([self.view(first), self.view(second)])


def passes(
    job: Job, *, read: Callable[[str], Any], view: Callable[[Any], torch.Tensor]
) -> Callable[[int], Iterator[torch.Tensor]]:
    """Passes of a DataLoader; its workers stay alive from pass to pass."""
    workers = 0 if job.threads == 1 else job.threads
    loader = DataLoader(
        Pairs(job, read=read, view=view),
        batch_size=job.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda _: iter(loader)
