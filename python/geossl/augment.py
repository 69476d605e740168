"""Colour jitter, grayscale, blur and normalisation of a batch, on whatever device it lies on.

The transforms are MoCo-v2's (arXiv 2003.04297, section 3), in its order: jitter, grayscale, blur,
normalisation. Their parameters come with the batch, one row a view, drawn by the loader from keyed
randomness; nothing here is random. The maths is that of `torchvision.transforms.v2.functional` on float
images, which the tests compare with, view by view.
"""

from __future__ import annotations

import itertools
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
# Weights of red, green and blue in the grayscale image (ITU-R 601, as torchvision and Pillow round them).
LUMA = (0.2989, 0.587, 0.114)


def augment(images: Tensor, color: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Change the colours of a batch by each view's own parameters, blur it, and normalise it.

    Args:
        images: uint8 or uint16 [B, C, H, W], in any memory layout.
        color: float32 [B, 7]: order, brightness, contrast, saturation, hue, gray, sigma. `order` is -1 for
            no jitter, else 0..23, the lexicographic number of the permutation of (brightness, contrast,
            saturation, hue) that the jitter follows; the next three are factors, `hue` a share of the
            circle, `gray` 1 or 0, `sigma` the blur in pixels (0: none). Leave it on the CPU, where it
            decides which views each operation touches; on another device it has to be waited for.
        mean: float32 [C] on the images' device, of values scaled to 0..1.
        std: float32 [C], likewise.

    Returns:
        float32 [B, C, H, W] in channels_last memory, on the images' device. Saturation, hue and grayscale
        apply to three bands only; with any other number, contrast is about each band's own mean.

    """
    params = color.cpu()
    views = _unit(images)
    _jitter(views, params)
    if views.shape[1] == 3:
        picked = _where(params[:, GRAY] > 0, views.device)
        if picked is not None:
            views.index_copy_(0, picked, _grayscale(views[picked]).expand(-1, 3, -1, -1))
    _blur(views, params[:, SIGMA])
    return _normalize(views, mean, std)


def normalize(images: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Scale a batch to 0..1 and normalise it, without changing colours; for evaluation.

    Args:
        images: uint8 or uint16 [B, C, H, W].
        mean: float32 [C] on the images' device, of values scaled to 0..1.
        std: float32 [C], likewise.

    Returns:
        float32 [B, C, H, W] in channels_last memory.

    """
    return _normalize(_unit(images), mean, std)


def _unit(images: Tensor) -> Tensor:
    """Values scaled to 0..1, one plane a band, which suits the colour maths better than channels_last."""
    if images.dtype not in {torch.uint8, torch.uint16}:
        raise TypeError(f"images must be uint8 or uint16, not {images.dtype}")
    top = 255.0 if images.dtype == torch.uint8 else 65535.0
    return images.to(torch.float32, memory_format=torch.contiguous_format, copy=True).div_(top)


def _normalize(views: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    views.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))
    return views.contiguous(memory_format=torch.channels_last)


def _where(mask: Tensor, device: torch.device) -> Tensor | None:
    """Positions of the true values, on the device; None if there are none."""
    found = mask.nonzero().squeeze(1)
    return found.to(device, non_blocking=True) if len(found) else None


def _jitter(views: Tensor, params: Tensor) -> None:
    """Apply each view's four operations in its own order, in place; views that share a step go together."""
    order = params[:, ORDER].long()
    steps = ORDERS[order.clamp(min=0)]  # [B, 4]: which operation comes first, second, ...
    operations: list[Callable[[Tensor, Tensor], Tensor]] = [_brightness, _contrast]
    if views.shape[1] == 3:
        operations += [_saturation, _hue]
    for position in range(4):
        for number, operation in enumerate(operations):
            mask = (order >= 0) & (steps[:, position] == number)
            picked = _where(mask, views.device)
            if picked is not None:
                amount = params[mask, BRIGHTNESS + number].to(views.device, non_blocking=True)
                views.index_copy_(0, picked, operation(views[picked], amount.view(-1, 1, 1, 1)))


def _brightness(views: Tensor, factor: Tensor) -> Tensor:
    return views.mul_(factor).clamp_(0, 1)


def _contrast(views: Tensor, factor: Tensor) -> Tensor:
    gray = _grayscale(views) if views.shape[1] == 3 else views
    return _blend(views, gray.mean(dim=(2, 3), keepdim=True), factor)


def _saturation(views: Tensor, factor: Tensor) -> Tensor:
    return _blend(views, _grayscale(views), factor)


def _blend(views: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return views.mul_(factor).add_(other * (1 - factor)).clamp_(0, 1)


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


def _blur(views: Tensor, sigmas: Tensor) -> None:
    """Blur by each view's own sigma, in place.

    The kernel reaches 3 sigma, rounded up, and the image is reflected at its borders. Rows and columns are
    blurred by a matrix product each: kernels of any width share one batched product.
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
    blurred = (rows @ lines.flatten(2)).view(len(picked), -1, width) @ columns.mT
    views.index_copy_(0, picked, blurred.view_as(lines).transpose(1, 2))


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
