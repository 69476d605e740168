"""Randomness without state: every draw comes from a generator made for it, from the run's seed and a key."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def derive_seed(seed: int, *key: int | str) -> int:
    """A seed of 63 bits for one use, from the run's seed and what the use is called."""
    digest = hashlib.blake2b(repr((seed, *key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *key: int | str) -> torch.Generator:
    """A CPU generator for one use."""
    return torch.Generator().manual_seed(derive_seed(seed, *key))


@contextmanager
def seeded(seed: int, *key: int | str) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block, for code that draws from it; restore it after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, *key))
        yield
