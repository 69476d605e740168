"""The encoders that no run has trained, against scipy, numpy and the formulas of the papers."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.signal import correlate

from geossl.evaluate import random_conv
from geossl.evaluate.baselines import Standardizer
from geossl.evaluate.image_statistics import COUNT, PERCENTILES, image_statistics
from geossl.evaluate.random_conv import PatchTaker, RandomConv, whiten


def statistics_by_hand(values):
    values = values.astype(float)
    return [
        values.mean(),
        values.std(),
        stats.skew(values),
        stats.kurtosis(values),
        values.min(),
        values.max(),
        *np.percentile(values, PERCENTILES),
    ]


def test_statistics_equal_scipys_and_numpys():
    images = torch.randn(19, 3, 17, 16, generator=torch.Generator().manual_seed(0)).exp()
    got = image_statistics(images)
    assert got.shape == (19, 3 * COUNT)
    assert COUNT == 13
    want = [[statistics_by_hand(band.ravel()) for band in image] for image in images.numpy()]
    np.testing.assert_allclose(got.numpy(), np.array(want).reshape(19, -1), rtol=1e-5, atol=1e-6)


def test_what_has_no_data_has_no_part():
    images = torch.randn(2, 2, 9, 9, generator=torch.Generator().manual_seed(1))
    lacking = torch.rand(2, 2, 9, 9, generator=torch.Generator().manual_seed(2)) < 0.4
    lacking[1, 0] = True  # a band without any data
    lacking[1, 1] = True
    lacking[1, 1, 3, 4] = False  # one value
    got = image_statistics(images.masked_fill(lacking, float("nan"))).view(2, 2, COUNT)
    for band in (0, 1):
        want = statistics_by_hand(images[0, band][~lacking[0, band]].numpy())
        np.testing.assert_allclose(got[0, band], want, rtol=1e-5, atol=1e-6)
    assert (got[1, 0] == 0).all()
    only = images[1, 1, 3, 4].item()
    np.testing.assert_allclose(got[1, 1], [only, 0, 0, 0] + [only] * 9, rtol=1e-6)


def test_a_band_of_one_value_has_no_skewness():
    got = image_statistics(torch.full((1, 1, 30, 30), 0.1))[0]
    np.testing.assert_allclose(got, [0.1, 0, 0, 0] + [0.1] * 9, atol=1e-7)


def test_standardised_features_equal_sklearns():
    from sklearn.preprocessing import StandardScaler

    draw = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 5, generator=draw) * torch.logspace(-4, 4, 5) + 3 for n in (80, 20))
    train[:, 2] = 7.0
    got = Standardizer(train)
    want = StandardScaler().fit(train.numpy().astype(float))
    for x in (train, test):
        np.testing.assert_allclose(got(x), want.transform(x.numpy().astype(float)), rtol=1e-5, atol=1e-5)
    assert (got(train)[:, 2] == 0).all()


def random_patches(count=50, *, bands=3, seed=0):
    return torch.randn(count, bands, 3, 3, generator=torch.Generator().manual_seed(seed))


def whitened_by_hand(patches, *, bias=1e-3):
    """MOSAIKS' way: eigenvectors of the covariance of the patches, ZCA, applied twice."""
    flat = patches.numpy().astype(float).reshape(len(patches), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.where(norm < 1e-8, 1, norm)
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    zca = vectors @ np.diag((values + bias) ** -0.5) @ vectors.T
    return (flat @ zca @ zca.T).reshape(patches.shape)


def test_filters_are_patches_whitened_twice():
    patches = random_patches()
    patches[7] = 0.3  # one value: nothing is left of it
    got = whiten(patches)
    np.testing.assert_allclose(got, whitened_by_hand(patches), rtol=1e-3, atol=1e-3)
    assert got[7].abs().max() < 1e-4
    assert got.dtype == torch.float32


def test_features_are_what_convolutions_have_above_and_below_the_bias():
    patches = random_patches(12)
    images = torch.randn(5, 3, 11, 8, generator=torch.Generator().manual_seed(1))
    got = RandomConv(patches)(images)
    filters = whitened_by_hand(patches)
    for image, features in zip(images.numpy(), got, strict=True):
        for number, patch in enumerate(filters):
            found = correlate(image, patch, mode="valid")[0] - 1.0
            assert features[number] == pytest.approx(np.maximum(found, 0).mean(), rel=1e-3, abs=1e-4)
            assert features[12 + number] == pytest.approx(np.maximum(-found, 0).mean(), rel=1e-3, abs=1e-4)


def test_blocks_of_images_change_nothing(monkeypatch):
    module = RandomConv(random_patches(6))
    images = torch.randn(7, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    whole = module(images)
    monkeypatch.setattr(random_conv, "BLOCK_VALUES", 6 * 81 * 2)
    torch.testing.assert_close(module(images), whole)


def test_a_patch_of_each_image_from_anywhere():
    # Values tell the image, the band, the row and the column.
    images = torch.arange(4 * 2 * 5 * 6, dtype=torch.float32).view(4, 2, 5, 6)
    taker = PatchTaker(torch.Generator().manual_seed(0))
    corners = set()
    for _ in range(40):
        for number, patch in enumerate(taker(images).view(4, 2, 3, 3)):
            first = int(patch[0, 0, 0])
            assert first // 60 == number
            top, left = divmod(first % 30, 6)
            assert torch.equal(patch, images[number, :, top : top + 3, left : left + 3])
            corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(4)}
