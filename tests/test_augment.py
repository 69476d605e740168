"""The batched augmentation against torchvision's functions, one view at a time."""

import itertools
import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as TV

from geossl.augment import augment, normalize

IDENTITY = [-1, 1, 1, 1, 0, 0, 0]
HALF = torch.full((3,), 0.5)


def plain(images, color):
    """Augment without normalisation, on 0..1."""
    bands = images.shape[1]
    return augment(images, color, mean=torch.zeros(bands), std=torch.ones(bands))


def random_images(count, bands=3, size=24, dtype=torch.uint8):
    top = 255 if dtype == torch.uint8 else 65535
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, top + 1, (count, bands, size, size), generator=generator, dtype=torch.int32)
    return images.to(dtype).contiguous(memory_format=torch.channels_last)


def random_color(count):
    generator = torch.Generator().manual_seed(2)
    u = torch.rand(count, 7, generator=generator)
    color = torch.empty(count, 7)
    color[:, 0] = torch.arange(count) % 25 - 1
    color[:, 1:4] = 0.6 + 0.8 * u[:, 1:4]
    color[:, 4] = 0.2 * u[:, 4] - 0.1
    color[:, 5] = (u[:, 5] < 0.3).float()
    color[:, 6] = torch.where(u[:, 6] < 0.3, 0, 2 * u[:, 6])
    return color


def expected(image, color):
    """torchvision's result for one view, 0..1."""
    order, brightness, contrast, saturation, hue, gray, sigma = color.tolist()
    view = image.float() / 255
    operations = [
        lambda v: TV.adjust_brightness(v, brightness),
        lambda v: TV.adjust_contrast(v, contrast),
        lambda v: TV.adjust_saturation(v, saturation),
        lambda v: TV.adjust_hue(v, hue),
    ]
    if order >= 0:
        for number in list(itertools.permutations(range(4)))[int(order)]:
            view = operations[number](view)
    if gray:
        view = TV.rgb_to_grayscale(view, num_output_channels=3)
    if sigma:
        side = 2 * math.ceil(3 * sigma) + 1
        view = TV.gaussian_blur(view, [side, side], [sigma, sigma])
    return view


def test_every_order_matches_torchvision():
    images, color = random_images(100), random_color(100)
    got = plain(images, color)
    want = torch.stack([expected(i, c) for i, c in zip(images, color, strict=True)])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_the_order_of_jitter_matters():
    images = random_images(1).repeat(24, 1, 1, 1)
    color = torch.tensor([[order, 1.4, 0.6, 1.4, 0.1, 0, 0] for order in range(24)])
    assert len({tuple(view.flatten().tolist()) for view in plain(images, color)}) > 12


@pytest.mark.parametrize("hue", [-0.5, -0.3, -0.1, 0.0, 0.1, 1 / 6, 1 / 3, 0.5])
def test_hue_of_pure_and_gray_pixels(hue):
    levels = torch.tensor(list(itertools.product([0, 1, 128, 254, 255], repeat=3)), dtype=torch.uint8)
    images = levels.T.reshape(1, 3, 5, 25)
    color = torch.tensor([[0, 1, 1, 1, hue, 0, 0]])
    want = TV.adjust_hue(images[0].float() / 255, hue)
    torch.testing.assert_close(plain(images, color)[0], want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.34, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("shape", [(24, 24), (16, 40)])
def test_blur_matches_torchvision(sigma, shape):
    images = torch.randint(0, 256, (2, 4, *shape), dtype=torch.uint8)
    color = torch.tensor([IDENTITY, [*IDENTITY[:6], sigma]])
    got = plain(images, color)
    side = 2 * math.ceil(3 * torch.tensor(sigma).item()) + 1
    torch.testing.assert_close(got[0], images[0] / 255)
    want = TV.gaussian_blur(images[1] / 255, [side, side], [sigma, sigma])
    torch.testing.assert_close(got[1], want, atol=1e-5, rtol=0)


def test_do_nothing_parameters_only_normalise():
    images, color = random_images(3), torch.tensor([IDENTITY] * 3, dtype=torch.float32)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    want = TV.normalize(images.float() / 255, mean.tolist(), std.tolist())
    torch.testing.assert_close(augment(images, color, mean=mean, std=std), want)
    torch.testing.assert_close(normalize(images, mean=mean, std=std), want)


def test_other_band_counts_skip_what_needs_rgb():
    images = random_images(4, bands=4, dtype=torch.uint16)
    unit = images.float() / 65535
    color = torch.tensor([[0, 1.3, 0.7, 3.0, 0.4, 1, 0]] * 4)  # brightness, then contrast
    bright = (unit * 1.3).clamp(0, 1)
    center = bright.mean((2, 3), keepdim=True)
    want = (0.7 * bright + 0.3 * center).clamp(0, 1)
    torch.testing.assert_close(plain(images, color), want, atol=1e-5, rtol=0)


def test_views_do_not_influence_each_other():
    images, color = random_images(30), random_color(30)
    whole = plain(images, color)
    for i in range(30):
        torch.testing.assert_close(plain(images[i : i + 1], color[i : i + 1])[0], whole[i], atol=1e-5, rtol=0)


def test_result_is_float32_channels_last_and_input_is_kept():
    images = random_images(5)
    before = images.clone()
    got = augment(images, random_color(5), mean=HALF, std=HALF)
    assert got.dtype == torch.float32
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


def test_images_of_other_kinds_are_refused():
    with pytest.raises(TypeError, match=r"uint8, uint16 or float32, not torch\.float64"):
        normalize(torch.zeros(1, 3, 4, 4, dtype=torch.float64), mean=HALF, std=HALF)


NODATA = 9


def holed(images, share=0.2):
    """The images with that share of each band's samples without data: NODATA in integers, NaN in floats."""
    lacking = torch.rand(images.shape, generator=torch.Generator().manual_seed(5)) < share
    floats = images.double()
    valid = torch.where(floats == NODATA, NODATA + 1, floats)
    return torch.where(lacking, math.nan if images.is_floating_point() else NODATA, valid).to(images.dtype), lacking


def of_kind(dtype, bands, count=6, size=24):
    images = random_images(count, bands, size, torch.uint16)
    if dtype == torch.float32:
        return images.float() / 100 - 250
    return images if dtype == torch.uint16 else (images.int() // 256).to(dtype)


def nan_blur(image, sigma):
    """Blur of a [H, W] image in numpy, sample by sample, of what has data."""
    radius = math.ceil(3 * sigma)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights = np.outer(kernel, kernel)
    padded = np.pad(image, radius, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape)
    valid = ~np.isnan(windows)
    sums = (np.nan_to_num(windows) * weights * valid).sum((2, 3))
    return np.where(np.isnan(image), np.nan, sums / (weights * valid).sum((2, 3)))


def by_formula(image, color, gains, nodata):
    """One view of other than three bands, [C, H, W], in double precision; NaN where there is no data."""
    limits = (-np.inf, np.inf) if image.dtype == np.float32 else (0, 1)
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[image.dtype.name]
    view = np.where(image == nodata, np.nan, image.astype(np.float64) / top)
    view = np.where(gains == 0, 0, np.clip(view * gains, *limits))
    order, brightness, contrast, _, _, _, sigma = color
    if order >= 0:
        for number in list(itertools.permutations(range(4)))[int(order)]:
            if number == 0:
                view = np.clip(view * brightness, *limits)
            if number == 1:
                view = np.clip(view * contrast + np.nanmean(view, (1, 2), keepdims=True) * (1 - contrast), *limits)
    return np.stack([nan_blur(band, sigma) for band in view]) if sigma else view


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize("bands", [1, 4, 8])
def test_any_bands_with_gains_and_without_data(dtype, bands):
    images, lacking = holed(of_kind(dtype, bands))
    color = random_color(6)
    color[:, 0] = torch.tensor([0, 6, -1, 9, 23, 3])
    color[:, 6] = torch.tensor([0, 1.0, 2.0, 0.4, 0, 1.5])
    generator = torch.Generator().manual_seed(4)
    gains = 0.9 + 0.2 * torch.rand(6, bands, generator=generator)
    gains[torch.rand(6, bands, generator=generator) < 0.2] = 0
    mean, std = 0.1 * torch.arange(bands).float(), 0.2 + 0.1 * torch.arange(bands).float()
    nodata = None if dtype == torch.float32 else NODATA
    got = augment(images, color, mean=mean, std=std, gains=gains, nodata=nodata)
    plain = normalize(images, mean=mean, std=std, gains=gains, nodata=nodata)
    assert got.is_contiguous(memory_format=torch.channels_last)
    scale = 1 if dtype != torch.float32 else 500
    for i in range(6):
        for result, change in [(got, color[i].tolist()), (plain, IDENTITY)]:
            want = by_formula(images[i].numpy(), change, gains[i].numpy()[:, None, None], nodata)
            want = (torch.from_numpy(want) - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
            want[gains[i] == 0] = 0
            torch.testing.assert_close(result[i].double(), want.nan_to_num(0), atol=3e-5 * scale, rtol=0)
            assert (result[i][lacking[i]] == 0).all()


def test_without_data_the_rest_of_an_rgb_image_is_as_ever():
    """Brightness, saturation, hue, gray: what is at one pixel has no part in any other."""
    images, color = random_images(25), random_color(25)
    images = torch.where(images == NODATA, NODATA + 1, images)
    color[:, 0] = torch.arange(25) - 1
    color[:, 2], color[:, 6] = 1, 0
    pierced = images.clone()
    pierced[:, :, 3:9, 4:8] = NODATA
    pierced[:, 1, 20] = NODATA
    got = augment(pierced, color, mean=HALF, std=HALF, nodata=NODATA)
    want = augment(images, color, mean=HALF, std=HALF)
    want[:, :, 3:9, 4:8] = 0
    assert (got[:, 1, 20] == 0).all()
    mixed = (color[:, 0] >= 0) | (color[:, 5] > 0)
    # A pixel that lacks one band has no colour to change.
    assert (got[mixed][:, :, 20] == 0).all()
    assert (got[~mixed][:, 0, 20] != 0).any()
    torch.testing.assert_close(got[:, :, :20], want[:, :, :20], atol=1e-5, rtol=0)
    torch.testing.assert_close(got[:, :, 21:], want[:, :, 21:], atol=1e-5, rtol=0)


def test_contrast_of_rgb_is_about_the_gray_of_what_has_data():
    images, lacking = holed(random_images(2))
    images[1, 2], lacking[1, 2] = NODATA, True
    color = torch.tensor([[6, 1, 0, 1, 0, 0, 0]] * 2)  # contrast comes first; at 0 its centre is all that is left
    got = augment(images, color, mean=torch.zeros(3), std=torch.ones(3), nodata=NODATA)
    unit = np.where(lacking, np.nan, images.numpy() / 255.0)
    means = [np.nanmean(unit[0], (1, 2)), [*np.nanmean(unit[1, :2], (1, 2)), 0]]
    for view, mean, none in zip(got, means, lacking.any(1), strict=True):
        gray = float(np.dot(mean, [0.2989, 0.587, 0.114]))
        torch.testing.assert_close(view[:, ~none], torch.full_like(view[:, ~none], gray), atol=1e-5, rtol=0)
        assert (view[:, none] == 0).all()


def test_floats_are_neither_scaled_nor_clamped():
    images = torch.tensor([-3000.0, 0.0, 7.5, 12000.0]).view(1, 1, 2, 2).repeat(1, 4, 1, 1)
    color = torch.tensor([[0, 2.0, 1, 1, 0, 0, 0]])
    got = augment(images, color, mean=torch.full((4,), 10.0), std=torch.full((4,), 2.0), gains=torch.full((1, 4), 1.5))
    torch.testing.assert_close(got, (images * 3 - 10) / 2)


def test_gains_of_one_and_no_missing_data_change_nothing():
    images, color = random_images(30), random_color(30)
    images = torch.where(images == NODATA, NODATA + 1, images)
    want = augment(images, color, mean=HALF, std=HALF)
    assert torch.equal(augment(images, color, mean=HALF, std=HALF, gains=torch.ones(30, 3)), want)
    got = augment(images, color, mean=HALF, std=HALF, nodata=NODATA)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
