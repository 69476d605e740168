"""The places that a run's geo head predicts, against its weights applied by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import haversine_distances
from torch.nn import functional as F

from geossl.config import LoaderConfig, make_config
from geossl.data.clusters import Clusters, default_path
from geossl.data.index import Index
from geossl.errors import UsageError
from geossl.evaluate.features import extract
from geossl.evaluate.geo_errors import geo_errors, score_geo
from geossl.models.weights import CHECKPOINT, load_backbone
from geossl.training import train

SMALL = {
    "epochs": 1,
    "batch": 32,
    "device": "cpu",
    "crop": {"size": 32},
    "model": {"backbone": "resnet18", "dim": 16},
    "loader": {"threads": 2},
}


def run(planet: Path, out: Path, **settings: object) -> Path:
    train(make_config(SMALL, {"data": planet, "out": out}, settings))
    return out


def by_hand(path: Path, index: Index, rows: np.ndarray) -> torch.Tensor:
    """The head's outputs, from the checkpoint's tensors."""
    trained = load_backbone(path)
    options = {"size": 32, "mean": trained.mean, "std": trained.std, "device": torch.device("cpu")}
    x = extract(trained.module, index=index, rows=rows, loader=LoaderConfig(threads=1), **options).x
    saved = torch.load(path / CHECKPOINT, weights_only=True)
    state, head = saved["state_dict"], saved["geo_dict"]
    if saved["geossl"]["config"]["geo"]["feature"] == "projection":
        for layer in (0, 2):
            x = F.linear(x, *(state[f"module.encoder_q.fc.{layer}.{kind}"] for kind in ("weight", "bias")))
            x = x.relu() if layer == 0 else x
    return F.linear(x.relu(), head["module.layers.1.weight"], head["module.layers.1.bias"])


@pytest.mark.parametrize(
    "settings",
    [
        {"arm": "geo", "geo": {"target": "clusters"}},
        {"arm": "geoloc", "geo": {"target": "vector", "feature": "backbone"}},
    ],
    ids=["clusters", "vector"],
)
def test_predicted_places_and_errors(planet: Path, tmp_path: Path, settings: dict) -> None:
    path = run(planet, tmp_path / "run", **settings)
    index = Index.read(planet)
    rows = np.array([7, 3, 100, 3])
    lat, lon, km = geo_errors(path, index, rows, batch=3, device="cpu", threads=1)
    output = by_hand(path, index, rows)
    if settings["geo"]["target"] == "vector":
        x, y, z = output.double().numpy().T
        expected = np.degrees(np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], 1))
    else:
        expected = Clusters.read(default_path(planet)).centroids[output.argmax(1)]
    np.testing.assert_allclose(np.stack([lat, lon], 1), expected, atol=1e-3)
    # The dates of a place lie a few metres apart: their mean is the place.
    degrees = np.stack([index.table[name].to_numpy() for name in ("lat", "lon")], 1)
    true = np.stack([degrees[index.places == index.places[row]].mean(0) for row in rows])
    apart = np.diag(haversine_distances(np.radians(np.stack([lat, lon], 1)), np.radians(true))) * 6371.0088
    np.testing.assert_allclose(km, apart, rtol=1e-6, atol=1e-3)

    # The same from features, and how often the predicted cluster is that of the place.
    rows = np.arange(40)
    trained = load_backbone(path)
    options = {"device": torch.device("cpu"), "loader": LoaderConfig(threads=1), **trained.preparation}
    scores = score_geo(path, extract(trained.module, index=index, rows=rows, **options), index=index)
    errors = geo_errors(path, index, rows, device="cpu", threads=1).km
    assert (scores.km_median, scores.km_mean) == pytest.approx((np.median(errors), errors.mean()), rel=1e-4)
    assert scores.images == 40
    if settings["geo"]["target"] == "vector":
        assert scores.clusters == 0
        assert np.isnan(scores.cluster_top1)
        assert scores.line().startswith("geo head: error median ")
    else:
        clusters = Clusters.read(default_path(planet))
        right = by_hand(path, index, rows).argmax(1).numpy() == clusters.labels(index)[rows]
        assert (scores.clusters, scores.cluster_top1) == (8, pytest.approx(right.mean()))
        assert scores.line().startswith(f"geo head: {100 * right.mean():.1f} % of 8 clusters right, error median ")


def test_the_clusters_file_is_not_needed_and_unknown_places_have_no_error(planet: Path, tmp_path: Path) -> None:
    clusters = tmp_path / "c.parquet"
    clusters.write_bytes(default_path(planet).read_bytes())
    path = run(planet, tmp_path / "run", arm="geoloc", loader={"threads": 2, "clusters": clusters})
    clusters.unlink()
    index = Index.read(planet)
    lat = index.table["lat"].to_numpy().copy()
    lat[index.places == index.places[1]] = np.nan
    at = index.table.schema.get_field_index("lat")
    table = index.table.set_column(at, index.table.schema.field(at), [lat])
    blind = Index(table=table, root=index.root, content_hash="other")
    found = geo_errors(path, blind, np.array([1, 200]), device="cpu", threads=1)
    assert np.isfinite(found.lat).all()
    assert np.isnan(found.km).tolist() == [True, bool(index.places[200] == index.places[1])]
    trained = load_backbone(path)
    options = {"device": torch.device("cpu"), "loader": LoaderConfig(threads=1), **trained.preparation}
    only = np.flatnonzero(index.places == index.places[1])
    assert score_geo(path, extract(trained.module, index=blind, rows=only, **options), index=blind) is None


def test_a_run_without_a_geo_head_is_refused(planet: Path, tmp_path: Path) -> None:
    path = run(planet, tmp_path / "run", arm="supervised")
    with pytest.raises(UsageError, match="has no geo head of geossl's; the arms geo, geo_tp and geoloc have"):
        geo_errors(path, Index.read(planet), np.array([0]), device="cpu")
    trained = load_backbone(path)
    options = {"device": torch.device("cpu"), "loader": LoaderConfig(threads=1), **trained.preparation}
    index = Index.read(planet)
    assert score_geo(path, extract(trained.module, index=index, rows=np.array([0]), **options), index=index) is None
