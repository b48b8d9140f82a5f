"""Noise, blur and fog of any strength: (B, 3, H, W) uint8 images enter, new ones leave; strength 0 changes nothing.

The formulas are those of CIFAR-10-C (Hendrycks and Dietterich 2019, arXiv 1903.12261), whose levels 1 and 5 are named.
"""

import math

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from .draw import Draw

ROUGHNESS = 4.0  # by which each halving of the fog's scale divides its height: the square of level 4's 2


def noise(images: Tensor, sd: float, draw: Draw) -> Tensor:
    """Add normal noise of standard deviation `sd`, where 1 is the range from black to white; levels 0.04 and 0.1."""
    return _to_uint8(images / 255 + sd * draw.noise(images.float()))


def blur(images: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian of `sigma` pixels, of which three sigma to each side count; levels 0.4 and 1."""
    if sigma == 0:
        return images.clone()
    radius = min(math.ceil(3 * sigma), min(images.shape[2:]) - 1)  # its border is a reflection of the image
    return TF.gaussian_blur(images, [2 * radius + 1] * 2, [sigma] * 2)


def fog(images: Tensor, amount: float, draw: Draw) -> Tensor:
    """Add `amount` times a cloud in [0, 1], and scale so that the brightest value stays; levels 0.2 and 1.5."""
    values = images / 255
    brightest = values.amax(dim=(1, 2, 3), keepdim=True)
    clouds = plasma(max(images.shape[2:]), draw)[:, None, : images.shape[2], : images.shape[3]].to(images.device)
    return _to_uint8((values + amount * clouds) * brightest / (brightest + amount).clamp(min=1e-6))


def plasma(size: int, draw: Draw) -> Tensor:
    """Random clouds, (draw.size, 2^k, 2^k) with 2^k >= size, from 0 to 1: the diamond-square algorithm on a torus.

    Fournier, Fussell and Carpenter 1982. Each step puts a point between four others, at their mean and a random height.
    """
    cells, height = torch.zeros(draw.size, 1, 1), 1.0
    for _ in range(math.ceil(math.log2(size))):
        side = cells.shape[1]
        # the middle of each square of four corners
        right = cells + cells.roll(-1, 2)
        middle = (right + right.roll(-1, 1)) / 4 + height * draw.uniform(-1, 1, shape=(side, side))
        # the middle of each edge, between two corners and the two middles beside it
        top = (right + middle + middle.roll(1, 1)) / 4 + height * draw.uniform(-1, 1, shape=(side, side))
        left = (cells + cells.roll(-1, 1) + middle + middle.roll(1, 2)) / 4
        left = left + height * draw.uniform(-1, 1, shape=(side, side))
        rows = [torch.stack(pair, dim=3).flatten(2) for pair in ((cells, top), (left, middle))]
        cells = torch.stack(rows, dim=2).flatten(1, 2)
        height /= ROUGHNESS
    low, high = cells.amin((1, 2), keepdim=True), cells.amax((1, 2), keepdim=True)
    return (cells - low) / (high - low).clamp(min=1e-6)


def _to_uint8(values: Tensor) -> Tensor:
    """[0, 1] -> the nearest of 0..255."""
    return values.mul(255).round_().clamp_(0, 255).to(torch.uint8)
