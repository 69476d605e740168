"""MoCo against its formulas, worked out with numpy."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from geossl.losses import info_nce, known_cross_entropy
from geossl.models import batch_norm
from geossl.models.heads import GeoHead, projection_head
from geossl.models.moco import MoCo, build_encoder

# The names in the authors' checkpoints: torchvision's, with the MLP as fc, under each encoder.
OWN_NAMES = {"queue", "queue_ptr"}


def make(*, seed=0, bn_groups=2, **changes):
    settings = {"dim": 8, "queue": 12, "momentum": 0.9, "temperature": 0.2}
    settings |= changes
    moco = MoCo(build_encoder("resnet18", bands=3, dim=settings["dim"], seed=seed), seed=seed, **settings)
    batch_norm.convert(moco, groups=bn_groups)
    return moco


def views(batch=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, batch, 3, 32, 32, generator=generator)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_logits_and_loss_by_hand():
    moco = make()
    queue = moco.queue.numpy().copy()
    query, key = views()
    twin = copy.deepcopy(moco)
    projection, keys = moco.encoder_q(query), moco.encode_keys(key)
    made = moco.logits(projection, keys)
    moco.enqueue(keys)
    with torch.no_grad():
        q = unit(twin.encoder_q(query).numpy().astype(np.float64))
        k = unit(twin.encoder_k(key).numpy().astype(np.float64))
    positive = np.array([[q[i] @ k[i]] for i in range(8)])
    logits = np.concatenate([positive, q @ queue], axis=1) / 0.2
    np.testing.assert_allclose(made.detach().numpy(), logits, atol=1e-4)
    by_hand = -np.mean([row[0] - np.log(np.exp(row).sum()) for row in logits])
    assert info_nce(made).item() == pytest.approx(by_hand, abs=1e-5)
    np.testing.assert_allclose(unit(projection.detach().numpy()), q, atol=1e-5)
    np.testing.assert_allclose(moco.queue[:, :8].numpy(), k.T, atol=1e-5)


def test_info_nce_of_small_numbers():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    want = (-np.log(np.exp(2) / (np.exp(2) + np.e + 1)) + np.log(3)) / 2
    assert info_nce(logits).item() == pytest.approx(want, abs=1e-6)


def test_unknown_labels_do_not_count():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, -1, 3, -1])
    want = F.cross_entropy(logits[[0, 2]], labels[[0, 2]])
    torch.testing.assert_close(known_cross_entropy(logits, labels), want)
    assert known_cross_entropy(logits, torch.full((4,), -1)).item() == 0


def test_momentum_update():
    moco = make()
    for p in moco.encoder_q.parameters():
        p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    old = [p.clone() for p in moco.encoder_k.parameters()]
    moco.update_key_encoder()
    for k, q, was in zip(moco.encoder_k.parameters(), moco.encoder_q.parameters(), old, strict=True):
        torch.testing.assert_close(k.data, 0.9 * was + 0.1 * q.data)


def test_the_key_encoder_starts_as_the_query_encoder():
    moco = make()
    for q, k in zip(moco.encoder_q.parameters(), moco.encoder_k.parameters(), strict=True):
        assert torch.equal(q, k)
        assert q.requires_grad
        assert not k.requires_grad


def test_queue_keeps_order_and_wraps_around():
    moco = make(dim=2, queue=5, bn_groups=1)
    torch.testing.assert_close(moco.queue.norm(dim=0), torch.ones(5))
    keys = torch.arange(14, dtype=torch.float32).view(7, 2)
    moco.enqueue(keys[:3])
    assert moco.queue[:, :3].T.tolist() == keys[:3].tolist()
    assert moco.queue_ptr.item() == 3
    moco.enqueue(keys[3:7])  # columns 3, 4, 0, 1
    assert moco.queue.T.tolist() == keys[[5, 6, 2, 3, 4]].tolist()
    assert moco.queue_ptr.item() == 2


def test_keys_encoded_in_parts_are_those_of_the_batch():
    _, images = views()
    whole, parts = make(bn_groups=4), make(bn_groups=2)
    keys = whole.encode_keys(images)
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(parts.encode_keys(images, parts=2), keys)
    for name, value in whole.encoder_k.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, parts.encoder_k.state_dict()[name])


def test_gradient_of_both_losses_reaches_the_query_encoder_only():
    moco, head = make(), GeoHead(features=8, target="clusters", levels=[torch.zeros(5, 3)])
    query, key = views()
    projection, keys = moco.encoder_q(query), moco.encode_keys(key)
    geo = known_cross_entropy(head(projection), torch.arange(8) % 5)
    before = moco.queue.clone()
    geo.backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moco.encoder_q.fc.parameters())
    assert moco.encoder_q.body.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in head.parameters())
    assert all(p.grad is None for p in moco.encoder_k.parameters())
    assert not moco.queue.requires_grad
    assert torch.equal(before, moco.queue)
    info_nce(moco.logits(projection, keys)).backward()
    moco.enqueue(keys)
    assert all(p.grad is None for p in moco.encoder_k.parameters())


def test_names_are_the_authors():
    names = set(make().state_dict())
    for which in ("encoder_q", "encoder_k"):
        for name in ("conv1.weight", "layer4.1.bn2.running_var", "fc.0.weight", "fc.2.bias"):
            assert f"{which}.{name}" in names
    rest = {n for n in names if not n.startswith(("encoder_q.", "encoder_k."))}
    assert rest == OWN_NAMES
    assert set(GeoHead(features=8, target="clusters", levels=[torch.zeros(5, 3)]).state_dict()) == {
        "layers.1.weight",
        "layers.1.bias",
    }


def test_seed_decides_everything_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    one, two, other = (make(seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[k], two[k]) for k in one)
    for name in ("queue", "encoder_q.conv1.weight", "encoder_q.fc.0.weight"):
        assert not torch.equal(one[name], other[name])


def test_projection_head_is_linear_relu_linear():
    head = projection_head(features=6, dim=3)
    x = torch.randn(4, 6)
    want = (x @ head[0].weight.T + head[0].bias).clamp(min=0) @ head[2].weight.T + head[2].bias
    torch.testing.assert_close(head(x), want)
    assert head[0].weight.shape == (6, 6)


def test_geo_head_does_not_change_its_input():
    head = GeoHead(features=4, target="clusters", levels=[torch.zeros(3, 3)])
    x = torch.tensor([[-1.0, 2.0, -3.0, 4.0]])
    want = x.clamp(min=0) @ head.layers[1].weight.T + head.layers[1].bias
    torch.testing.assert_close(head(x), want)
    assert x.tolist() == [[-1.0, 2.0, -3.0, 4.0]]
