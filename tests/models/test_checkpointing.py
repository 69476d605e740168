"""Blocks that are computed again give what blocks give that are kept, bit for bit."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, resnet18, vgg11

from geossl.errors import UsageError
from geossl.models import batch_norm
from geossl.models.checkpointing import buffers_kept, checkpoint_blocks


def transformer() -> nn.Module:
    return VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4, dropout=0.5
    )


def grouped() -> nn.Module:
    model = resnet18(num_classes=4)
    batch_norm.convert(model, groups=3)  # of means of three equal numbers, the last bit may be another
    return model


def from_timm() -> nn.Module:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model: nn.Module = timm.create_model("resnet18", num_classes=4)
    return model


@pytest.mark.parametrize("make", [lambda: resnet18(num_classes=4), grouped, transformer, from_timm])
def test_gradients_and_running_statistics_are_the_same(make) -> None:
    torch.manual_seed(0)
    kept = make()
    again = copy.deepcopy(kept)
    checkpoint_blocks(again)
    assert list(again.state_dict()) == list(kept.state_dict())
    images = torch.randn(6, 3, 32, 32)
    counts = []
    for model in (kept, again):
        calls = [0]
        leaf = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)][-2]
        leaf.register_forward_hook(lambda *_, calls=calls: calls.__setitem__(0, calls[0] + 1))
        torch.manual_seed(1)
        for _ in range(2):
            loss = model(images).square().mean()
            with buffers_kept(model):
                loss.backward()
        counts.append(calls[0])
    assert counts == [2, 4], "something was computed again"
    for one, other in zip(kept.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    for one, other in zip(kept.buffers(), again.buffers(), strict=True):
        assert torch.equal(one, other)


def test_less_is_kept() -> None:
    model = resnet18()
    weights, sizes = {p.data_ptr() for p in model.parameters()}, []
    for _ in range(2):
        held: dict[int, int] = {}

        def keep(tensor: torch.Tensor, held: dict[int, int] = held) -> torch.Tensor:
            held[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(torch.randn(2, 3, 64, 64))
        sizes.append(sum(size for at, size in held.items() if at not in weights))
        checkpoint_blocks(model)
    assert sizes[1] < 0.6 * sizes[0]


def test_a_backbone_without_blocks_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"model\.checkpointing: this backbone has no blocks"):
        checkpoint_blocks(vgg11())
