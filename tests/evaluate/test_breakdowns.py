import numpy as np
import pytest
from made_predictions import guessed, index_of, random_case
from sklearn.metrics import accuracy_score
from sklearn.metrics.pairwise import haversine_distances

from geossl.evaluate import continents
from geossl.evaluate.bootstrap import intervals
from geossl.evaluate.breakdowns import find_breakdowns, score_parts
from geossl.evaluate.continents import continent_of
from geossl.evaluate.places import group_places

EARTH_KM = 6371.0088


def found(index, rows, train_rows):
    rows = np.array(rows)
    places = group_places(places=index.places[rows], labels=np.zeros(len(rows), dtype=int))
    return {b.name: b for b in find_breakdowns(index, rows=rows, places=places, train_rows=np.array(train_rows))}


def names(breakdown):
    return [breakdown.groups[code] for code in breakdown.group]


def test_countries_and_continents(tmp_path):
    index = index_of(
        tmp_path,
        location_id=list("abbcdefgg"),
        country_code=["FRA", None, "KEN", "FRA", "KO-", "CA-", None, "KEN", "NGA"],
    )
    got = found(index, range(9), [0])
    assert list(got) == ["country", "continent"]
    # A place has the country of its first image that has one.
    assert names(got["country"]) == ["FRA", "KEN", "FRA", "KO-", "CA-", "unknown", "KEN"]
    assert got["country"].groups == ["FRA", "KEN", "CA-", "KO-", "unknown"]  # the most places first, unknown last
    assert names(got["continent"]) == ["Europe", "Africa", "Europe", "unknown", "unknown", "unknown", "Africa"]
    assert got["continent"].groups == ["Africa", "Europe", "unknown"]


def test_what_the_index_does_not_know_is_left_out(tmp_path):
    assert found(index_of(tmp_path, location_id=list("abc")), range(3), [0]) == {}
    foreign = index_of(tmp_path, location_id=list("abc"), country_code=["México", "XAA", None])
    assert list(found(foreign, range(3), [0])) == ["country"]
    only_train = index_of(tmp_path, country_code=["FRA", None], lat=[1.0, None], lon=[1.0, None])
    assert found(only_train, [1], [0]) == {}


def test_distances_equal_sklearns(tmp_path):
    rng = np.random.default_rng(0)
    count = 300
    # Many near each other, so that every bin has some.
    lat, lon = rng.normal(50, 4, count), rng.normal(179, 8, count)
    lon = (lon + 180) % 360 - 180
    lat[:8] = np.nan
    lon[:8] = np.nan
    ids = [f"place {number}" for number in range(count)]
    index = index_of(tmp_path, location_id=ids, lat=lat.tolist(), lon=lon.tolist())
    rows = rng.permutation(count)
    train, test = rows[:40], rows[40:]
    got = found(index, test, train)["distance_km"]
    points = np.radians(np.stack([lat, lon], axis=1))
    known = np.isfinite(lat)
    train = train[known[train]]
    test = np.sort(test)  # places are by ascending code, which here is that of the row
    for row, name in zip(test, names(got), strict=True):
        if not known[row]:
            assert name == "unknown"
            continue
        km = EARTH_KM * haversine_distances(points[[row]], points[train]).min()
        low, high = (float(end) for end in name.split(" to ")) if " to " in name else (1000, np.inf)
        assert low <= km < high
    assert got.groups[-1] == "unknown"
    assert set(got.groups) >= {"0 to 10", "10 to 50", "50 to 100", "100 to 500", "500 to 1000"}


def test_a_distance_at_an_end_belongs_to_the_farther_group(tmp_path):
    degrees = np.array([0, 0, 10, 50, 1000]) / (EARTH_KM * np.pi / 180) * (1 + 1e-12)
    index = index_of(tmp_path, location_id=list("abcde"), lat=[0.0] * 5, lon=degrees.tolist())
    got = found(index, range(1, 5), [0])["distance_km"]
    assert names(got) == ["0 to 10", "10 to 50", "50 to 100", "over 1000"]


def test_a_place_that_is_trained_on_is_at_no_distance(tmp_path):
    index = index_of(tmp_path, location_id=["a", "a", "b"], lat=[1.0, 1.1, 30.0], lon=[1.0, 1.0, 2.0])
    assert names(found(index, [1, 2], [0])["distance_km"]) == ["0 to 10", "over 1000"]


def test_parts_are_the_scores_of_their_images(tmp_path):
    probabilities, labels, places = random_case(n=300, places=50)
    country = np.array(["FRA", "KEN", None], dtype=object)[places % 3]
    index = index_of(tmp_path, location_id=[f"{p}" for p in places], country_code=country.tolist())
    case = guessed(probabilities, labels, index.places)
    breakdown, _ = find_breakdowns(index, rows=np.arange(300), places=case.places, train_rows=np.arange(3))
    parts = {part.group: part for part in score_parts(breakdown, case, seed=4)}
    assert sum(part.scores.images for part in parts.values()) == 300
    assert sum(part.scores.places for part in parts.values()) == 50
    for name, number in (("FRA", 0), ("KEN", 1), ("unknown", 2)):
        mine = places % 3 == number
        own = guessed(probabilities[mine], labels[mine], index.places[mine])
        part = parts[name]
        assert part.scores.top1 == accuracy_score(labels[mine], probabilities[mine].argmax(axis=1))
        assert part.scores.places == len(np.unique(places[mine]))
        assert part.intervals == intervals(own, seed=4)


@pytest.mark.parametrize(
    ("code", "continent"),
    [
        ("RUS", "Europe"),
        ("TUR", "Asia"),
        ("EGY", "Africa"),
        ("PAN", "North America"),
        ("COL", "South America"),
        ("GRL", "North America"),
        ("FJI", "Oceania"),
        ("ATA", "Antarctica"),
        ("KO-", "unknown"),
        ("CA-", "unknown"),
        ("fra", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_continents(code, continent):
    assert continent_of(code) == continent


def test_every_code_of_iso_3166_is_on_one_continent():
    listed = [code for codes in continents._CODES.values() for code in codes.split()]
    assert len(listed) == len(set(listed)) == 249 + 1  # ISO's, and XKX
    assert all(len(code) == 3 and code.isupper() for code in listed)
