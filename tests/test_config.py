"""The settings of a run: how they are merged, checked and shown, and what becomes of earlier versions' ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from geossl.config import ColorConfig, CropConfig, Section, TrainConfig, make_config, setting_names
from geossl.errors import UsageError
from geossl.print_config import annotated_yaml
from geossl.renamed import GONE, RENAMED, migrate

BASE = {"data": "a.parquet", "out": "run"}
# As a checkpoint of the version before the settings were brought together has them.
EARLIER: dict[str, Any] = yaml.safe_load("""
arm: tp
data: a.parquet
out: run
seed: 0
epochs: 200
batch: 256
device: auto
save_steps: 0
loader: {root: null, pack: null, clusters: null, bands: null, split: null, threads: 0, slots: 6, on_error: raise,
  max_failures: 0.01, max_image_mib: 1024}
crop: {size: 224, resize: null, center: false, scale: [0.2, 1.0], ratio: [0.75, 1.3333333333333333], flip: 0.5,
  context: true, decode: exact, min_valid: 0.5, aligned: true, jitter: 0.2}
pairs: {season: any, gap_days: [0.0, null], max_cloud: null, sensor: any, draw: uniform, alone: itself}
color: {jitter_p: 0.7, jitter: [0.3, 0.2, 0.1, 0.0], gray_p: 0.2, blur_p: 0.4, blur_sigma: [0.2, 1.0], band_jitter: 0.3,
  band_dropout: 0.25, mean: null, std: null}
model: {backbone: resnet50, init: weights.pth, dim: 128, queue: null, momentum: 0.999, temperature: 0.07, bn_groups: 4}
geo: {target: clusters, infonce_weight: 2.0, weight: 0.5, feature: projection}
optim: {lr: 0.03, momentum: 0.9, weight_decay: 0.0001}
""")


def test_there_are_at_most_sixty_settings_and_each_has_its_help() -> None:
    names = setting_names()
    assert len(names) == len(set(names)) <= 60
    for section in (TrainConfig, *filter(is_section, (f.annotation for f in TrainConfig.model_fields.values()))):
        assert section.__doc__
        assert all(f.description for f in section.model_fields.values() if not is_section(f.annotation))


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def test_later_layers_win_setting_by_setting() -> None:
    first = {"epochs": 5, "optim": {"lr": 0.1, "momentum": 0.5}, "color": {"blur": [1, 1, 2]}}
    made = make_config(BASE, first, {"optim": {"lr": 0.2}, "color": {"blur": [0, 0, 1]}}, {"optim": {"lr": 0.3}})
    assert (made.epochs, made.optim.lr, made.optim.momentum, made.color.blur) == (5, 0.3, 0.5, (0, 0, 1))
    assert first["optim"] == {"lr": 0.1, "momentum": 0.5}, "the layers stay as they were"


def test_settings_are_printed_with_help_and_source_and_read_back() -> None:
    layers = [
        ("recipe x", {"arm": "tp", "optim": {"lr": 1e-20}, "crop": {"size": 64}}),
        ("my #1: a.yaml", {"crop": {"size": 32, "aligned": 0.05}, "pairs": {"gap_days": [1, None]}}),
        ("command line", {"data": "a #b: 'c'.parquet", "out": "ü", "color": {"mean": [0.5, 1e-7]}}),
    ]
    made = make_config(*(settings for _, settings in layers))
    text = annotated_yaml(made, layers)
    assert make_config(yaml.safe_load(text)) == made
    lines = [line.strip() for line in text.splitlines()]
    assert "arm: tp  # recipe x" in lines
    assert "size: 32  # my #1: a.yaml" in lines
    assert "mean: [0.5, 1.0e-07]  # command line" in lines
    assert lines[lines.index("epochs: 200  # default") - 1] == "# Passes over the images."
    assert sum(not line.startswith("#") and "  # " in line for line in lines) == len(setting_names())
    assert max(len(line) for line in text.splitlines() if line.strip().startswith("#")) <= 120


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"color": {"jitter": [0.4, 0.4, 0.4, 0.1]}},
            r"color\.jitter: the probability comes first: \[0\.8, 0\.4",
        ),
        ({"crop": {"aligned": True}}, r"crop\.aligned: true does not say how far .* give 0\.1, or null"),
        ({"color": {"blur": [0.5, 2, 1]}}, r"color\.blur: 0 <= from <= to must hold, not \(2\.0, 1\.0\)"),
        ({"geo": {"weights": [1, -1]}}, r"geo\.weights\.1: Input should be greater than or equal to 0"),
    ],
)
def test_values_that_are_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_config(BASE, settings)


def test_names_of_earlier_versions_say_what_they_are_now() -> None:
    with pytest.raises(UsageError) as caught:
        make_config(BASE, EARLIER)
    said = str(caught.value).split("; ")
    for name in RENAMED:
        assert any(part.startswith(f"{name}: is now ") for part in said), name
    assert "model.init: is now init_from" in said
    for name in GONE:
        assert f"{name}: no longer a setting" in said, name
    assert not (RENAMED.keys() | GONE.keys()) & set(setting_names())
    assert {new.partition(" ")[0] for new in RENAMED.values()} <= set(setting_names())


def test_settings_of_earlier_checkpoints_mean_what_they_meant() -> None:
    before = yaml.safe_dump(EARLIER)
    made = TrainConfig.model_validate(migrate(EARLIER))
    assert yaml.safe_dump(EARLIER) == before, "nothing is changed in place"
    assert made.init_from == Path("weights.pth")
    assert made.crop == CropConfig(aligned=0.2)
    assert made.color == ColorConfig(jitter=(0.7, 0.3, 0.2, 0.1, 0), blur=(0.4, 0.2, 1), bands=(0.3, 0.25))
    assert made.geo.weights == (2, 0.5)
    assert migrate({**EARLIER, "crop": {**EARLIER["crop"], "aligned": False}})["crop"]["aligned"] is None
    today = made.model_dump(mode="json")
    assert migrate(today) == today
    assert migrate({}) == {}


def test_states_of_earlier_loaders_are_of_the_same_options(tmp_path: Path) -> None:
    """The digest is what the version before made of these options: a run may go on in the middle of an epoch."""
    import pyarrow as pa

    from geossl.config import LoaderConfig
    from geossl.data.index import Index
    from geossl.data.loader import Loader
    from geossl.data.table import SCHEMA

    columns = {"path": ["a.jpg"] * 8, "location_id": ["p"] * 8, "width": [9] * 8, "height": [9] * 8, "bands": [3] * 8}
    columns["dtype"] = ["uint8"] * 8
    table = pa.table({name: columns.get(name, [None] * 8) for name in SCHEMA.names}, schema=SCHEMA)
    loader = Loader(
        Index(table=table, root=tmp_path, content_hash=""),
        rows=np.arange(8),
        batch=4,
        views=2,
        temporal=True,
        crop=CropConfig(size=16),
        color=ColorConfig(),
        seed=5,
        train=True,
        loader=LoaderConfig(threads=2),
    )
    assert loader.state_dict()["options"] == "7110ab9a1f68ea9312d37c487a41ecb9"
