import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from PIL import Image

from geossl.data.index import Index
from geossl.data.table import SCHEMA, content_hash
from geossl.errors import UsageError
from geossl.viz.summary import PALETTE, _find_pair, _read_rgb, plot_summary


class TinyClusters:
    def labels(self, index):
        return (index.places % 5).astype(np.int64)


def make_index(root: Path, *, views: int = 3, suffix: str = ".jpg") -> Index:
    rng = np.random.default_rng(0)
    rows = []
    for place in range(12):
        lat, lon = rng.uniform(-60, 70), rng.uniform(-179, 179)
        for view in range(views):
            path = f"{place}_{view}{suffix}"
            pixels = np.zeros((24, 24, 3), dtype=np.uint8)
            pixels[4:20, 4:20] = (20 + 10 * place, 60 * view, 90)
            if suffix == ".jpg":
                Image.fromarray(pixels).save(root / path)
            else:
                profile = {"driver": "GTiff", "dtype": "uint16", "count": 4, "width": 24, "height": 24}
                profile |= {"crs": "EPSG:4326", "transform": rasterio.Affine(1e-3, 0, lon, 0, -1e-3, lat)}
                with rasterio.open(root / path, "w", **profile) as target:
                    target.write(np.repeat(pixels.transpose(2, 0, 1)[:1].astype(np.uint16) * 30, 4, axis=0))
            moment = datetime(2015, 1, 10, tzinfo=UTC) + timedelta(days=60 * view)
            rows.append(
                {
                    "path": path, "location_id": f"p{place}", "lat": lat, "lon": lon, "timestamp": moment,
                    "category": "port", "cloud_cover": 0.0, "width": 24, "height": 24,
                    "bands": 3 if suffix == ".jpg" else 4, "dtype": "uint8" if suffix == ".jpg" else "uint16",
                }
            )  # fmt: skip
    return as_index(pa.Table.from_pylist(rows, schema=SCHEMA), root)


def as_index(table: pa.Table, root: Path) -> Index:
    return Index(table=table, root=root, content_hash=content_hash(table))


def replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def make_run(root: Path) -> Path:
    lines = [{"step": s, "epoch": s // 50, "loss": 6 / (1 + s / 40), "infonce": 4 / (1 + s / 40)} for s in range(120)]
    for line in lines:
        line["geo"] = line["loss"] - line["infonce"]
    root.mkdir()
    text = "\n".join(json.dumps(line) for line in [*lines, {"epoch": 2, "seconds": 3.5}])
    (root / "metrics.jsonl").write_text(text + "\n")
    return root


RESULTS = [("random", {"top-1": 0.31, "macro-F1": 0.28}), ("geo_tp", {"top-1": 0.62, "macro-F1": 0.60})]


def close(picture: np.ndarray, color: str) -> int:
    """How many pixels have about this colour."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(picture[..., :3].astype(int) - rgb).max(axis=-1) < 12).sum())


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_the_picture_shows_clusters_curves_pair_and_bars(tmp_path, suffix):
    index = make_index(tmp_path, suffix=suffix)
    out = tmp_path / "new" / "summary.png"
    made = plot_summary(out, index=index, clusters=TinyClusters(), run=make_run(tmp_path / "run"), results=RESULTS)
    assert made == out
    assert [f.name for f in out.parent.iterdir()] == ["summary.png"]  # no partial file remains
    with Image.open(out) as image:
        picture = np.asarray(image.convert("RGB"))
    assert picture.shape[0] > 600 < picture.shape[1]
    height, width = picture.shape[:2]
    middle = height // 2
    left, right = picture[:, : width // 2], picture[:, width * 2 // 3 :]
    quadrants = [left[:middle], right[:middle], left[middle:], right[middle:]]
    assert all(quadrant.std() > 5 for quadrant in quadrants)
    assert all(close(quadrants[0], color) > 20 for color in PALETTE[:5])  # five clusters on the map
    assert close(quadrants[3], PALETTE[0]) > 2000  # bars
    assert close(quadrants[3], PALETTE[1]) > 1.6 * close(quadrants[3], PALETTE[0])  # 62 % beside 31 %


def test_single_dates_and_no_steps_are_said(tmp_path):
    index = make_index(tmp_path, views=1)
    (tmp_path / "metrics.jsonl").write_text("")
    out = plot_summary(tmp_path / "s.png", index=index, clusters=TinyClusters(), run=tmp_path, results=[])
    assert out.stat().st_size > 10_000


def test_the_pair_is_of_one_place_with_seasons_apart_and_the_earlier_first(tmp_path):
    index = make_index(tmp_path, views=3)
    first, second = _find_pair(index)
    assert index.places[first] == index.places[second]
    times = index.table["timestamp"].to_pylist()
    assert times[first] < times[second]


def test_a_pair_without_clouds_is_preferred(tmp_path):
    index = make_index(tmp_path, views=2)
    cloud = np.full(len(index.table), 50.0, dtype=np.float32)
    cloud[[8, 9]] = 0
    table = replace(index.table, "cloud_cover", pa.array(cloud))
    assert _find_pair(as_index(table, index.root)) == (8, 9)


def test_missing_dates_still_give_a_pair(tmp_path):
    index = make_index(tmp_path, views=2)
    nothing = pa.array([None] * len(index.table), type=pa.timestamp("us", tz="UTC"))
    table = replace(index.table, "timestamp", nothing)
    first, second = _find_pair(as_index(table, index.root))
    assert index.places[first] == index.places[second]


def test_16_bit_bands_are_stretched_to_the_full_range(tmp_path):
    index = make_index(tmp_path, views=1, suffix=".tif")
    pixels = _read_rgb(tmp_path / index.table["path"][0].as_py())
    assert pixels.shape == (24, 24, 3)
    assert pixels.dtype == np.uint8
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_wrong_runs_are_named(tmp_path):
    index = make_index(tmp_path, views=2)
    arguments = {"index": index, "clusters": TinyClusters(), "results": RESULTS}
    with pytest.raises(UsageError, match=r"nowhere.metrics\.jsonl: cannot read"):
        plot_summary(tmp_path / "s.png", run=tmp_path / "nowhere", **arguments)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "lo')
    with pytest.raises(UsageError, match=r"metrics\.jsonl, line 2: not JSON"):
        plot_summary(tmp_path / "s.png", run=tmp_path, **arguments)
    assert not (tmp_path / "s.png").exists()
