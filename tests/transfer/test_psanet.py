"""PSANet's attention against the loops of its authors' C++ (hszhao/PSANet), written out."""

import pytest
import torch

from geossl.transfer.psanet import PointwiseAttention, attention_weights


def by_loops(over_completed, mode):
    """Section 3.3 of the paper: the part of each place's map that lies on the feature map, and a softmax."""
    batch, _, rows, columns = over_completed.shape
    maps = over_completed.view(batch, 2 * rows - 1, 2 * columns - 1, rows, columns)
    out = torch.zeros(batch, rows * columns, rows * columns)
    for n in range(batch):
        for h in range(rows):
            for w in range(columns):
                for to_h in range(rows):
                    for to_w in range(columns):
                        weight = maps[n, to_h - h + rows - 1, to_w - w + columns - 1, h, w]
                        own, other = h * columns + w, to_h * columns + to_w
                        if mode == "collect":
                            out[n, other, own] = weight  # the place's map weighs where it collects from
                        else:
                            out[n, own, other] = weight  # and where it distributes to
    return out.softmax(1)


@pytest.mark.parametrize("size", [(3, 4), (5, 5), (1, 3)])
@pytest.mark.parametrize("mode", ["collect", "distribute"])
def test_weights_are_those_of_the_loops(size, mode):
    rows, columns = size
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, (2 * rows - 1) * (2 * columns - 1), rows, columns, generator=generator)
    weights = attention_weights(maps, mode=mode)
    torch.testing.assert_close(weights, by_loops(maps, mode))
    torch.testing.assert_close(weights.sum(1), torch.ones(2, rows * columns))


@pytest.mark.parametrize("mode", ["collect", "distribute"])
def test_gradients_are_those_of_the_loops(mode):
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(1, 5 * 5, 3, 3, generator=generator)
    aim = torch.randn(1, 9, 9, generator=generator)
    gradients = []
    for function in (lambda x: attention_weights(x, mode=mode), lambda x: by_loops(x, mode)):
        x = maps.clone().requires_grad_()
        (function(x) * aim).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0


def test_the_module_keeps_its_input_and_sees_everywhere():
    torch.manual_seed(0)
    module = PointwiseAttention(8, reduced=4, size=(9, 7)).eval()
    features = torch.randn(2, 8, 9, 7, requires_grad=True)
    out = module(features)
    assert out.shape == (2, 16, 9, 7)
    assert torch.equal(out[:, :8], features)
    out[0, 8:, 0, 0].sum().backward()
    # One place of the result depends on all places of its image that the smaller map has, and on no other image.
    assert (features.grad[0, :, ::2, ::2].abs().sum(0) > 0).all()
    assert features.grad[1].abs().sum() == 0
    with pytest.raises(ValueError, match="attention over"):
        module(features[..., :6])
