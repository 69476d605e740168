"""The batched augmentation against torchvision's functions, one view at a time."""

import itertools
import math

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


def test_float_images_are_refused():
    with pytest.raises(TypeError, match="uint8 or uint16"):
        normalize(torch.zeros(1, 3, 4, 4), mean=HALF, std=HALF)
