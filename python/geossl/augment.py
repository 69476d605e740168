"""Colour jitter, grayscale, blur and normalisation of a batch, on whatever device it lies on.

The transforms are MoCo-v2's (arXiv 2003.04297, section 3), in its order: jitter, grayscale, blur,
normalisation. Their parameters come with the batch, one row a view, drawn by the loader from keyed
randomness; nothing here is random. The maths is that of `torchvision.transforms.v2.functional` on float
images, which the tests compare with, view by view.

While a batch is worked on, samples without data are NaN: they have no part in any other sample, and become 0,
the mean, in the end.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Columns of the colour parameters. The four jitter operations are numbered as in ORDERS.
ORDER, BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY, SIGMA = range(7)
# ORDERS[n] is the n-th permutation, in lexicographic order, of (brightness, contrast, saturation, hue).
ORDERS = torch.tensor(list(itertools.permutations(range(4))))
# What each dtype is divided by.
TOPS = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: None}
# Weights of red, green and blue in the grayscale image (ITU-R 601, as torchvision and Pillow round them).
LUMA = (0.2989, 0.587, 0.114)


def augment(
    images: Tensor,
    color: Tensor,
    *,
    mean: Tensor,
    std: Tensor,
    gains: Tensor | None = None,
    nodata: float | None = None,
) -> Tensor:
    """Change the colours of a batch by each view's own parameters, blur it, and normalise it.

    Args:
        images: uint8, uint16 or float32 [B, C, H, W], in any memory layout. Integers are scaled to 0..1 and
            kept there; floats stay as they are.
        color: float32 [B, 7]: order, brightness, contrast, saturation, hue, gray, sigma. `order` is -1 for
            no jitter, else 0..23, the lexicographic number of the permutation of (brightness, contrast,
            saturation, hue) that the jitter follows; the next three are factors, `hue` a share of the
            circle, `gray` 1 or 0, `sigma` the blur in pixels (0: none). Leave it on the CPU, where it
            decides which views each operation touches; on another device it has to be waited for.
        mean: float32 [C] on the images' device, of integers scaled to 0..1, of floats as they are.
        std: float32 [C], likewise.
        gains: float32 [B, C], the factor of each band, which it is multiplied by before all else; 0 for a
            band that is not there or dropped. None: all 1.
        nodata: The value of integers without data; None where all have data. Floats without data are NaN.

    Returns:
        float32 [B, C, H, W] in channels_last memory, on the images' device; 0 where there is no data and in
        bands of gain 0. Saturation, hue and grayscale apply to three bands only, and take a pixel's data away
        where one of the three has none; with any other number, contrast is about each band's own mean.

    Raises:
        TypeError: Images of another dtype.

    >>> images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    >>> gray = torch.tensor([-1, 1, 1, 1, 0, 1, 0.0])  # no jitter, grayscale, no blur
    >>> views = augment(images, gray.expand(2, 7), mean=torch.full((3,), 0.5), std=torch.full((3,), 0.25))
    >>> views.shape, bool((views[:, 0] == views[:, 1]).all())
    (torch.Size([2, 3, 32, 32]), True)

    """
    params = color.cpu()
    views = _values(images, gains, nodata)
    limits = (-math.inf, math.inf) if images.dtype == torch.float32 else (0.0, 1.0)
    masked = nodata is not None or images.dtype == torch.float32
    _jitter(views, params, limits, masked=masked)
    if views.shape[1] == 3:
        picked = _where(params[:, GRAY] > 0, views.device)
        if picked is not None:
            views.index_copy_(0, picked, _grayscale(views[picked]).expand(-1, 3, -1, -1))
    _blur(views, params[:, SIGMA], masked=masked)
    return _normalize(views, mean, std, gains, masked=masked)


def normalize(
    images: Tensor, *, mean: Tensor, std: Tensor, gains: Tensor | None = None, nodata: float | None = None
) -> Tensor:
    """Scale a batch to 0..1 and normalise it, without changing colours; for evaluation.

    Args:
        images: uint8, uint16 or float32 [B, C, H, W]; floats are not scaled.
        mean: float32 [C] on the images' device, of integers scaled to 0..1, of floats as they are.
        std: float32 [C], likewise.
        gains: float32 [B, C], the factor of each band; 0 for a band that is not there. None: all 1.
        nodata: The value of integers without data; None where all have data. Floats without data are NaN.

    Returns:
        float32 [B, C, H, W] in channels_last memory; 0 where there is no data and in bands of gain 0.

    Raises:
        TypeError: Images of another dtype.

    """
    masked = nodata is not None or images.dtype == torch.float32
    return _normalize(_values(images, gains, nodata), mean, std, gains, masked=masked)


def _values(images: Tensor, gains: Tensor | None, nodata: float | None) -> Tensor:
    """Values with the gains applied, integers scaled to 0..1, NaN where there is no data.

    One plane a band, which suits the colour maths better than channels_last.
    """
    if images.dtype not in TOPS:
        raise TypeError(f"images must be uint8, uint16 or float32, not {images.dtype}")
    views = images.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    top = TOPS[images.dtype]
    if top is not None:
        if nodata is not None:
            views.masked_fill_(views == nodata, math.nan)
        views.div_(top)
    if gains is not None:
        factors = _per_plane(gains, views)
        # A band that is not there has no data to lack.
        views.mul_(factors).masked_fill_(factors == 0, 0)
        if top is not None:
            views.clamp_(0, 1)
    return views


def _per_plane(values: Tensor, views: Tensor) -> Tensor:
    return values.to(views.device, non_blocking=True)[:, :, None, None]


def _normalize(views: Tensor, mean: Tensor, std: Tensor, gains: Tensor | None, *, masked: bool) -> Tensor:
    views.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))
    if gains is not None:
        views.masked_fill_(_per_plane(gains, views) == 0, 0)
    if masked:
        views.masked_fill_(views.isnan(), 0)
    return views.contiguous(memory_format=torch.channels_last)


def _where(mask: Tensor, device: torch.device) -> Tensor | None:
    """Positions of the true values, on the device; None if there are none."""
    found = mask.nonzero().squeeze(1)
    return found.to(device, non_blocking=True) if len(found) else None


def _jitter(views: Tensor, params: Tensor, limits: tuple[float, float], *, masked: bool) -> None:
    """Apply each view's four operations in its own order, in place; views that share a step go together."""
    order = params[:, ORDER].long()
    steps = ORDERS[order.clamp(min=0)]  # [B, 4]: which operation comes first, second, ...
    operations: list[Callable[[Tensor, Tensor], Tensor]] = [
        functools.partial(_brightness, limits=limits),
        functools.partial(_contrast, limits=limits, masked=masked),
    ]
    if views.shape[1] == 3:
        operations += [functools.partial(_saturation, limits=limits), _hue]
    for position in range(4):
        for number, operation in enumerate(operations):
            mask = (order >= 0) & (steps[:, position] == number)
            picked = _where(mask, views.device)
            if picked is not None:
                amount = params[mask, BRIGHTNESS + number].to(views.device, non_blocking=True)
                views.index_copy_(0, picked, operation(views[picked], amount.view(-1, 1, 1, 1)))


def _brightness(views: Tensor, factor: Tensor, *, limits: tuple[float, float]) -> Tensor:
    return views.mul_(factor).clamp_(*limits)


def _contrast(views: Tensor, factor: Tensor, *, limits: tuple[float, float], masked: bool) -> Tensor:
    if masked:
        means = views.nanmean(dim=(2, 3), keepdim=True)
        means.masked_fill_(means.isnan(), 0)  # a band without any data has no part in the gray value
    else:
        means = views.mean(dim=(2, 3), keepdim=True)
    return _blend(views, _grayscale(means) if views.shape[1] == 3 else means, factor, limits)


def _saturation(views: Tensor, factor: Tensor, *, limits: tuple[float, float]) -> Tensor:
    return _blend(views, _grayscale(views), factor, limits)


def _blend(views: Tensor, other: Tensor, factor: Tensor, limits: tuple[float, float]) -> Tensor:
    return views.mul_(factor).add_(other * (1 - factor)).clamp_(*limits)


def _grayscale(views: Tensor) -> Tensor:
    red, green, blue = views[:, 0:1], views[:, 1:2], views[:, 2:3]
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _hue(views: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue in the hue-saturation-value model; gray pixels have none and stay as they are."""
    red, green, blue = views[:, 0:1], views[:, 1:2], views[:, 2:3]
    value, least = views.amax(1, keepdim=True), views.amin(1, keepdim=True)
    chroma = value - least
    # The hue in sixths of the circle: 0 is red, 2 green, 4 blue.
    hue = torch.where(green == value, 2 * chroma + blue - red, 4 * chroma + red - green)
    hue = torch.where(red == value, green - blue, hue)
    hue = hue.div_(torch.where(chroma > 0, chroma, 1)).add_(6 * shift)
    hue -= 6 * (hue / 6).floor_()
    # Each band as its share of the chroma, a trapezium over the circle.
    shares = [(hue - 3).abs_().sub_(1), 2 - (hue - 2).abs_(), 2 - (hue - 4).abs_()]
    return torch.cat(shares, 1).clamp_(0, 1).mul_(chroma).add_(least)


def _blur(views: Tensor, sigmas: Tensor, *, masked: bool) -> None:
    """Blur by each view's own sigma, in place.

    The kernel reaches 3 sigma, rounded up, and the image is reflected at its borders. Samples without data have
    no part in the others, and stay. Rows and columns are blurred by a matrix product each: kernels of any width
    share one batched product.
    """
    picked = _where(sigmas > 0, views.device)
    if picked is None:
        return
    sigmas = sigmas[sigmas > 0]
    radius = int((3 * sigmas).ceil().max())
    offsets = torch.arange(-radius, radius + 1)
    kernels = torch.exp(-0.5 * (offsets / sigmas[:, None]).square())
    kernels[offsets.abs() > (3 * sigmas[:, None]).ceil()] = 0
    kernels /= kernels.sum(1, keepdim=True)
    kernels = kernels.to(views.device, non_blocking=True)
    height, width = views.shape[2:]
    rows = _blur_matrices(kernels, height)
    columns = rows if width == height else _blur_matrices(kernels, width)
    # With the bands between rows and columns, both products are over plain matrices: no copy a band.
    lines = views[picked].transpose(1, 2).contiguous()  # [N, H, C, W]

    def blurred(lines: Tensor) -> Tensor:
        return ((rows @ lines.flatten(2)).view(len(lines), -1, width) @ columns.mT).view_as(lines)

    if masked:
        lacking = lines.isnan()
        shares = blurred((~lacking).to(lines.dtype))
        lines = blurred(lines.masked_fill_(lacking, 0)).div_(shares).masked_fill_(lacking, math.nan)
    else:
        lines = blurred(lines)
    views.index_copy_(0, picked, lines.transpose(1, 2))


def _blur_matrices(kernels: Tensor, size: int) -> Tensor:
    """[N, T] kernels as [N, size, size] matrices: row i holds the weight of each pixel in blurred pixel i."""
    taps = kernels.shape[1]
    reach = torch.arange(taps, device=kernels.device) - taps // 2
    source = (torch.arange(size, device=kernels.device)[:, None] + reach).abs()
    period = max(2 * (size - 1), 1)
    source %= period
    source = torch.minimum(source, period - source) if size > 1 else torch.zeros_like(source)
    basis = F.one_hot(source, size).to(kernels.dtype)  # [size, T, size]
    return torch.einsum("nt,ith->nih", kernels, basis)
