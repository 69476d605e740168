"""GeoImageNet from the folders and tables that people have, and its split."""

import csv
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geossl.cli import app, main
from geossl.data.geoimagenet import index_geoimagenet
from geossl.data.index import Index
from geossl.data.photo_split import draw_test
from geossl.data.synth.photos import IMAGES, METADATA, make_photos
from geossl.errors import UsageError
from geossl.geo import distance_km

TEST = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made GeoImageNet, as its downloader leaves it."""
    out = tmp_path_factory.mktemp("photos") / "geoimagenet"
    make_photos(out, places=60, views=4, size=32, seed=1)
    return out


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, list[str]]:
    """The metadata's whole rows by photo id, the first of each."""
    with (folder / METADATA).open(encoding="utf-8", newline="") as file:
        whole = [row for row in csv.reader(file) if len(row) == 7]
    return {row[0]: row for row in reversed(whole)}


@pytest.fixture(scope="module")
def usable(folder: Path, rows: dict[str, list[str]]) -> list[Path]:
    """Files that have a place, by our own reading of the folder."""
    found = sorted((folder / IMAGES).rglob("*.jpg"))
    return [
        path
        for path in found
        if path.stat().st_size and path.stem in rows and rows[path.stem][1:3] not in (["0.0"] * 2, ["-1000.0"] * 2)
    ]


def splits(index: Index) -> dict[str, str]:
    """The split of each file, by its class and name."""
    table = index.table.select(["path", "split"]).to_pylist()
    return {"/".join(Path(row["path"]).with_suffix("").parts[-2:]): row["split"] for row in table}


def as_imagenet(folder: Path, out: Path, files: list[Path]) -> dict[str, str]:
    """The photos as ImageNet has them, below train and val; ImageNet's names by the photos' ids."""
    wnids = {name: f"n{number:08}" for number, name in enumerate(sorted({path.parent.name for path in files}))}
    names = {}
    for number, path in enumerate(files):
        wnid = wnids[path.parent.name]
        to = out / ("train" if number % 3 else "val") / wnid / f"{wnid}_{number}.JPEG"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
        names[to.stem] = path.stem
    return names


def write_table(path: Path, columns: dict[str, list]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_what_the_downloader_left(folder, rows, usable):
    index, report = index_geoimagenet(folder, test=TEST)
    assert index.table["path"].to_pylist() == [str(path.relative_to(folder)) for path in usable]
    assert index.table["category"].to_pylist() == [path.parent.name for path in usable]
    for name, column in (("lat", 1), ("lon", 2)):
        assert index.table[name].to_pylist() == [float(rows[path.stem][column]) for path in usable]
    countries = [rows[path.stem][4] or None for path in usable]
    assert index.table["country_code"].to_pylist() == countries
    assert None in countries
    assert any(name and not name.isascii() for name in countries)
    assert Counter(index.table["split"].to_pylist()) == {"test": TEST, "train": len(usable) - TEST}

    files = list((folder / IMAGES).rglob("*.jpg"))
    ids = {path.stem for path in files}
    nowhere = sum(path.stem in rows and rows[path.stem][1] == "-1000.0" for path in files)
    unlisted = sum(path.stem not in rows for path in files)
    assert min(nowhere, unlisted) >= 3
    assert report.left_out == {
        "without coordinates": nowhere + unlisted,
        "whose header cannot be read": 1,
        "whose coordinates cannot be a place": 1,
        "in no folder of a class": 0,
        "of classes with less than 1 photos": 0,
    }
    assert sum(report.left_out.values()) + len(index) == len(files)
    assert report.repeated == 1
    text = "\n".join(report.lines())
    assert f"photos that {METADATA} does not list, left out: {unlisted}" in text
    assert f"rows of {METADATA} without a photo: {len(rows.keys() - ids)}" in text
    assert f"rows of {METADATA} whose photo has an earlier one, left out: 1" in text
    assert "not 7 columns, left out, e.g. metadata.csv line" in text
    assert "1 x the file is empty" in text
    assert "null island" in text
    single = [name for name, n in Counter(path.parent.name for path in usable).items() if n == 1]
    assert f"not both: {len(single)}\n" in text
    assert len(single) >= 2


def test_the_counts_of_the_splits_and_what_they_know_of_one_another(folder):
    index, report = index_geoimagenet(folder, test=TEST)
    table = index.table.to_pandas()
    for name in ("train", "test"):
        counts = table[table.split == name].category.value_counts()
        found = dict(zip(report.classes, report.counts[name].tolist(), strict=True))
        assert {key: n for key, n in found.items() if n} == counts.to_dict()
    train, test = table[table.split == "train"], table[table.split == "test"]
    km = distance_km(
        test.lat.to_numpy()[:, None], test.lon.to_numpy()[:, None], train.lat.to_numpy(), train.lon.to_numpy()
    ).min(axis=1)
    assert (report.near, report.same) == ((km < 1).sum(), (km == 0).sum())
    assert 0 < report.same < report.near < TEST
    unseen = sorted(set(test.category) - set(train.category))
    text = "\n".join(report.lines())
    assert f"from a training photo: {report.near} of {TEST} " in text
    for name in unseen:
        assert f"count as wrong: {len(unseen)}: {unseen[0]}" in text, name


def test_the_split_is_that_of_the_ids_wherever_they_lie(folder, rows, usable, tmp_path):
    first, _ = index_geoimagenet(folder, test=TEST)
    # Other folders, other suffixes, other classes' names do not matter; nor does the order of the table.
    for number, path in enumerate(usable):
        to = tmp_path / "moved" / ("val" if number % 2 else "deeper/train") / path.parent.name / f"{path.stem}.JPEG"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
    ids = sorted({path.stem for path in usable}, key=hash)
    columns = {"id": [int(name) for name in ids], "lat": [], "lon": [], "country": []}
    for name in ids:
        for key, at in (("lat", 1), ("lon", 2), ("country", 4)):
            columns[key].append(rows[name][at] if key == "country" else float(rows[name][at]))
    for name in ("table.parquet", "table.csv"):
        again, _ = index_geoimagenet(
            tmp_path / "moved", coordinates=write_table(tmp_path / name, columns), test=TEST, threads=1
        )
        assert splits(again) == splits(first)
        country = dict(zip(again.table["path"].to_pylist(), again.table["country_code"].to_pylist(), strict=True))
        assert {Path(path).stem: value for path, value in country.items()} == {n: rows[n][4] or None for n in ids}
    other, _ = index_geoimagenet(folder, test=TEST, seed=1)
    assert splits(other) != splits(first)


def test_imagenets_files_and_a_table_that_names_them(folder, rows, usable, tmp_path):
    names = as_imagenet(folder, tmp_path / "imagenet", usable)
    drawn = {name.split("/")[1]: split for name, split in splits(index_geoimagenet(folder, test=TEST)[0]).items()}
    columns = {
        "image": [f"{name}.JPEG" if number % 2 else name for number, name in enumerate(names)],
        "id": [float(identity) for identity in names.values()],
        "latitude": [float(rows[identity][1]) for identity in names.values()],
        "longitude": [float(rows[identity][2]) for identity in names.values()],
    }
    table = write_table(tmp_path / "table.parquet", columns)
    renames = {"file": "image", "lat": "latitude", "lon": "longitude"}
    index, report = index_geoimagenet(tmp_path / "imagenet", coordinates=table, renames=renames, test=TEST)
    assert len(index) == len(usable)
    assert set(index.table["category"].to_pylist()) == {path.parent.name for path in (tmp_path).rglob("*.JPEG")}
    found = dict(zip(index.table["path"].to_pylist(), index.table["split"].to_pylist(), strict=True))
    assert {names[Path(path).stem]: split for path, split in found.items()} == drawn
    assert report.photos == drawn

    # By their paths, absolute or not, it is the files' names that are drawn.
    found = sorted((tmp_path / "imagenet").rglob("*.JPEG"))
    given = [str(path if n % 2 else path.relative_to(tmp_path / "imagenet")) for n, path in enumerate(found)]
    at = [rows[names[path.stem]] for path in found]
    columns = {"path": given, "lat": [row[1] for row in at], "lon": [row[2] for row in at]}
    by_path, report = index_geoimagenet(
        tmp_path / "imagenet", coordinates=write_table(tmp_path / "paths.csv", columns), test=TEST
    )
    assert len(by_path) == len(usable)
    assert set(report.photos) == set(names)


def test_a_table_without_a_header(folder, tmp_path):
    shutil.copy(folder / METADATA, tmp_path / "flickr.csv")
    first, _ = index_geoimagenet(folder, test=TEST)
    again, _ = index_geoimagenet(folder / IMAGES, coordinates=tmp_path / "flickr.csv", test=TEST)
    assert splits(again) == splits(first)


def test_photos_that_know_their_place_themselves(folder, rows, tmp_path):
    files = [path for path in (folder / IMAGES).rglob("*.jpg") if path.stem not in rows]
    without, _ = index_geoimagenet(folder, test=TEST)
    both, report = index_geoimagenet(folder, exif=True, test=TEST)
    assert len(both) == len(without) + len(files)
    assert f"{METADATA} does not list, whose EXIF is asked: {len(files)}" in "\n".join(report.lines())
    table = dict(zip(without.table["path"].to_pylist(), without.table["lat"].to_pylist(), strict=True))
    for row in both.table.to_pylist():
        assert row["lat"] == table.get(row["path"], row["lat"])

    shutil.copytree(folder / IMAGES, tmp_path / "photos")
    alone, _ = index_geoimagenet(tmp_path / "photos", exif=True, test=2)
    assert {Path(path).stem for path in alone.table["path"].to_pylist()} == {path.stem for path in files}
    assert np.isfinite(alone.table["lat"].to_numpy()).all()
    with pytest.raises(UsageError, match="where its photos were taken is not known: give a table with --coordinates"):
        index_geoimagenet(tmp_path / "photos", test=2)


def test_the_draw():
    ids = [str(number) for number in range(1000)]
    drawn = draw_test(ids, test=200, seed=0)
    assert drawn.sum() == 200
    order = np.random.default_rng(0).permutation(1000)
    assert (draw_test([ids[i] for i in order], test=200, seed=0) == drawn[order]).all()
    # Without a tenth of the photos, nearly all that are left stay where they are.
    left = np.arange(1000) % 10 != 3
    fewer = draw_test([name for name, kept in zip(ids, left, strict=True) if kept], test=180, seed=0)
    assert (fewer == drawn[left]).mean() > 0.97
    assert (draw_test(ids, test=200, seed=1) & drawn).sum() < 80  # 40 are expected
    # Even: of a fifth that is drawn, half has an even number, within four deviations.
    assert abs(drawn[::2].sum() - 100) < 4 * np.sqrt(200 * 0.25 * 0.8)
    # One photo is in one split, and the number is kept all the same.
    twice = np.array(ids[:500] + ids[:300])
    drawn = draw_test(twice.tolist(), test=201, seed=0)
    assert drawn.sum() == 201
    assert not set(twice[drawn]) & set(twice[~drawn])


def test_a_split_of_another_machine(folder, tmp_path, capsys):
    words = ["data", "geoimagenet", str(folder), "-o", str(tmp_path / "a.parquet"), "--test", str(TEST), "--seed", "5"]
    assert main(words) == 0
    written = tmp_path / "a.split.csv"
    printed = capsys.readouterr().out
    assert f"-> {tmp_path / 'a.parquet'}, {written}\nnext: geossl data cluster {tmp_path / 'a.parquet'} -k " in printed
    assert "the paper has 543,435 photos of 5,150 classes" in printed
    index = Index.read(tmp_path / "a.parquet")
    text = written.read_text()
    assert text.startswith("id,split\n")
    lines = text.splitlines()[1:]
    assert lines == sorted(lines)
    assert dict(line.split(",") for line in lines) == {k.split("/")[1]: v for k, v in splits(index).items()}

    # Some of its photos are not on the other machine, and that has others.
    gone = {line.split(",")[0] for line in lines[:3]}
    cut = tmp_path / "cut.csv"
    cut.write_text("\n".join(["id,split", *lines[3:], "17,test"]) + "\n")
    words = ["data", "geoimagenet", str(folder), "-o", str(tmp_path / "b.parquet")]
    assert main([*words, "--split", str(cut)]) == 0
    printed = capsys.readouterr().out
    assert "photos that cut.csv does not name, in no split: 3" in printed
    assert "photos of cut.csv that are not here: 1" in printed
    assert not (tmp_path / "b.split.csv").exists()
    expected = splits(index)
    for name, split in splits(Index.read(tmp_path / "b.parquet")).items():
        assert split == (None if name.split("/")[1] in gone else expected[name])

    for wrong, message in (
        (["--split", str(cut), "--seed", "3"], "--test and --seed are for a new one"),
        (["--split", str(folder / METADATA)], "metadata.csv: cannot be read as a split: "),
        (["--split", str(tmp_path / "b.parquet")], "a split has the columns id and split"),
        (["--min-photos", "0"], "must be at least 1"),
        (["--map", "lat=latitude"], "--map: .*metadata.csv has no header, and is read as the columns id, lat, lon,"),
        (["--coordinates", str(cut), "--map", "where=lat"], "known columns are: path, file, id, lat, lon, country"),
        (["--test", "5000"], "--test 5,000: [0-9]+ photos can be used, and some have to train; .* would be --test 4"),
        ([], "--test 100,000, as in the paper: [0-9]+ photos"),
        (["--test", "0"], "--test 0: "),
    ):
        assert main([*words, *wrong]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert re.search(message, line)


def test_classes_that_are_too_small(folder, usable):
    counts = Counter(path.parent.name for path in usable)
    least = sorted(counts.values())[4] + 1
    index, report = index_geoimagenet(folder, min_photos=least, test=TEST)
    kept = {name: n for name, n in counts.items() if n >= least}
    assert Counter(index.table["category"].to_pylist()) == kept
    assert report.left_out[f"of classes with less than {least} photos"] == sum(counts.values()) - sum(kept.values())
    with pytest.raises(UsageError, match=r"none of its .* photos can be used: .*of classes with less than 9999 photos"):
        index_geoimagenet(folder, min_photos=9999, test=TEST)


def test_photos_in_no_class(folder, usable, tmp_path):
    flat = tmp_path / "flat"
    (flat / "val").mkdir(parents=True)
    (flat / "church").mkdir()
    for number, path in enumerate(usable[:9]):
        shutil.copyfile(path, flat / ("church" if number < 5 else "val" if number < 7 else ".") / path.name)
    index, report = index_geoimagenet(flat, coordinates=folder / METADATA, test=2)
    assert set(index.table["category"].to_pylist()) == {"church"}
    assert report.left_out["in no folder of a class"] == 4


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["1"], "lat": ["1"]}, "no column lon; its columns are: id, lat; name them with --map lon=COLUMN"),
        ({"photo": ["1"], "lat": ["1"], "lon": ["1"]}, "no column path, file or id; .* --map id=COLUMN"),
        (
            {"id": ["n01440764_1"], "lat": ["1"], "lon": ["1"]},
            "its column id names no photo of .*'n01440764_1' there, '",
        ),
        ({"id": ["7"], "lat": [""], "lon": [""]}, "it has no coordinates of the photos that it lists"),
    ],
)
def test_a_table_that_is_of_no_use(folder, tmp_path, columns, message):
    photos = tmp_path / "photos"
    (photos / "zoo").mkdir(parents=True)
    shutil.copyfile(next(path for path in folder.rglob("*.jpg") if path.stat().st_size), photos / "zoo/7.jpg")
    with pytest.raises(UsageError, match=message):
        index_geoimagenet(photos, coordinates=write_table(tmp_path / "table.csv", columns), test=1)


def test_a_folder_that_is_none(folder, tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        index_geoimagenet(tmp_path / "nothing", test=1)
    with pytest.raises(UsageError, match="no photos found"):
        index_geoimagenet(tmp_path, coordinates=folder / METADATA, test=1)
    with pytest.raises(UsageError, match=r"a table of coordinates is a \.csv or \.parquet file"):
        index_geoimagenet(folder, coordinates=tmp_path / "table.json", test=1)
    (tmp_path / "latin.csv").write_bytes("1,2,3,,México,,\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin.csv: cannot be read as a table of coordinates: "):
        index_geoimagenet(folder, coordinates=tmp_path / "latin.csv", test=1)


def test_the_commands_of_the_page_are_known():
    text = (Path(__file__).parents[2] / "docs/geoimagenet.md").read_text(encoding="utf-8")
    commands = re.findall(r"^(?:\$ )?(geossl .*)$", text, re.MULTILINE) + re.findall(r"`(geossl [^`]*)`", text)
    assert len(commands) > 14
    for command in commands:
        app.parse_args(command.split()[1:], exit_on_error=False, print_error=False)
