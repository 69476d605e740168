"""Maps hold the data: points where they are, counts that add up, colours that tell near clusters apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from PIL import Image

from geossl.cli import main
from geossl.data.clusters import Clusters, default_path, places_table
from geossl.data.coordinates import place_coordinates, place_names
from geossl.data.index import Index
from geossl.data.table import SCHEMA, content_hash
from geossl.errors import UsageError
from geossl.viz.globe import Projection, equal_earth
from geossl.viz.maps import SPLIT_COLOURS, cluster_colours, draw_map

RADIUS_KM = 6371.0088


def points(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)


def index_at(lat: np.ndarray, lon: np.ndarray, **columns: list[Any]) -> Index:
    n = len(lat)
    values = {"path": [f"{i}.jpg" for i in range(n)], "lat": lat.tolist(), "lon": lon.tolist()} | columns
    # The last has no coordinates.
    values["lat"], values["lon"] = [*values["lat"][:-1], None], [*values["lon"][:-1], None]
    table = pa.table({f.name: pa.array(values.get(f.name, [None] * n), f.type) for f in SCHEMA}, schema=SCHEMA)
    return Index(table=table, root=Path(), content_hash=content_hash(table))


def test_equal_earth_keeps_areas() -> None:
    # The area of small squares, by their diagonals, beside that on the sphere; and the published corner.
    lat, lon = (grid.ravel() for grid in np.meshgrid(np.linspace(-89, 89, 90), np.linspace(-179, 179, 40)))
    d = 0.01
    corners = [np.stack(equal_earth(lat + i * d, lon + j * d)) for i, j in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
    p, q = corners[2] - corners[0], corners[3] - corners[1]
    area = abs(p[0] * q[1] - p[1] * q[0]) / 2
    band = np.sin(np.radians(lat + d)) - np.sin(np.radians(lat - d))
    np.testing.assert_allclose(area, RADIUS_KM**2 * band * np.radians(2 * d), rtol=1e-4)
    x, y = equal_earth(np.array([0.0, 90.0]), np.array([180.0, 0.0]))
    np.testing.assert_allclose([x[0] / RADIUS_KM, y[1] / RADIUS_KM], [2.7066297, 1.3173628], rtol=1e-6)


def test_a_region_is_shown_by_itself() -> None:
    # Over the antimeridian.
    lat, lon = np.array([-18.0, -17.0, -16.0]), np.array([177.0, 179.5, -179.0])
    region = Projection.of(lat, lon)
    assert region.middle == pytest.approx((-17.0, 179.0))
    x, y = region(lat, lon)
    left, right, bottom, top = region.extent
    assert np.all((left < x) & (x < right) & (bottom < y) & (y < top))
    scale = RADIUS_KM * np.pi / 180
    np.testing.assert_allclose(x, scale * np.cos(np.radians(17)) * np.array([-2, 0.5, 2]))
    np.testing.assert_allclose(y, scale * np.array([-1, 0, 1]))
    assert Projection.of(np.array([5.0]), np.array([7.0])).middle == (5.0, 7.0)
    for wide in (points(), (np.array([0.0, 70.0]), np.zeros(2)), (np.array([85.0, 86.0]), np.zeros(2))):
        assert Projection.of(*wide).middle is None


def test_density_counts_every_image() -> None:
    lat, lon = points()
    lat[:200], lon[:200] = 10.0, 20.0
    figure = draw_map(index=index_at(lat, lon), kind="density")
    (hexagons,) = (c for c in figure.axes[0].collections if isinstance(c, PolyCollection))
    count = np.asarray(hexagons.get_array())
    assert count.sum() == 499
    assert count.min() >= 1
    fullest = hexagons.get_offsets()[np.argmax(count)]
    x, y = equal_earth(np.array([10.0]), np.array([20.0]))
    assert np.hypot(*(fullest - [x[0], y[0]])) < 600
    assert figure.axes[0].get_title().endswith("1 without coordinates")


def test_errors_are_medians() -> None:
    lat, lon = np.repeat([10.0, -40.0], [5, 4]), np.repeat([20.0, 100.0], [5, 4])
    km = np.array([1.0, 2, 9, 1000, np.nan, 50, 60, 70, np.nan])
    figure = draw_map(index=index_at(lat, lon), kind="errors", km=km)
    (hexagons,) = (c for c in figure.axes[0].collections if isinstance(c, PolyCollection))
    shown = np.asarray(hexagons.get_array())
    assert sorted(shown[np.isfinite(shown)]) == [5.5, 60.0]
    assert "errors of 7 images, median 50 km" in figure.axes[0].get_title()


def test_splits_are_points_in_their_colours() -> None:
    lat, lon = points()
    split = [["train", "test", None][i % 3] for i in range(500)]
    figure = draw_map(index=index_at(lat, lon, split=split), kind="splits")
    drawn = next(c for c in figure.axes[0].collections if isinstance(c, PathCollection))
    x, y = equal_earth(lat[:499], lon[:499])
    offsets = np.asarray(drawn.get_offsets())
    order = np.lexsort(offsets.T)
    wanted = np.lexsort((x, y))
    np.testing.assert_allclose(offsets[order], np.stack([x, y], 1)[wanted], rtol=1e-6)
    look = {"train": SPLIT_COLOURS[0], "test": SPLIT_COLOURS[1], None: "#8c8c8c"}
    colours = [to_hex(colour).upper() for colour in drawn.get_facecolors()[order]]
    assert colours == [look[split[i]].upper() for i in wanted]
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["train 167", "test 166", "none 166"]


def test_classes_have_a_panel_each() -> None:
    lat, lon = points()
    category = [f"c{min(i % 20, 9)}" if i % 5 else None for i in range(500)]
    figure = draw_map(index=index_at(lat, lon, category=category), kind="classes")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels][:2] == ["c9: 224 images", "c1: 25 images"]
    assert len(panels) == 6
    total = [np.asarray(c.get_array()).sum() for a in panels for c in a.collections if isinstance(c, PolyCollection)]
    assert total == [224, 25, 25, 25, 25, 25]


def test_near_clusters_have_other_colours() -> None:
    lat, lon = points(200)
    colours = np.array(cluster_colours(np.stack([lat, lon], 1)))
    assert len(set(colours)) == 8
    lat_r, lon_r = np.radians(lat), np.radians(lon)
    vectors = np.stack([np.cos(lat_r) * np.cos(lon_r), np.cos(lat_r) * np.sin(lon_r), np.sin(lat_r)], 1)
    near = np.argsort(-(vectors @ vectors.T), axis=1)
    for number in range(200):
        before = [other for other in near[number] if other < number][:7]
        assert colours[number] not in set(colours[before])
        assert colours[near[number, 1]] != colours[number]


def clusters_of(index: Index, k: int) -> Clusters:
    """Clusters whose centroids are the first places; every tenth of the others is in none."""
    lat, lon, images = place_coordinates(index)
    known = np.isfinite(lat)
    label = np.arange(known.sum()) % k
    label[k::10] = -1
    names = [name for name, there in zip(place_names(index), known, strict=True) if there]
    places = places_table(
        names=names, lat=lat[known], lon=lon[known], weight=images[known].astype(np.float64), labels=[label]
    )
    levels = (np.stack([lat[:k], lon[:k]], 1),)
    return Clusters(
        method="kmeans", settings={}, inertia=0.0, levels=levels, places=places, index_hash=index.content_hash
    )


def test_clusters_are_points_in_their_colours() -> None:
    lat, lon = points()
    index = index_at(lat, lon)
    clusters = clusters_of(index, 40)
    figure = draw_map(index=index, kind="clusters", clusters=clusters)
    drawn = next(c for c in figure.axes[0].collections if isinstance(c, PathCollection))
    colours = cluster_colours(clusters.centroids)
    label = clusters.labels(index)
    wanted = {
        (round(x), round(y)): "#8c8c8c" if label[i] < 0 else colours[label[i]].lower()
        for i, (x, y) in enumerate(zip(*equal_earth(lat[:499], lon[:499]), strict=True))
    }
    found = {
        (round(x), round(y)): to_hex(colour)
        for (x, y), colour in zip(np.asarray(drawn.get_offsets()), drawn.get_facecolors(), strict=True)
    }
    assert found == wanted
    assert figure.axes[0].get_title().startswith("499 places in 40 clusters, 46 of them in none (grey)")


def test_the_command_and_its_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lat, lon = points()
    path = tmp_path / "a.parquet"
    index = index_at(lat, lon, split=["train", "val"] * 250, category=["a", "b"] * 250)
    index.write(path)
    clusters_of(index, 9).write(default_path(path))
    for kind in ("density", "clusters", "classes", "splits"):
        out = tmp_path / f"{kind}.png"
        assert main(["data", "map", str(path), "-o", str(out), "--kind", kind]) == 0
        with Image.open(out) as image:
            assert image.format == "PNG"
            assert image.width > 1000
    capsys.readouterr()
    assert main(["data", "map", str(path), "-o", str(tmp_path / "x.png"), "--kind", "errors", "--root", "."]) == 2
    assert "images are not under" in capsys.readouterr().err
    with pytest.raises(UsageError, match="needs a run with a geo head: give --run"):
        draw_map(index=index, kind="errors")
    with pytest.raises(UsageError, match="no image has coordinates"):
        draw_map(index=index_at(*points(1)), kind="density")
    plain = index_at(*points(9))
    for kind, message in (
        ("splits", "no image has a split"),
        ("classes", "no image has a category"),
        ("clusters", "make them with geossl data cluster"),
    ):
        with pytest.raises(UsageError, match=message):
            draw_map(index=plain, kind=kind)  # type: ignore[arg-type]
