"""The made GeoImageNet: its layout, what is wrong with it on purpose, and that there is something to learn."""

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geossl.cli import main
from geossl.data.index import Index
from geossl.data.synth.photo_scene import CLASSES
from geossl.data.synth.photos import make_photos
from geossl.errors import UsageError
from geossl.geo import nearest


def digest(root: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.is_file():
            total.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def gradients(path: Path) -> np.ndarray:
    """Histograms of the gradients' directions in 6 x 6 cells: outlines and patterns, hardly any colour."""
    grey = np.asarray(Image.open(path).convert("L").resize((48, 48)), float)
    down, right = np.gradient(grey)
    strength, direction = np.hypot(down, right), np.arctan2(down, right) % np.pi
    bins = np.minimum(direction / np.pi * 8, 7).astype(int)
    cells = np.zeros((6, 6, 8))
    row, column = np.indices((48, 48)) // 8
    np.add.at(cells, (row, column, bins), strength)
    return (cells / np.linalg.norm(cells)).ravel()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("photos") / "made"
    summary = make_photos(out, places=300, views=4, size=48, seed=2)
    assert summary.photos == len(list(out.rglob("*.jpg")))
    assert (summary.classes, summary.folder) == (len(CLASSES), out)
    return out


@pytest.fixture(scope="module")
def rows(made: Path) -> list[list[str]]:
    with (made / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_same_arguments_same_bytes_for_any_number_of_workers(tmp_path):
    for name, seed, workers in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
        make_photos(tmp_path / name, places=20, views=2, size=32, seed=seed, workers=workers)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    assert not list(tmp_path.glob(".*"))


def test_the_layout_is_that_of_the_downloader(made, rows):
    assert sorted(path.name for path in made.iterdir()) == ["imagenet_images", "metadata.csv"]
    assert {path.name for path in (made / "imagenet_images").iterdir()} == set(CLASSES)
    whole = rows[:-1]
    assert all(len(row) == 7 and row[0].isdigit() for row in whole)
    assert not (made / "metadata.csv").read_bytes().endswith(b"\n")
    assert b"\r" not in (made / "metadata.csv").read_bytes()
    for path in made.rglob("*.jpg"):
        assert path.stem.isdigit()
        if path.stat().st_size:
            with Image.open(path) as image:
                assert (image.size, image.mode) == ((48, 48), "RGB")


def test_what_is_wrong_with_it(made, rows):
    files = list(made.rglob("*.jpg"))
    listed = Counter(row[0] for row in rows[:-1])
    unlisted = [path for path in files if path.stem not in listed]
    nowhere = [row for row in rows[:-1] if row[1:3] == ["-1000.0", "-1000.0"]]
    gone = [name for name in listed if name not in {path.stem for path in files}]
    for found in (unlisted, nowhere, gone):
        assert 0.005 * len(files) < len(found) < 0.06 * len(files)
    for path in unlisted:  # they know their place themselves
        with Image.open(path) as image:
            assert ExifTags.GPS.GPSLatitude in image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    (twice,) = (name for name, n in Counter(path.stem for path in files).items() if n == 2)
    assert listed[twice] == 2
    assert len(rows[-1]) == 2
    assert sum(row[1:3] == ["0.0", "0.0"] for row in rows[:-1]) == 1
    assert [path.stem in listed for path in files if not path.stat().st_size] == [True]
    names = np.array([[bool(name) for name in row[3:6]] for row in rows[:-1]])
    assert len(np.unique(names, axis=0)) == 8, "any of them may be missing"
    assert any(not row[4].isascii() for row in rows[:-1])
    assert any("," in row[3] for row in rows[:-1])


def test_classes_are_unbalanced(made):
    counts = [len(list(path.iterdir())) for path in (made / "imagenet_images").iterdir()]
    assert max(counts) > 0.15 * sum(counts)
    assert sorted(counts)[:2] == [1, 1]
    assert np.median(counts) < np.mean(counts)


def test_the_place_says_something_of_the_class_and_of_the_look(made, rows):
    place = {row[0]: (float(row[1]), float(row[2])) for row in rows[:-1] if abs(float(row[1])) <= 90}
    files = [path for path in made.rglob("*.jpg") if path.stem in place and path.stat().st_size]
    lat, lon = np.array([place[path.stem] for path in files]).T
    category = np.array([path.parent.name for path in files])
    near = nearest(lat, lon, k=6).rows[:, 1:]
    agreement = (category[near] == category[:, None]).mean()
    chance = (category[:, None] == category).mean()
    assert 1.3 * chance < agreement < 0.6
    look = np.stack([np.asarray(Image.open(path), float) for path in files])
    sky, ground = look[:, :8].mean((1, 2)), look[:, 40:].mean((1, 2))
    assert np.corrcoef(np.abs(lat), sky.sum(1))[0, 1] < -0.2, "low sun is dim"
    green = np.log(ground[:, 1] / ground[:, 0])
    same = np.abs(green[near] - green[:, None]).mean()
    assert same < 0.8 * np.abs(green - green[:, None]).mean(), "the ground of neighbours is alike"


def test_the_class_is_seen(made):
    files = sorted(path for path in made.rglob("*.jpg") if path.stat().st_size)
    x = np.array([gradients(path) for path in files])
    y = np.array([path.parent.name for path in files])
    test = np.random.default_rng(0).random(len(files)) < 0.3
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.01)).fit(x[~test], y[~test])
    constant = (y[test] == Counter(y[~test]).most_common(1)[0][0]).mean()
    assert model.score(x[test], y[test]) > 2 * constant


def test_a_small_network_learns_far_more_than_the_commonest_class(made, tmp_path):
    index = tmp_path / "made.parquet"
    assert main(["data", "geoimagenet", str(made), "--test", "200", "-o", str(index)]) == 0
    words = ["--from-scratch", "--backbone", "timm/test_resnet", "--size", "32", "--batch", "16", "--lr", "0.05"]
    words += ["--epochs", "12", "--split-test", "test", "--device", "cpu", "--threads", "1"]
    assert main(["finetune", "--data", str(index), "--out", str(tmp_path / "run"), *words]) == 0
    (row,) = json.loads((tmp_path / "run/finetune.json").read_text())["rows"]
    table = Index.read(index).table.select(["category", "split"]).to_pylist()
    train, test = ([row["category"] for row in table if row["split"] == name] for name in ("train", "test"))
    constant = test.count(Counter(train).most_common(1)[0][0]) / len(test)
    assert row["scores"]["top1"] > constant + 0.25
    assert row["scores"]["top1"] < row["scores"]["top5"] <= 1


def test_the_command(tmp_path, capsys):
    out = tmp_path / "made"
    assert main(["data", "synth", "--task", "photos", str(out), "--places", "20", "--views", "2", "--size", "32"]) == 0
    files = list(out.rglob("*.jpg"))
    printed = capsys.readouterr().out
    assert printed.startswith(f"{len(files)} photos in {len(CLASSES)} classes, ")
    assert printed.endswith(f"next: geossl data geoimagenet {out} --test {len(files) // 5} -o {out}.parquet\n")
    assert main(printed.splitlines()[-1].split()[2:]) == 0
    for wrong in (["--bands", "4"], ["--places", "10"], ["--views", "99"]):
        assert main(["data", "synth", "--task", "photos", str(tmp_path / "other"), *wrong]) == 2
    with pytest.raises(UsageError, match="exists and is not an empty folder"):
        make_photos(out, places=20)
    assert not (tmp_path / "other").exists()
