import numpy as np
import pytest
import torch

from geossl.evaluate import knn
from geossl.evaluate.knn import predict_knn


def brute_force(train_x, train_y, test_x, *, classes, k, temperature):
    """One query at a time, in double precision."""
    out = np.zeros((len(test_x), classes))
    for i, query in enumerate(test_x.astype(float)):
        similarity = np.array(
            [query @ row / (np.linalg.norm(query) * np.linalg.norm(row)) for row in train_x.astype(float)]
        )
        for j in np.argsort(-similarity)[:k]:
            out[i, train_y[j]] += np.exp(similarity[j] / temperature)
    return out / out.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 1.0), (500, 0.07)])
def test_equals_brute_force(k, temperature):
    rng = np.random.default_rng(k)
    train_x, test_x = rng.normal(size=(90, 12)).astype("f4"), rng.normal(size=(31, 12)).astype("f4")
    train_y = rng.integers(0, 5, 90)
    got = predict_knn(
        train_x=torch.from_numpy(train_x),
        train_y=torch.from_numpy(train_y),
        test_x=torch.from_numpy(test_x),
        classes=5,
        k=k,
        temperature=temperature,
    )
    np.testing.assert_allclose(
        got.numpy(), brute_force(train_x, train_y, test_x, classes=5, k=k, temperature=temperature), atol=2e-5
    )


def test_blocks_change_nothing(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    data = {
        "train_x": torch.randn(50, 6, generator=draw),
        "train_y": torch.randint(4, (50,), generator=draw),
        "test_x": torch.randn(23, 6, generator=draw),
        "classes": 4,
    }
    whole = predict_knn(**data)
    sizes = []
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda self, *a, **k: sizes.append(self.numel()) or topk(self, *a, **k))
    monkeypatch.setattr(knn, "BLOCK_VALUES", 350)
    torch.testing.assert_close(predict_knn(**data), whole)
    assert len(sizes) == 4
    assert max(sizes) <= 350


def test_length_of_a_feature_does_not_matter():
    train_x = torch.tensor([[1.0, 0.0], [0.0, 100.0]])
    got = predict_knn(
        train_x=train_x, train_y=torch.tensor([1, 0]), test_x=torch.tensor([[0.03, 0.01]]), classes=3, k=1
    )
    assert got.tolist() == [[0, 1, 0]]
