"""The figures against numpy's and scipy's formulas of the papers."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch.nn import functional as F

from geossl.training.figures import (
    alignment,
    effective_rank,
    feature_std,
    gradient_norm,
    infonce_ratio,
    queue_age,
    uniformity,
)


def unit(rows, dim, *, seed=0, scale=None):
    x = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return F.normalize(x if scale is None else x * scale)


def rankme(z):
    """Equation 1 of RankMe, by the singular values of the whole."""
    s = np.linalg.svd(z.double().numpy(), compute_uv=False)
    p = s / s.sum() + 1e-7
    return math.exp(-(p * np.log(p)).sum())


@pytest.mark.parametrize(("rows", "dim"), [(500, 16), (24, 16), (8, 16)])  # more keys than dimensions, and fewer
@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_effective_rank_is_rankme(rows, dim, decay):
    z = unit(rows, dim, scale=decay ** torch.arange(dim))
    assert effective_rank(z.T @ z) == pytest.approx(rankme(z), rel=2e-3)


def test_effective_rank_at_its_ends():
    line = torch.tensor([[0.6, 0.8, 0.0]]).repeat(50, 1)
    assert effective_rank(line.T @ line) == pytest.approx(1, abs=0.01)
    assert effective_rank(torch.eye(40)) == pytest.approx(40, rel=1e-4)
    assert effective_rank(torch.zeros(4, 4)) == pytest.approx(1, abs=0.01)  # no division by 0


def test_alignment():
    q, k = unit(32, 8, seed=1), unit(32, 8, seed=2)
    expected = (np.linalg.norm(q.numpy() - k.numpy(), axis=1) ** 2).mean()
    assert float(alignment(q, k)) == pytest.approx(expected, rel=1e-5)
    assert float(alignment(q, q)) == 0
    assert float(alignment(q, -q)) == pytest.approx(4)


def test_uniformity_is_over_pairs():
    x = unit(64, 8)
    expected = math.log(np.exp(-2 * pdist(x.numpy().astype(np.float64)) ** 2).mean())
    assert float(uniformity(x)) == pytest.approx(expected, rel=1e-4)
    assert float(uniformity(x[:1].repeat(5, 1))) == pytest.approx(0, abs=1e-5)
    assert float(uniformity(unit(1000, 128))) == pytest.approx(-4 + 8 / 128, abs=0.01)


def test_feature_std():
    x = unit(4000, 64)
    assert float(feature_std(3 * x)) == pytest.approx(float(x.numpy().std(0, ddof=1).mean() * 8), rel=1e-5)
    assert float(feature_std(x)) == pytest.approx(1, abs=0.01)
    assert float(feature_std(x[:1].repeat(9, 1))) == pytest.approx(0, abs=1e-6)


def test_gradient_norm():
    gradients = [torch.randn(3, 4), torch.randn(7)]
    expected = np.linalg.norm(np.concatenate([g.numpy().ravel() for g in gradients]))
    assert float(gradient_norm(gradients)) == pytest.approx(expected, rel=1e-5)
    assert math.isnan(float(gradient_norm([*gradients, torch.tensor([1.0, torch.nan])])))
    assert math.isinf(float(gradient_norm([*gradients, torch.tensor([torch.inf])])))


def test_infonce_ratio_of_chance_is_1():
    logits = torch.zeros(4, 1 + 99)
    loss = float(F.cross_entropy(logits, torch.zeros(4, dtype=torch.int64)))
    assert infonce_ratio(loss, queue=99) == pytest.approx(1)


def test_queue_age_by_a_queue_of_step_numbers():
    queue, batch = 12, 4
    keys = [None] * queue
    for step in range(1, 9):
        ages = [step - made for made in keys if made is not None]
        expected = (max(ages), sum(ages) / len(ages)) if ages else (0, 0)
        assert queue_age(step, queue=queue, batch=batch) == expected
        keys = keys[batch:] + [step] * batch
