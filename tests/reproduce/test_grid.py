"""Grids: the shipped ones, and what is wrong with a user's."""

import pytest
from reproduce_data import write_grid

from geossl.errors import UsageError
from geossl.reproduce.grid import grid_names, read_grid
from geossl.reproduce.paper import TABLES


def test_the_shipped_grids():
    papers = ["fmow-paper", "geoimagenet-paper", "naip-paper", "spacenet-paper"]
    assert grid_names() == ["bmng-small", *papers, "synthetic-smoke", "xview-paper"]


@pytest.mark.parametrize("name", grid_names())
def test_every_arm_of_a_shipped_grid_has_settings(name, tmp_path):
    grid = read_grid(name)
    table = TABLES[grid.table].figures
    for arm in grid.arms:
        assert grid.arms[arm].method in table
        if grid.arms[arm].trains:
            config = grid.settings(arm, data=tmp_path / "a.parquet", out=tmp_path / "run", seed=3)
            assert config.seed == 3
            assert config.arm == arm


def test_the_papers_grid_is_as_published(tmp_path):
    grid = read_grid("fmow-paper")
    assert {arm.method for arm in grid.arms.values()} == set(TABLES["fmow"].figures)
    config = grid.settings("tp", data=tmp_path / "a.parquet", out=tmp_path / "run", seed=0)
    assert (config.epochs, config.batch, config.model.backbone) == (200, 256, "resnet50")
    assert (config.model.temperature, config.optim.lr, config.model.queue, config.crop.size) == (0.02, 0.03, 65536, 224)


def test_the_grid_of_land_cover_has_the_papers_row():
    """Of given encoders, on val and test together."""
    grid = read_grid("naip-paper")
    assert [arm.method for arm in grid.arms.values()] == list(TABLES["naip"].figures)
    assert not any(arm.trains for arm in grid.arms.values())
    assert grid.evaluation.split_test == "val,test"
    assert [figures[1] for figures in TABLES["naip"].figures.values()] == [
        51.89, 53.46, 54.67, 54.46, 55.18, 58.23, 57.10, 57.63,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "transfer", "figures"),
    [
        ("xview", {"task": "detect"}, [10.75, None, 14.44, 14.42, 15.45, 15.63, 17.65, 17.74]),
        (
            "spacenet",
            {"task": "segment", "head": "psanet"},
            [74.93, 75.23, 75.61, 75.57, 78.05, 78.42, 78.48, 78.51],
        ),
    ],
)
def test_the_grids_of_transfers_have_the_papers_rows(table, transfer, figures):
    """Of given encoders, the arms of the grid of land cover."""
    grid = read_grid(f"{table}-paper")
    assert grid.arms == read_grid("naip-paper").arms
    assert grid.table == table
    assert [arm.method for arm in grid.arms.values()] == list(TABLES[table].figures)
    assert list(TABLES[table].figures.values()) == [(figure,) for figure in figures]
    assert grid.evaluation.transfer.model_dump(exclude_none=True) == transfer


def test_a_grids_settings_come_after_its_recipes(tmp_path):
    changes = {"arms": {"tp": {"method": "MoCo-V2+TP", "recipes": ["tp"], "config": {"model": {"queue": 32}}}}}
    grid = read_grid(write_grid(tmp_path / "grid.yaml", **changes, compare=[]))
    config = grid.settings("tp", data=tmp_path / "a.parquet", out=tmp_path / "run", seed=0)
    assert config.model.queue == 32
    assert config.model.backbone == "timm/test_resnet"
    assert config.epochs == 2
    assert config.model.momentum == 0.99, "laptop's"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [0]}, "sedes.*did you mean seeds"),
        ({"table": "imagenet"}, "table: .*fmow"),
        ({"compare": [["moco", "byol"]]}, "compare: no such arm: byol"),
        ({"data": {"places": 1, "clusters": 2}}, "data.places: .*greater than or equal to 2"),
        ({"evaluation": {"methods": ["svm"]}}, "evaluation.methods"),
        ({"evaluation": {"transfer": {"task": "classify"}}}, "evaluation.transfer.task"),
        ({"evaluation": {"transfer": {"task": "detect"}}}, "data: a made planet has no objects"),
        ({"data": None, "evaluation": {"transfer": {"task": "detect", "head": "psanet"}}}, "head: is for segment"),
        (
            {"data": None, "evaluation": {"transfer": {"task": "detect"}, "labels": [10]}},
            "evaluation.labels: is not used beside evaluation.transfer; leave it out",
        ),
    ],
)
def test_a_grid_that_is_wrong(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        read_grid(write_grid(tmp_path / "grid.yaml", **changes))


def test_a_grid_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"grid fmow_paper: no such grid; did you mean fmow-paper\?; or give a file"):
        read_grid("fmow_paper")
    with pytest.raises(UsageError, match=r"none\.yaml: cannot read"):
        read_grid(str(tmp_path / "none.yaml"))
