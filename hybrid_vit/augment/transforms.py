"""Single transforms: crop, flip, colour jitter and erasing, with parameters drawn for every sample.

Each is called as `transform(images, draw)` with (B, 3, H, W) uint8 images and a `Draw` of size B, and returns new
images of the same shape; `RandomErasing` alone works on normalised float images. Distributions are torchvision's.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hybrid_vit.utils.errors import UserError

from . import ops
from .draw import Draw


def check_probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise UserError(f"{name} is {value}, but it is a probability; use a number from 0 to 1")


def _check_range(name: str, value: tuple[float, float], low: float, high: float) -> None:
    if len(value) != 2 or not low <= value[0] <= value[1] <= high or math.isinf(value[1]):
        end = "a finite number" if math.isinf(high) else f"{high:g}"
        raise UserError(f"{name} is {value}, but it is a range; use (low, high) with {low:g} <= low <= high <= {end}")


def _check_positive_range(name: str, value: tuple[float, float], high: float) -> None:
    _check_range(name, value, 0.0, high)
    if value[0] <= 0.0:
        end = value[1] or 1
        raise UserError(f"{name} is {value}, but its lower end must be above 0; use for example ({end:g}, {end:g})")


class RandomCrop:
    """A window of the image's own size from the image padded with `padding` pixels on each side.

    Args:
        padding: in pixels.
        mode: "constant" pads with black, "reflect" with the mirrored image.
    """

    def __init__(self, *, padding: int = 4, mode: str = "constant") -> None:
        if not isinstance(padding, int) or padding < 0:
            raise UserError(f"padding is {padding}, but it is a number of pixels; use 0 or more")
        if mode not in ("constant", "reflect"):
            raise UserError(f"augment.crop.mode={mode} is unknown; use constant or reflect")
        self.padding, self.mode = padding, mode

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        top, left = draw.integers(2 * self.padding + 1, shape=(2,)).unbind(1)
        crop = ops.crop_with_padding if self.mode == "constant" else ops.crop_with_reflection
        return crop(images, top, left, padding=self.padding)


def _draw_boxes(
    draw: Draw,
    pixels: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    fits: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Rectangles of drawn areas, shares of `pixels`, and ratios; the first of ten tries that fits counts.

    Returns the sides sqrt(area * ratio) and sqrt(area / ratio) as (B,) int64, and (B,) bool: whether any try fits.
    """
    area = draw.uniform(*scale, shape=(_TRIES,)) * pixels
    drawn = draw.uniform(math.log(ratio[0]), math.log(ratio[1]), shape=(_TRIES,)).exp()
    first_side, second_side = (area * drawn).sqrt().round().long(), (area / drawn).sqrt().round().long()
    fitting = fits(first_side, second_side)
    chosen = fitting.int().argmax(dim=1, keepdim=True)
    return first_side.gather(1, chosen)[:, 0], second_side.gather(1, chosen)[:, 0], fitting.any(dim=1)


def _place(draw: Draw, space: Tensor) -> Tensor:
    """int64, uniform in [0, space] for each (B,) space."""
    return torch.minimum((draw.uniform() * (space + 1)).long(), space)


_TRIES = 10


class RandomResizedCrop:
    """A box of random area and aspect ratio, resized to the image's own size (Szegedy et al. 2015).

    Args:
        scale: range of the box's share of the image area, in (0, 1].
        ratio: range of width / height, drawn uniformly in its logarithm.

    A box that does not fit is drawn again; after ten misses the largest central box within `ratio` is taken.
    """

    def __init__(
        self, *, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
    ) -> None:
        _check_positive_range("scale", scale, 1.0)
        _check_positive_range("ratio", ratio, math.inf)
        self.scale = scale
        self.ratio = ratio

    def largest(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the largest box within `ratio`."""
        if width / height < self.ratio[0]:
            return round(width / self.ratio[0]), width
        if width / height > self.ratio[1]:
            return height, round(height * self.ratio[1])
        return height, width

    def boxes(self, draw: Draw, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(top, left, height, width) of the drawn boxes in pixels, each (B,) int64."""
        pixels = height * width
        w, h, found = _draw_boxes(
            draw, pixels, self.scale, self.ratio, lambda w, h: (w > 0) & (w <= width) & (h > 0) & (h <= height)
        )
        central_h, central_w = self.largest(height, width)
        h, w = torch.where(found, h, central_h), torch.where(found, w, central_w)
        top = torch.where(found, _place(draw, height - h), (height - central_h) // 2)
        left = torch.where(found, _place(draw, width - w), (width - central_w) // 2)
        return top, left, h, w

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        return ops.resized_crop(images, *self.boxes(draw, images.shape[2], images.shape[3]))


class RandomHorizontalFlip:
    """Mirror left and right with probability p.

    Args:
        p: the probability.
        alternate: instead, mirror each image in every second epoch, half of them in the first (Jordan 2024, arXiv
            2404.00498).
    """

    def __init__(self, *, p: float = 0.5, alternate: bool = False) -> None:
        check_probability("p", p)
        self.p, self.alternate = p, alternate

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        return ops.hflip(images, draw.alternate() if self.alternate else draw.bernoulli(self.p))


def apply_by_choice(
    images: Tensor, choice: Tensor, parameter: Tensor, applies: Sequence[Callable[[Tensor, Tensor], Tensor]]
) -> Tensor:
    """Apply `applies[choice[i]]` with `parameter[i]` to image i, one batched call per op that was drawn.

    choice: (B,) int64 on the CPU. parameter: (B,) on the CPU.
    """
    order = choice.argsort(stable=True)
    counts = torch.bincount(choice, minlength=len(applies)).tolist()
    groups = images.index_select(0, ops.moved(order, images.device)).split(counts)
    parameters = parameter[order].split(counts)
    done = [apply(i, p) for apply, i, p in zip(applies, groups, parameters, strict=True) if len(i)]
    return torch.cat(done).index_select(0, ops.moved(order.argsort(), images.device))


def _jitter_range(
    name: str, value: float | tuple[float, float], *, centre: float, low: float, high: float
) -> tuple[float, float]:
    if isinstance(value, tuple | list):
        _check_range(name, value, low, high)
        return value
    if not 0 <= value <= high - centre or math.isinf(value):
        limits = "0 or more" if math.isinf(high) else f"0 to {high - centre:g}"
        raise UserError(f"{name} is {value}, but it is a strength; use {limits}, or a range (low, high)")
    return max(low, centre - value), centre + value


class ColorJitter:
    """Brightness, contrast, saturation and hue changed by random factors, in a random order for every sample.

    Args:
        brightness: strength s for factors in [max(0, 1 - s), 1 + s], or that range itself.
        contrast: the same.
        saturation: the same.
        hue: strength s <= 0.5 for turns in [-s, s] of the colour circle, or that range itself.
    """

    def __init__(
        self,
        *,
        brightness: float | tuple[float, float] = 0.0,
        contrast: float | tuple[float, float] = 0.0,
        saturation: float | tuple[float, float] = 0.0,
        hue: float | tuple[float, float] = 0.0,
    ) -> None:
        ranges = {
            ops.brightness: _jitter_range("brightness", brightness, centre=1.0, low=0.0, high=math.inf),
            ops.contrast: _jitter_range("contrast", contrast, centre=1.0, low=0.0, high=math.inf),
            ops.saturation: _jitter_range("saturation", saturation, centre=1.0, low=0.0, high=math.inf),
            ops.hue: _jitter_range("hue", hue, centre=0.0, low=-0.5, high=0.5),
        }
        self._ranges = {
            op: (low, high)
            for op, (low, high) in ranges.items()
            if low < high or low != (0.0 if op is ops.hue else 1.0)
        }

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        if not self._ranges:
            return images
        factors = torch.stack([draw.uniform(low, high) for low, high in self._ranges.values()], dim=1)
        for choice in draw.permutation(len(self._ranges)).unbind(1):
            images = apply_by_choice(images, choice, factors.gather(1, choice[:, None])[:, 0], tuple(self._ranges))
        return images


class RandomErasing:
    """A box of random area and aspect ratio filled in, with probability p (Zhong et al. 2020).

    Works on normalised float images (B, C, H, W), as published training scripts do.

    Args:
        scale: range of the box's share of the image area, in [0, 1].
        ratio: range of height / width, drawn uniformly in its logarithm.
        value: a number for every pixel, or "random" for N(0, 1) noise in every pixel and channel.

    A box that does not leave a row and a column is drawn again; after ten misses the image stays whole.
    """

    def __init__(
        self,
        *,
        p: float = 0.25,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: float | str = "random",
    ) -> None:
        check_probability("p", p)
        _check_range("scale", scale, 0.0, 1.0)
        _check_positive_range("ratio", ratio, math.inf)
        if isinstance(value, str) and value != "random":
            raise UserError(f'value is {value!r}; use "random" or a number')
        self.p = p
        self.scale = scale
        self.ratio = ratio
        self.value = value

    def boxes(self, draw: Draw, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(top, left, height, width) of the boxes in pixels, each (B,) int64; of no size after ten misses."""
        pixels = height * width
        h, w, found = _draw_boxes(draw, pixels, self.scale, self.ratio, lambda h, w: (h < height) & (w < width))
        return _place(draw, height - h), _place(draw, width - w), h * found, w * found

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        rows, draw = draw.subset(self.p)
        rows = ops.moved(rows, images.device)
        chosen = images.index_select(0, rows)
        value = draw.noise(chosen) if isinstance(self.value, str) else self.value
        erased = ops.erase(chosen, *self.boxes(draw, images.shape[2], images.shape[3]), value)
        return images.index_copy(0, rows, erased)
