import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from geossl.models.backbone import build_backbone
from geossl.models.batch_norm import SplitBatchNorm2d, convert, in_parts, running_statistics


def layer(groups):
    split = SplitBatchNorm2d(5, groups=groups)
    generator = torch.Generator().manual_seed(0)
    for tensor in (split.weight.data, split.bias.data, split.running_mean):
        tensor.copy_(torch.randn(5, generator=generator))
    return split


def plain_copy(split):
    plain = nn.BatchNorm2d(5)
    plain.load_state_dict(split.state_dict())
    return plain


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_each_group_is_a_batch_norm_of_its_own(groups, memory):
    split = layer(groups)
    plains = [plain_copy(split) for _ in range(groups)]
    x = torch.randn(8, 5, 6, 6).contiguous(memory_format=memory).requires_grad_()
    twin = x.detach().clone().requires_grad_()
    got = split(x)
    want = torch.cat([plain(part) for plain, part in zip(plains, twin.chunk(groups), strict=True)])
    torch.testing.assert_close(got, want)
    assert got.is_contiguous(memory_format=memory)
    grad = torch.randn(got.shape)
    got.backward(grad)
    want.backward(grad)
    torch.testing.assert_close(x.grad, twin.grad)
    torch.testing.assert_close(split.weight.grad, sum(p.weight.grad for p in plains))
    torch.testing.assert_close(split.running_mean, torch.stack([p.running_mean for p in plains]).mean(0))
    torch.testing.assert_close(split.running_var, torch.stack([p.running_var for p in plains]).mean(0))
    assert split.num_batches_tracked.item() == 1


def test_in_eval_mode_it_is_batch_norm():
    split = layer(4).eval()
    x = torch.randn(3, 5, 6, 6)  # no multiple of the groups
    torch.testing.assert_close(split(x), plain_copy(split).eval()(x))


def test_a_batch_that_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="a batch of 6 cannot be split into 4"):
        layer(4)(torch.randn(6, 5, 2, 2))


def test_convert_replaces_every_layer_and_keeps_the_names():
    model = build_backbone("resnet18", bands=3, seed=0)
    before = copy.deepcopy(model.state_dict())
    convert(model, groups=4)
    assert not [m for m in model.modules() if type(m) is nn.BatchNorm2d]
    assert sum(isinstance(m, SplitBatchNorm2d) for m in model.modules()) == 20
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_a_layer_of_timms_keeps_its_activation():
    plain = nn.Sequential(BatchNormAct2d(5))
    split = copy.deepcopy(plain)
    convert(split, groups=2)
    x = torch.randn(8, 5, 6, 6)
    want = torch.cat([plain(part) for part in x.chunk(2)])
    assert want.min() == 0
    torch.testing.assert_close(split(x), want)
    assert split.eval()(x[:3]).min() == 0


def test_parts_of_a_batch_leave_the_running_statistics_of_the_whole():
    whole, parts = layer(4), layer(2)
    x = torch.randn(8, 5, 6, 6)
    want = whole(x)
    got = torch.cat([parts(x[cut]) for cut in in_parts(parts, 8, parts=2)])
    torch.testing.assert_close(got, want)
    for one, other in zip(running_statistics(parts), running_statistics(whole), strict=True):
        torch.testing.assert_close(one, other)
    assert [cut.stop - cut.start for cut in in_parts(parts, 7, parts=3)] == [3, 2, 2]
