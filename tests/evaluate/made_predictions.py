"""Predictions to measure: places with several views, some of them hard."""

import numpy as np
import pyarrow as pa
import torch

from geossl.data.index import Index
from geossl.data.table import SCHEMA, content_hash
from geossl.evaluate.guesses import PlacedGuesses, guess_images, guess_places
from geossl.evaluate.places import group_places
from geossl.evaluate.predictions import Fit, Predictions


def random_case(*, n=400, classes=9, places=60, seed=0):
    """Probabilities float32 [n, classes], labels and places [n]: the images of a place have one class, and are easy or
    hard together.
    """
    rng = np.random.default_rng(seed)
    place = rng.permutation(np.concatenate([np.arange(places), rng.integers(0, places, n - places)]))
    category = rng.integers(0, classes, places)
    seems = np.where(rng.random(places) < 0.6, category, rng.integers(0, classes, places))
    probabilities = rng.dirichlet(np.ones(classes) * 0.3, size=n)
    probabilities[np.arange(n), seems[place]] += 0.5
    return (probabilities / probabilities.sum(axis=1, keepdims=True)).astype("f4"), category[place], place


def guessed(probabilities, labels, places):
    grouped = group_places(places=places, labels=labels)
    tensor = torch.from_numpy(probabilities)
    by_sum, _ = guess_places(tensor, grouped)
    return PlacedGuesses(images=guess_images(tensor, labels), by_sum=by_sum, places=grouped)


def predictions(probabilities, labels, places, *, rows=None, by_mean_feature=None, share=100.0, **fit):
    made_by = {"encoder": "geo_tp", "method": "linear", "labels": share} | fit
    rows = np.arange(len(labels)) if rows is None else rows
    return Predictions(
        fit=Fit(**made_by),
        probabilities=torch.from_numpy(probabilities),
        labels=torch.from_numpy(labels),
        places=torch.from_numpy(places),
        rows=torch.from_numpy(rows),
        by_mean_feature=by_mean_feature,
    )


def index_of(root, **columns):
    """An index in memory; what is not given is null."""
    n = len(next(iter(columns.values())))
    filled = {
        "path": [f"{i}.png" for i in range(n)],
        "width": [8] * n,
        "height": [8] * n,
        "bands": [3] * n,
        "dtype": ["uint8"] * n,
    } | columns
    table = pa.table({f.name: pa.array(filled.get(f.name, [None] * n), f.type) for f in SCHEMA}, schema=SCHEMA)
    return Index(table=table, root=root, content_hash=content_hash(table))
