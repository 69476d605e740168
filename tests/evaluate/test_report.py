import json
import math

import pytest

from geossl.errors import GeosslError
from geossl.evaluate.bootstrap import Interval
from geossl.evaluate.geo_errors import GeoScores
from geossl.evaluate.metrics import Rates, Scores
from geossl.evaluate.predictions import Fit
from geossl.evaluate.report import Report, Row
from geossl.tables import align, per_cent, write_csv

SCORES = Scores(
    top1=0.637,
    top5=math.nan,
    f1=1 / 3,
    f1_weighted=0.5,
    ece=0.042,
    place_top1=1,
    place_top5=math.nan,
    place_f1=0.25,
    place_f1_weighted=0.75,
    place_ece=0.1,
    images=40,
    places=8,
    views_mean=5.0,
    views_median=4.5,
)
INTERVALS = {
    "top1": Interval(0.612, 0.6614),
    "f1": Interval(0.3, 0.4),
    "place_top1": Interval(1, 1),
    "place_f1": Interval(math.nan, math.nan),
}


def row(**fit):
    variants = {"vote": Rates(top1=0.5, top5=math.nan, f1=0.5, f1_weighted=0.5)}
    return Row(fit=Fit(**fit), scores=SCORES, intervals=INTERVALS, place_variants=variants)


def report(**changes):
    fields = {
        "run": "runs/demo",
        "data": "planet.parquet",
        "index_hash": "ab",
        "settings": {"seed": 0, "lr": None},
        "train_images": 1234,
        "train_places": 30,
        "test_images": 40,
        "test_places": 8,
        "classes": 3,
        "rows": [row(encoder="geo_tp", method="linear", lr=1.0), row(encoder="random", method="knn")],
        "notes": ["warning: é"],
    }
    return Report(**(fields | changes))


def test_as_text():
    assert report().lines() == [
        "encoder  method  per                   top-1  top-5                 F1  weighted   ECE",
        "geo_tp   linear  image     63.7 [61.2, 66.1]      -  33.3 [30.0, 40.0]      50.0   4.2",
        "                 place  100.0 [100.0, 100.0]      -               25.0      75.0  10.0",
        "random   knn     image     63.7 [61.2, 66.1]      -  33.3 [30.0, 40.0]      50.0   4.2",
        "                 place  100.0 [100.0, 100.0]      -               25.0      75.0  10.0",
        "3 classes: trained on 1,234 images of 30 places,",
        "tested on 40 images of 8 places (views of a place: mean 5.0, median 4.5)",
        "per cent, 95 % intervals over places; F1: macro, and weighted; a place: the sum of its probabilities",
        "warning: é",
    ]


def test_shares_of_the_labels_have_a_column_and_doubts_a_line():
    rows = [
        row(encoder="geo_tp", method="linear", labels=0.5, lr=1.0, validation_places=0),
        row(encoder="geo_tp", method="logistic", labels=0.5, c=1.0, validation_places=0, converged=True),
        row(encoder="geo_tp", method="logistic", c=10.0, validation_places=7, converged=False),
    ]
    lines = report(rows=rows, notes=[]).lines()
    assert lines[0].split()[:4] == ["encoder", "method", "labels", "per"]
    assert lines[1].startswith("geo_tp   linear    0.5 %   image ")
    assert lines[5].startswith("geo_tp   logistic  100 %   image ")
    why = "most classes have a single place, and nothing to choose on"
    assert lines[-2:] == [
        f"0.5 % of the labels: by default learning rate 1, C 1: {why}",
        "geo_tp, logistic: stopped before its end",
    ]


def test_a_table_of_long_words_fits_a_hundred_columns():
    rows = [row(encoder="random_conv", method="logistic", labels=labels) for labels in (10, 100)]
    assert max(map(len, report(rows=rows, notes=[]).lines()[:5])) <= 100


def test_the_geo_head_has_a_line():
    geo = GeoScores(images=40, clusters=100, cluster_top1=0.123, km_median=1234.5, km_mean=2345.6)
    line = "geo head: 12.3 % of 100 clusters right, error median 1,234 km, mean 2,346 km (40 test images)"
    assert report(geo=geo).lines()[-2] == line


def test_as_json(tmp_path):
    geo = GeoScores(images=40, clusters=0, cluster_top1=math.nan, km_median=1.0, km_mean=2.0)
    report(geo=geo, details=["a table"]).write(tmp_path / "probe.json")
    got = json.loads((tmp_path / "probe.json").read_text(encoding="utf-8"))
    first = got["rows"][0]
    assert (first["encoder"], first["method"], first["labels"], first["lr"]) == ("geo_tp", "linear", 100.0, 1.0)
    assert first["scores"]["top5"] is None
    assert first["scores"]["f1"] == pytest.approx(1 / 3)
    assert first["intervals"]["top1"] == [0.612, 0.6614]
    assert first["intervals"]["place_f1"] == [None, None]
    assert first["place_variants"]["vote"]["top1"] == 0.5
    assert got["notes"] == ["warning: é"]
    assert got["geo"]["cluster_top1"] is None
    assert "details" not in got
    assert [f.name for f in tmp_path.iterdir()] == ["probe.json"]
    with pytest.raises(GeosslError, match="cannot write the report"):
        report().write(tmp_path / "probe.json" / "below" / "probe.json")


def test_tables(tmp_path):
    assert align([["name", "a", "b"], ["x", "1", "23"]], left={0}) == ["name  a   b", "x     1  23"]
    assert per_cent(math.nan) == "-"
    assert per_cent(0.5) == "50.0"
    path = tmp_path / "new" / "table.csv"
    write_csv(path, ["name", "share"], [["a, b", 0.5], ["é", math.nan], [None, 1]])
    assert path.read_text(encoding="utf-8") == 'name,share\n"a, b",0.5\né,\n,1\n'
    with pytest.raises(GeosslError, match=r"table\.csv: cannot be written|table\.csv.below: cannot be written"):
        write_csv(path / "below", [], [])
