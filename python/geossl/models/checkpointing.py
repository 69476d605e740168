"""Activation checkpointing: only what goes into a block is kept, and the rest computed again for the backward pass."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from torch import nn
from torch.utils.checkpoint import checkpoint

from geossl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def checkpoint_blocks(encoder: nn.Module) -> None:
    """Have an encoder keep the inputs of its blocks alone, by timm's own switch where it has one.

    Else blocks are what its outermost sequences are made of and that has parts itself: those of the four stages of a
    ResNet, the layers of a transformer. Its backward passes belong inside `buffers_kept`.

    Raises:
        UsageError: the encoder has no such blocks.

    """
    for module in encoder.modules():
        switch = getattr(module, "set_grad_checkpointing", None)
        if switch is not None:
            try:
                switch()
            except AssertionError as e:  # timm's way to say that a model has no such thing
                raise UsageError(f"model.checkpointing: not for this backbone ({e})") from e
            return
    blocks = list(_blocks(encoder))
    if not blocks:
        raise UsageError("model.checkpointing: this backbone has no blocks to compute again; leave it out")
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Put a module's buffers back, after a backward pass, as they were before it.

    Blocks that are computed again update the running statistics of batch normalisation again.
    """
    buffers = list(module.buffers())
    kept = [values.clone() for values in buffers]
    yield
    for values, before in zip(buffers, kept, strict=True):
        values.copy_(before)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.Sequential):
            yield from (block for block in child if any(True for _ in block.children()))
        else:
            yield from _blocks(child)
