"""Where the places of the planet are, what grows there and what is built there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    Array = NDArray[Any]

BLOCK_DEGREES = 15
"""Train and val never share a block of this many degrees of latitude and longitude."""

SOUTH, NORTH = -65.0, 75.0


class Biome(NamedTuple):
    """What grows where. Shares are 0..1; `dry` is how brown the herbs turn outside the rainy season."""

    soil: tuple[float, float, float, float]  # reflectance: R, G, B, near infrared
    trees: float
    evergreen: float
    herbs: float
    dry: float
    settled: float


BIOMES = {
    "ice": Biome((0.30, 0.30, 0.30, 0.34), 0.00, 0.0, 0.15, 0.0, 0.1),
    "tundra": Biome((0.20, 0.18, 0.15, 0.25), 0.03, 1.0, 0.60, 0.0, 0.4),
    "boreal": Biome((0.15, 0.12, 0.09, 0.21), 0.50, 0.9, 0.70, 0.1, 0.6),
    "temperate": Biome((0.19, 0.14, 0.10, 0.26), 0.30, 0.2, 0.90, 0.2, 1.6),
    "steppe": Biome((0.26, 0.21, 0.14, 0.33), 0.04, 0.3, 0.65, 0.7, 1.0),
    "desert": Biome((0.38, 0.29, 0.19, 0.45), 0.00, 0.0, 0.08, 0.9, 0.6),
    "savanna": Biome((0.29, 0.17, 0.10, 0.36), 0.14, 0.4, 0.75, 0.9, 1.0),
    "rainforest": Biome((0.22, 0.11, 0.07, 0.30), 0.60, 1.0, 0.90, 0.1, 0.8),
}

# How often each class is built in each biome, in the order of BIOMES; a regional taste multiplies it.
FREQUENCY = {
    "airport": (2.0, 2.0, 1.2, 1.0, 1.0, 1.0, 1.0, 1.0),
    "circular_irrigation": (0.05, 0.1, 0.3, 0.7, 2.2, 2.6, 1.0, 0.2),
    "crop_field": (0.05, 0.2, 0.7, 2.2, 1.8, 0.3, 1.5, 0.8),
    "dam": (0.5, 0.8, 1.8, 1.0, 0.7, 0.6, 0.9, 1.6),
    "open_pit_mine": (2.0, 2.0, 1.6, 0.5, 1.0, 1.5, 0.9, 1.2),
    "port": (2.0, 1.7, 1.3, 1.1, 0.5, 0.5, 0.8, 1.6),
    "residential": (0.8, 0.8, 0.9, 1.2, 0.9, 0.7, 1.3, 1.0),
    "road_interchange": (0.2, 0.4, 0.9, 1.4, 1.0, 0.8, 0.9, 0.7),
    "solar_farm": (0.2, 0.2, 0.3, 0.9, 1.3, 2.0, 1.0, 0.5),
    "stadium": (0.2, 0.3, 0.9, 1.5, 0.9, 0.7, 1.1, 1.1),
}


class Place(NamedTuple):
    """A location of the planet; `temperature` is its yearly mean in degrees Celsius, `relief` 0..1."""

    number: int
    category: str
    name: str
    split: str
    lat: float
    lon: float
    biome: Biome
    temperature: float
    relief: float
    country: str
    views: int


def plan_places(*, places: int, views: float, val: float, seed: int) -> list[Place]:
    """The places of a planet, with classes, splits and numbers of views; arguments are those of `make_planet`."""
    rng = np.random.default_rng([seed, 0])
    fields = {name: _waves(rng) for name in ("height", "warmth", "rain", *FREQUENCY)}
    scatter = _sphere(rng, 20_000)
    heights = _noise(scatter, fields["height"])
    sea = np.quantile(heights, 0.6)
    wild = scatter[(heights > sea) & _habitable(scatter)]
    names = list(BIOMES)
    kind = _climate(wild, fields, sea)[0]
    settled = np.array([biome.settled for biome in BIOMES.values()])
    settled = (settled / np.bincount(kind, minlength=len(BIOMES)).clip(1))[kind]
    centres = wild[rng.choice(len(wild), max(6, places // 12), p=settled / settled.sum())]
    weights = rng.gamma(2.0, 0.5, len(centres)) + 0.2
    chosen = np.empty((0, 3))
    while len(chosen) < places:  # most places gather around the centres, a fifth lies anywhere on land
        near = centres[rng.choice(len(centres), places, p=weights / weights.sum())]
        near = near + rng.normal(0, 0.035, near.shape)
        points = np.where(rng.random((places, 1)) < 0.2, wild[rng.integers(len(wild), size=places)], near)
        points += rng.normal(0, 0.002, points.shape)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        points = points[(_noise(points, fields["height"]) > sea) & _habitable(points)]
        chosen = np.concatenate([chosen, points])[:places]

    biomes, temperature, relief = _climate(chosen, fields, sea)
    taste = np.stack([_noise(chosen, fields[name]) for name in FREQUENCY], axis=1)
    frequency = np.array(list(FREQUENCY.values())).T[biomes] * np.exp(1.2 * taste)
    for _ in range(8):  # all classes are about as frequent on the whole
        frequency /= frequency.mean(axis=0)
        frequency /= frequency.sum(axis=1, keepdims=True)
    categories = (rng.random((places, 1)) > np.cumsum(frequency, axis=1)[:, :-1]).sum(axis=1)
    lat, lon = np.degrees(np.arcsin(chosen[:, 2])), np.degrees(np.arctan2(chosen[:, 1], chosen[:, 0]))
    held_out = _hold_out(rng, lat, lon, categories, val)
    capitals = _sphere(rng, 24)
    countries = np.argmax(chosen @ capitals.T, axis=1)
    # ISO 3166 leaves XAA to XZZ to its users; one code is cut short, as some of fMoW's are.
    codes = [f"XA{chr(65 + i)}" for i in range(23)] + ["XB-"]
    counts = _view_counts(rng, places, views)
    used: dict[tuple[str, str], int] = {}
    plan = []
    for i in range(places):
        category, split = list(FREQUENCY)[categories[i]], "val" if held_out[i] else "train"
        loc = used[split, category] = used.get((split, category), -1) + 1
        plan.append(
            Place(
                i, category, f"{category}_{loc}", split, float(lat[i]), float(lon[i]),
                BIOMES[names[biomes[i]]], float(temperature[i]), float(relief[i]), codes[countries[i]],
                int(counts[i]),
            )
        )  # fmt: skip
    return plan


def _sphere(rng: Generator, n: int) -> Array:
    points = rng.normal(size=(n, 3))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def _habitable(points: Array) -> Array:
    lat, lon = np.degrees(np.arcsin(points[:, 2])), np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    # Footprints that would cross the antimeridian are left out, as their polygons would be ambiguous.
    return np.asarray((lat > SOUTH) & (lat < NORTH) & (np.abs(lon) < 179.5))


def _waves(rng: Generator) -> tuple[Array, Array, Array]:
    frequency = np.repeat([1.5, 3.0, 6.0, 12.0, 24.0], 8)
    vectors = _sphere(rng, len(frequency)) * frequency[:, None]
    return vectors, rng.uniform(0, 2 * np.pi, len(frequency)), frequency**-0.8


def _noise(points: Array, waves: tuple[Array, Array, Array]) -> Array:
    """Coherent noise of unit variance at unit vectors [N, 3]: sinusoids in space have no seam and no pole."""
    vectors, phase, amplitude = waves
    return np.asarray(np.sin(points @ vectors.T + phase) @ amplitude / np.sqrt((amplitude**2).sum() / 2))


def _climate(points: Array, fields: dict[str, Any], sea: float) -> tuple[Array, Array, Array]:
    """Biome number, mean temperature (degrees Celsius) and relief (0..1) at unit vectors [N, 3]."""
    lat = np.degrees(np.arcsin(points[:, 2]))
    relief = np.clip((_noise(points, fields["height"]) - sea) / 1.5, 0, 1)
    temperature = 28 - 0.0085 * lat**2 + 2.5 * _noise(points, fields["warmth"]) - 7 * relief
    rain = 0.5 + 0.26 * np.cos(np.radians(6 * lat)) + 0.17 * _noise(points, fields["rain"])
    conditions = [
        temperature < -7, temperature < -1, (temperature < 5) & (rain > 0.3),
        rain < 0.22, (rain < 0.45) & (temperature < 21), temperature < 17, rain < 0.66,
    ]  # fmt: skip
    names = ["ice", "tundra", "boreal", "desert", "steppe", "temperate", "savanna"]
    numbers = [list(BIOMES).index(name) for name in names]
    return np.select(conditions, numbers, list(BIOMES).index("rainforest")), temperature, relief


def _hold_out(rng: Generator, lat: Array, lon: Array, categories: Array, val: float) -> Array:
    """Whole blocks with a share `val` of the places: the draw of many that is nearest it in every class."""
    blocks = np.floor(lat / BLOCK_DEGREES).astype(int) * 1000 + np.floor(lon / BLOCK_DEGREES).astype(int)
    names, block = np.unique(blocks, return_inverse=True)
    counts = np.zeros((len(names), len(FREQUENCY)), dtype=int)  # places of each block and class
    np.add.at(counts, (block, categories), 1)
    target = val * counts.sum(axis=0)
    best, least = np.zeros(len(names), dtype=bool), np.inf
    for _ in range(500):
        order = rng.permutation(len(names))
        held_out = np.zeros(len(names), dtype=bool)
        held_out[order[np.cumsum(counts[order].sum(axis=1)) <= target.sum()]] = True
        miss = float(((counts[held_out].sum(axis=0) - target) ** 2).sum())
        if miss < least:
            best, least = held_out, miss
    return np.asarray(best[block])


def _view_counts(rng: Generator, places: int, mean: float) -> Array:
    """Like fMoW's: 15 % of the places have one view (more for a mean under 1.85), the others a long tail."""
    singles = max(0.15, 2 - mean)
    if singles >= 1:
        return np.ones(places, dtype=int)
    more = max((mean - singles) / (1 - singles) - 2, 0)
    counts = 2 + rng.poisson(rng.gamma(2.0, more / 2, places))
    return np.where(rng.random(places) < singles, 1, counts)
