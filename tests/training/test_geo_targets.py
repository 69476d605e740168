"""What the geo head may predict: each loss against its formula, each target through training and a resume."""

import io
import os
import signal

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics.pairwise import haversine_distances
from torch.nn import functional as F
from training_data import FakeLoader, make_index, make_table, use_loader

from geossl import losses
from geossl.config import make_config
from geossl.data.clustering import cluster_places
from geossl.data.clusters import default_path
from geossl.data.index import Index
from geossl.errors import UsageError
from geossl.models.heads import GeoHead
from geossl.models.weights import CHECKPOINT
from geossl.training import train
from geossl.training.data import read_data
from geossl.training.log import RunLog, read_metrics

SMALL = {
    "arm": "geo",
    "epochs": 1,
    "batch": 16,
    "device": "cpu",
    "crop": {"size": 32},
    "model": {"backbone": "resnet18", "dim": 16},
}
OUTPUTS = {"clusters": 8, "hierarchy": 2 + 4 + 8, "soft": 8, "vector": 3}
RADIUS = 6371.0088


@pytest.fixture(autouse=True)
def _fake_loader(monkeypatch):
    use_loader(monkeypatch, FakeLoader)


def data_of(folder, k=(2, 4, 8), table=None, **options):
    path = make_index(folder, table)
    if k:
        cluster_places(Index.read(path), k=k, threads=1, **options).write(default_path(path))
    return path


def settings(data, target, **more):
    return make_config(SMALL, {"data": data, "out": data.parent / target, "geo": {"target": target}}, more)


def run(data, target, *, resume=None, **more):
    console = Console(file=io.StringIO(), width=200)
    result = train(settings(data, target, **more), resume=resume, console=console)
    return result, console.file.getvalue()


def load(result):
    return torch.load(result.run / CHECKPOINT, weights_only=True)


def points(n, seed):
    """Degrees [n, 2], and the same as unit vectors, float64 [n, 3]."""
    rng = np.random.default_rng(seed)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    a, b = np.radians(lat), np.radians(lon)
    return np.stack([lat, lon], 1), np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], 1)


def test_soft_labels_are_the_softmax_of_squared_distances_in_spacings():
    (places, place_vectors), (centroids, centroid_vectors) = points(40, 1), points(12, 2)
    between = haversine_distances(np.radians(centroids))
    np.fill_diagonal(between, np.inf)
    spacing = np.median(between.min(1))
    exponent = -((haversine_distances(np.radians(places), np.radians(centroids)) / spacing) ** 2)
    expected = np.exp(exponent) / np.exp(exponent).sum(1, keepdims=True)
    a, b = torch.tensor(place_vectors).float(), torch.tensor(centroid_vectors).float()
    scale = losses.spacing(b)
    assert scale.item() == pytest.approx(spacing, rel=1e-5)
    np.testing.assert_allclose(losses.soft_labels(a, b, scale), expected, atol=2e-6)


def test_soft_cross_entropy_and_cosine_loss_of_the_known():
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(6, 5))).float().requires_grad_()
    shares = torch.softmax(torch.tensor(rng.normal(size=(6, 5))).float(), 1)
    known = torch.tensor([True, True, False, True, False, True])
    shares[~known] = torch.nan
    loss = losses.known_soft_cross_entropy(logits, shares, known)
    torch.testing.assert_close(loss, F.cross_entropy(logits[known], shares[known]))
    loss.backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[~known].any()

    output = torch.tensor(rng.normal(size=(6, 3))).float().requires_grad_()
    true = F.normalize(torch.tensor(rng.normal(size=(6, 3))).float())
    true[~known] = torch.nan
    loss = losses.known_cosine_loss(F.normalize(output), true, known)
    torch.testing.assert_close(loss, (1 - F.cosine_similarity(output[known], true[known])).mean())
    loss.backward()
    assert output.grad.isfinite().all()
    assert not output.grad[~known].any()
    nobody = torch.zeros(6, dtype=torch.bool)
    assert losses.known_soft_cross_entropy(logits, shares, nobody).item() == 0
    assert losses.known_cosine_loss(F.normalize(output), true, nobody).item() == 0


def test_the_median_distance_in_km():
    (a, vectors_a), (b, vectors_b) = points(9, 3), points(9, 4)
    vectors_a[0] = np.nan
    km = RADIUS * np.diag(haversine_distances(np.radians(a), np.radians(b)))
    one, other = torch.tensor(vectors_b).float(), torch.tensor(vectors_a).float()
    known = other.isfinite().all(1)
    assert losses.median_km(one, other, known).item() == pytest.approx(np.median(km[1:]), rel=1e-5)
    assert losses.median_km(one, other, ~known & known).item() == 0
    # 100 m apart, where float32's cosine is 1.
    near = torch.tensor([[1.0, 0, 0]]), torch.tensor([[1.0, 0.1 / RADIUS, 0]])
    assert losses.median_km(*near, torch.tensor([True])).item() == pytest.approx(0.1, rel=1e-3)


def test_a_heads_levels_are_heads_of_their_own():
    levels = [F.normalize(torch.randn(k, 3, generator=torch.Generator().manual_seed(k))) for k in (2, 5)]
    head = GeoHead(features=7, target="hierarchy", levels=levels)
    weight, bias = head.layers[1].weight, head.layers[1].bias
    x = torch.randn(4, 7)
    output = head(x)
    coarse, fine = head.by_level(output)
    torch.testing.assert_close(coarse, F.linear(x.relu(), weight[:2], bias[:2]))
    torch.testing.assert_close(fine, F.linear(x.relu(), weight[2:], bias[2:]))
    torch.testing.assert_close(head.place(output), levels[1][fine.argmax(1)])
    assert set(head.state_dict()) == {"layers.1.weight", "layers.1.bias"}
    vector = GeoHead(features=7, target="vector", levels=[])
    torch.testing.assert_close(vector.place(vector(x)), F.normalize(vector.layers(x)))


@pytest.mark.parametrize("target", OUTPUTS)
def test_every_target_trains_and_its_checkpoint_tells_places(tmp_path, target):
    data = data_of(tmp_path, k=() if target == "vector" else (8, 2, 4))
    result, text = run(data, target)
    row = read_metrics(result.run)[0]
    accuracies = {
        "clusters": {"geo_acc"},
        "hierarchy": {"geo2_acc", "geo4_acc", "geo_acc"},
        "soft": {"geo_acc"},
        "vector": set(),
    }
    assert {name for name in row if name.startswith("geo")} == {"geo", "geo_km"} | accuracies[target]
    assert row["loss"] == pytest.approx(row["infonce"] + row["geo"], rel=1e-5)
    assert 0 < row["geo_km"] < np.pi * RADIUS
    assert f"geo {result.metrics['geo_km']:,.0f} km" in text
    saved = load(result)
    assert set(saved["geo_dict"]) == {"module.layers.1.weight", "module.layers.1.bias"}
    assert saved["geo_dict"]["module.layers.1.weight"].shape == (OUTPUTS[target], 16)
    sizes = {"vector": [], "hierarchy": [2, 4, 8]}.get(target, [8])
    assert [len(level) for level in saved["geossl"]["geo_levels"]] == sizes


def test_the_loss_of_hierarchy_is_the_mean_over_its_levels(tmp_path):
    data = data_of(tmp_path)
    state = {}

    def losses_of(target):
        result, _ = run(data, target, arm="geoloc", optim={"lr": 1e-20})
        state[target] = load(result)
        return read_metrics(result.run)[0]["geo"]

    together, finest = losses_of("hierarchy"), losses_of("clusters")
    # Nothing is known at the start: each level's loss is about log K, the mean about that of their logs.
    assert finest == pytest.approx(np.log(8), abs=0.2)
    assert together == pytest.approx(np.mean(np.log([2, 4, 8])), abs=0.2)


def test_places_without_coordinates_and_noise_take_no_part(tmp_path):
    lat = [None if i < 8 else 1.0 * i for i in range(48)]
    data = data_of(tmp_path, k=4, table=make_table(lat=lat, lon=lat))
    for target in ("clusters", "soft", "vector"):
        found = read_data(settings(data, target, arm="geoloc"))
        assert found.rows.tolist() == list(range(8, 48))
        assert found.geo.known.tolist() == [i >= 8 for i in range(48)]
        assert run(data, target)[0].finished
    assert len(read_data(settings(data, "soft")).rows) == 48  # they keep their InfoNCE


def test_noise_of_dbscan_takes_no_part(tmp_path):
    # Places of two images each, half a degree apart, but for the last two, which are alone.
    lat = [0.5 * (i // 2) for i in range(44)] + [60, 60, -60, -60]
    path = make_index(tmp_path, make_table(lat=lat, lon=lat))
    cluster_places(Index.read(path), method="dbscan", radius_km=100, min_places=2).write(default_path(path))
    for target in ("clusters", "vector"):
        assert read_data(settings(path, target)).geo.known.sum() == (44 if target == "clusters" else 48)
    assert run(path, "clusters")[0].finished
    with pytest.raises(UsageError, match=r"geo\.target soft needs clusters at different places"):
        run(path, "soft")


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, monkeypatch):
    data = data_of(tmp_path)
    for target in ("soft", "hierarchy"):
        straight, _ = run(data, target)
        out = {"out": tmp_path / f"stopped {target}"}
        log_step = RunLog.step

        def step(self, count, *, log_step=log_step, **rest):
            log_step(self, count, **rest)
            if count == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(RunLog, "step", step)
            assert not run(data, target, **out)[0].finished
        resumed, _ = run(data, target, resume="auto", **out)
        one, other = load(straight), load(resumed)
        for part in ("state_dict", "geo_dict"):
            assert all(torch.equal(value, other[part][name]) for name, value in one[part].items())
        rows = [[(row["step"], row["loss"], row["geo_km"]) for row in read_metrics(r.run)] for r in (straight, resumed)]
        assert rows[0] == rows[1]


def test_a_resume_needs_the_same_targets(tmp_path):
    data = data_of(tmp_path)
    run(data, "soft")
    found = cluster_places(Index.read(data), k=(2, 4, 8), threads=1)
    moved = type(found)(**{**vars(found), "levels": (*found.levels[:-1], found.levels[-1] + 1e-9)})
    moved.write(default_path(data))
    with pytest.raises(UsageError, match="was made with other clusters"):
        run(data, "soft", resume="auto")
    with pytest.raises(UsageError, match=r"changed settings \(geo\.target\)"):
        run(data, "clusters", resume="auto", out=tmp_path / "soft")


def test_what_a_target_needs_is_said(tmp_path):
    data = data_of(tmp_path, k=8)
    with pytest.raises(
        UsageError, match=r"clusters of one level, and geo\.target hierarchy needs several; .*-k 10,100"
    ):
        run(data, "hierarchy")
    with pytest.raises(UsageError, match=r"geo\.target: for the geo head, which the arm tp has not"):
        settings(data, "vector", arm="tp")
    default_path(data).unlink()
    with pytest.raises(UsageError, match="no clusters, which the arm geo needs; make them: geossl data cluster"):
        run(data, "soft")
