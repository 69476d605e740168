"""The folder of an evaluation, against scikit-learn and the functions that it is made of."""

import csv

import numpy as np
import pytest
import torch
from made_predictions import guessed, index_of, predictions, random_case
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from geossl.errors import GeosslError
from geossl.evaluate.bootstrap import intervals
from geossl.evaluate.evaluation import evaluate
from geossl.evaluate.metrics import score
from geossl.evaluate.predictions import read_predictions

CLASSES = [f"class {letter}" for letter in "abcdefghi"]
ROWS = np.arange(100, 500)


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """100 training images, then the 400 of `random_case`, each place at one spot."""
    places = np.concatenate([np.arange(100) + 1000, random_case()[2]])
    rng = np.random.default_rng(1)
    spots = {place: (rng.uniform(-50, 60), rng.uniform(-180, 180)) for place in np.unique(places).tolist()}
    return index_of(
        tmp_path_factory.mktemp("index"),
        location_id=[str(place) for place in places],
        lat=[spots[place][0] for place in places],
        lon=[spots[place][1] for place in places],
        country_code=[("FRA", "KEN", "PER", None)[place % 4] for place in places],
    )


@pytest.fixture(scope="module")
def made(index):
    """Of the trained encoder by two methods, one with two shares of the labels, and of a baseline."""

    def of(seed, **fit):
        probabilities = random_case(seed=seed)[0]
        _, labels, _ = random_case()
        mean = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(9), size=60).astype("f4"))
        return predictions(probabilities, labels, index.places[ROWS], rows=ROWS, by_mean_feature=mean, **fit)

    return [
        of(0, share=10.0),
        of(1, share=100.0),
        of(2, method="knn"),
        of(3, encoder="random", method="linear"),
    ]


@pytest.fixture(scope="module")
def evaluated(index, made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "probe"
    options = {"index": index, "classes": CLASSES, "train_rows": np.arange(100), "main": "geo_tp", "seed": 5}
    return evaluate(iter(made), folder=folder, **options), folder


def test_rows_have_the_scores_and_their_intervals(made, evaluated):
    found, _ = evaluated
    assert [row.fit for row in found.rows] == [each.fit for each in made]
    for row, each in zip(found.rows, made, strict=True):
        probabilities, labels, places = each.probabilities, each.labels, each.places
        assert row.scores == score(probabilities=probabilities, labels=labels, places=places)
        case = guessed(probabilities.numpy(), labels.numpy(), places.numpy())
        assert row.intervals == intervals(case, seed=5)
        guess = each.by_mean_feature.argmax(1)
        truth = case.places.labels
        assert row.place_variants["mean_feature"].top1 == accuracy_score(truth, guess)
        assert row.place_variants["mean_feature"].f1 == pytest.approx(f1_score(truth, guess, average="macro"))
        voices = np.zeros((60, 9))
        np.add.at(voices, (case.places.of_row, probabilities.argmax(1).numpy()), 1)
        best = voices == voices.max(axis=1, keepdims=True)
        sums = 60 * case.places.mean(probabilities).numpy()
        assert row.place_variants["vote"].top1 == accuracy_score(truth, np.where(best, sums, -1).argmax(axis=1))


def test_the_files(evaluated, made):
    _, folder = evaluated
    names = ["breakdowns.csv", "calibration.png", "classes.csv", "confusion.csv", "confusion.png"]
    assert sorted(file.name for file in folder.iterdir()) == [*names, "predictions.parquet"]
    got, classes = read_predictions(folder / "predictions.parquet")
    assert classes == CLASSES
    assert all(torch.equal(one.probabilities, other.probabilities) for one, other in zip(got, made, strict=True))
    for name in ("calibration", "confusion"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 300


def chosen(lines, each, per):
    fit = each.fit
    wanted = {"encoder": fit.encoder, "method": fit.method, "labels": str(fit.labels), "per": per}
    return [line for line in lines if wanted.items() <= line.items()]


def test_classes_and_confusions_equal_sklearns(evaluated, made):
    _, folder = evaluated
    classes, confusions = read_csv(folder / "classes.csv"), read_csv(folder / "confusion.csv")
    assert len(classes) == len(made) * 2 * 9
    for each in made:
        case = guessed(each.probabilities.numpy(), each.labels.numpy(), each.places.numpy())
        for per, guesses in (("image", case.images), ("place", case.by_sum)):
            truth, guess = guesses.labels, guesses.guess
            lines = chosen(classes, each, per)
            assert [line["category"] for line in lines] == CLASSES
            want = precision_recall_fscore_support(truth, guess, labels=np.arange(9), average=None, zero_division=0)
            for name, column in zip(("precision", "recall", "f1", "support"), want, strict=True):
                assert [float(line[name]) for line in lines] == pytest.approx(column.tolist())
            matrix = np.zeros((9, 9), dtype=int)
            for line in chosen(confusions, each, per):
                matrix[CLASSES.index(line["category"]), CLASSES.index(line["predicted"])] = line["count"]
            np.testing.assert_array_equal(matrix, confusion_matrix(truth, guess, labels=np.arange(9)))


def test_breakdowns_are_those_of_each_prediction(evaluated, made):
    _, folder = evaluated
    lines = read_csv(folder / "breakdowns.csv")
    assert {line["breakdown"] for line in lines} == {"country", "continent", "distance_km"}
    assert {line["group"] for line in lines if line["breakdown"] == "continent"} == {
        "Europe",
        "Africa",
        "South America",
        "unknown",
    }
    for each in made:
        own = chosen([line | {"per": ""} for line in lines], each, "")
        for name in ("country", "continent", "distance_km"):
            assert sum(int(line["images"]) for line in own if line["breakdown"] == name) == 400
            assert sum(int(line["places"]) for line in own if line["breakdown"] == name) == 60
        right = sum(float(line["top1"]) * int(line["images"]) for line in own if line["breakdown"] == "distance_km")
        assert right / 400 == pytest.approx((each.probabilities.argmax(1) == each.labels).double().mean().item())
        for line in own:
            if int(line["places"]) > 1:
                assert float(line["top1_low"]) <= float(line["top1"]) <= float(line["top1_high"])
            else:
                assert line["top1_low"] == line["top1_high"] == ""


def test_details_are_of_the_main_encoder_with_the_most_labels(evaluated):
    found, folder = evaluated
    titles = [line for line in found.details if line.startswith("by ")]
    assert titles == [f"by {name} (geo_tp, linear)" for name in ("country", "continent", "distance_km")]
    places = found.details[found.details.index(next(line for line in found.details if "by vote" in line)) :][1:5]
    assert [line.split("  ")[0] for line in places] == [row.fit.called for row in found.rows]
    lines = read_csv(folder / "classes.csv")
    own = [line for line in lines if line["labels"] == "100.0" and line["encoder"] == "geo_tp"]
    own = [line for line in own if line["method"] == "linear" and line["per"] == "image"]
    hardest = min(own, key=lambda line: float(line["f1"]))
    start = next(i for i, line in enumerate(found.details) if line.startswith("the hardest classes"))
    assert found.details[start + 2].startswith(hardest["category"])
    assert max(map(len, found.details)) <= 100


def test_an_index_without_columns_has_no_breakdowns(made, tmp_path):
    _, labels, places = random_case()
    index = index_of(tmp_path, location_id=[str(place) for place in places])
    one = predictions(random_case(seed=1)[0], labels, places)
    options = {"index": index, "classes": CLASSES, "train_rows": np.arange(5), "main": "geo_tp", "seed": 0}
    found = evaluate([one], folder=tmp_path / "probe", **options)
    assert read_csv(tmp_path / "probe" / "breakdowns.csv") == []
    assert not any(line.startswith("by ") for line in found.details)
    assert list(found.rows[0].place_variants) == ["vote"]


def test_a_folder_that_cannot_be_made(index, made, tmp_path):
    (tmp_path / "probe").write_text("in the way")
    options = {"index": index, "classes": CLASSES, "train_rows": np.arange(5), "main": "geo_tp", "seed": 0}
    with pytest.raises(GeosslError, match=r"predictions\.parquet: cannot be written"):
        evaluate(iter(made), folder=tmp_path / "probe", **options)
