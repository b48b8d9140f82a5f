"""Policies: for every sample an op, or some, out of a table, and the batched ops that do them.

Each is called as `policy(images, draw)` with (B, 3, H, W) uint8 images and a `Draw` of size B, and returns new images
of the same shape. Distributions are torchvision's.

An op joins the policies in `_space`, the one table of ops and their magnitudes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hybrid_vit.utils.errors import UserError

from . import ops
from .draw import Draw
from .transforms import apply_by_choice


class Op(NamedTuple):
    """One entry of a table.

    apply: (images, magnitude (B,)) -> images.
    magnitudes: (bins, height, width) -> the (bins,) magnitudes, weakest first; None for an op without a magnitude.
    signed: the magnitude is negated for half of the samples.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    magnitudes: Callable[[int, int, int], Tensor] | None = None
    signed: bool = False


def _space(
    *,
    shear: float,
    translate: Callable[[int], float],
    rotate: float,
    blend: float,
    posterize: int,
) -> dict[str, Op]:
    """The table of ops with their strongest magnitudes.

    shear: slope. translate: image side in pixels -> pixels. rotate: degrees. blend: distance of the factor from 1.
    posterize: bits dropped.
    """

    def up_to(end: float) -> Callable[[int, int, int], Tensor]:
        return lambda bins, height, width: torch.linspace(0.0, end, bins)

    def blending(op: Callable[[Tensor, Tensor], Tensor]) -> Op:
        # In float64, as torchvision's Python numbers: 1 - (1 + magnitude) must not lose bits.
        return Op(lambda images, magnitude: op(images, 1.0 + magnitude.double()), up_to(blend), signed=True)

    return {
        "Identity": Op(lambda images, _: images),
        "ShearX": Op(ops.shear_x, up_to(shear), signed=True),
        "ShearY": Op(ops.shear_y, up_to(shear), signed=True),
        "TranslateX": Op(
            ops.translate_x, lambda bins, height, width: torch.linspace(0.0, translate(width), bins), signed=True
        ),
        "TranslateY": Op(
            ops.translate_y, lambda bins, height, width: torch.linspace(0.0, translate(height), bins), signed=True
        ),
        "Rotate": Op(ops.rotate, up_to(rotate), signed=True),
        "Brightness": blending(ops.brightness),
        "Color": blending(ops.saturation),
        "Contrast": blending(ops.contrast),
        "Sharpness": blending(ops.sharpness),
        "Posterize": Op(
            ops.posterize, lambda bins, height, width: (8 - torch.arange(bins) / ((bins - 1) / posterize)).round()
        ),
        "Solarize": Op(
            lambda images, magnitude: ops.solarize(images, 255.0 * magnitude.double()),
            lambda bins, height, width: torch.linspace(1.0, 0.0, bins),
        ),
        "AutoContrast": Op(lambda images, _: ops.autocontrast(images)),
        "Equalize": Op(lambda images, _: ops.equalize(images)),
    }


STANDARD_SPACE = _space(shear=0.3, translate=lambda side: 150.0 / 331.0 * side, rotate=30.0, blend=0.9, posterize=4)
AUTO_SPACE = STANDARD_SPACE | {"Invert": Op(lambda images, _: ops.invert(images))}
WIDE_SPACE = _space(shear=0.99, translate=lambda side: 32.0, rotate=135.0, blend=0.99, posterize=6)


def magnitude_table(space: dict[str, Op], bins: int, height: int, width: int) -> Tensor:
    """(ops, bins) float32: the magnitudes of every op of the table, 0 for an op without."""
    none = torch.zeros(bins)
    return torch.stack([op.magnitudes(bins, height, width) if op.magnitudes else none for op in space.values()])


def _apply_from_space(
    images: Tensor, space: dict[str, Op], table: Tensor, choice: Tensor, level: Tensor | int, negated: Tensor
) -> Tensor:
    """Apply to image i the op number choice[i] at the magnitude table[choice[i], level[i]]."""
    signed = torch.tensor([op.signed for op in space.values()])
    magnitude = table[choice, level]
    magnitude = torch.where(negated & signed[choice], -magnitude, magnitude)
    return apply_by_choice(images, choice, magnitude, [op.apply for op in space.values()])


# One row per sub-policy: two steps of (op, probability, level of 10; None for an op without a magnitude).
Step = tuple[str, float, int | None]
_CIFAR10: list[tuple[Step, Step]] = [
    (("Invert", 0.1, None), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, None), ("Equalize", 0.9, None)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, None), ("Equalize", 0.5, None)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, None), ("AutoContrast", 0.4, None)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, None)),
    (("Equalize", 0.2, None), ("AutoContrast", 0.6, None)),
    (("Equalize", 0.2, None), ("Equalize", 0.6, None)),
    (("Color", 0.9, 9), ("Equalize", 0.6, None)),
    (("AutoContrast", 0.8, None), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, None)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, None), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, None), ("Invert", 0.1, None)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, None)),
]
AUTO_POLICIES = {"cifar10": _CIFAR10}
AUTO_LEVELS = 10


class AutoAugment:
    """One of 25 learned pairs of ops for every sample, each step with its own probability (Cubuk et al. 2019).

    Args:
        policy: "cifar10".
    """

    def __init__(self, *, policy: str = "cifar10") -> None:
        if policy not in AUTO_POLICIES:
            raise UserError(f"policy {policy!r} is not known; use one of {sorted(AUTO_POLICIES)}")
        names = list(AUTO_SPACE)
        rows = AUTO_POLICIES[policy]
        self._op = torch.tensor([[names.index(name) for name, _, _ in row] for row in rows])
        self._probability = torch.tensor([[probability for _, probability, _ in row] for row in rows])
        self._level = torch.tensor([[level or 0 for _, _, level in row] for row in rows])

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        table = magnitude_table(AUTO_SPACE, AUTO_LEVELS, images.shape[2], images.shape[3])
        row = draw.integers(len(self._op))
        happens = draw.uniform(shape=(2,)) < self._probability[row]
        choice = torch.where(happens, self._op[row], list(AUTO_SPACE).index("Identity"))
        negated = draw.bernoulli(0.5, shape=(2,))
        for step in range(2):
            level = self._level[row, step]
            images = _apply_from_space(images, AUTO_SPACE, table, choice[:, step], level, negated[:, step])
        return images


def check_whole(name: str, value: int, low: int, high: int | None = None) -> None:
    """A number that is not whole, or outside of its range, is a UserError."""
    if not isinstance(value, int) or value < low or (high is not None and value > high):
        raise UserError(
            f"{name} is {value}; use a whole number, {f'{low} or more' if high is None else f'{low} to {high}'}"
        )


class RandAugment:
    """`num_ops` ops for every sample, each drawn from 14 at the same magnitude (Cubuk et al. 2020).

    Args:
        num_ops: ops in a row.
        magnitude: strength, one of range(num_magnitude_bins).
        num_magnitude_bins: number of strengths between none and the strongest.
    """

    def __init__(self, *, num_ops: int = 2, magnitude: int = 9, num_magnitude_bins: int = 31) -> None:
        check_whole("num_ops", num_ops, 1)
        check_whole("num_magnitude_bins", num_magnitude_bins, 2)
        check_whole("magnitude", magnitude, 0, num_magnitude_bins - 1)
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.num_magnitude_bins = num_magnitude_bins

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        table = magnitude_table(STANDARD_SPACE, self.num_magnitude_bins, images.shape[2], images.shape[3])
        choice = draw.integers(len(STANDARD_SPACE), shape=(self.num_ops,))
        negated = draw.bernoulli(0.5, shape=(self.num_ops,))
        for step in range(self.num_ops):
            images = _apply_from_space(images, STANDARD_SPACE, table, choice[:, step], self.magnitude, negated[:, step])
        return images


class TrivialAugment:
    """One op for every sample, drawn from 14 at a drawn magnitude: TrivialAugmentWide (Müller and Hutter 2021).

    Args:
        num_magnitude_bins: number of strengths between none and the strongest.
    """

    def __init__(self, *, num_magnitude_bins: int = 31) -> None:
        check_whole("num_magnitude_bins", num_magnitude_bins, 2)
        self.num_magnitude_bins = num_magnitude_bins

    def __call__(self, images: Tensor, draw: Draw) -> Tensor:
        table = magnitude_table(WIDE_SPACE, self.num_magnitude_bins, images.shape[2], images.shape[3])
        choice = draw.integers(len(WIDE_SPACE))
        level = draw.integers(self.num_magnitude_bins)
        return _apply_from_space(images, WIDE_SPACE, table, choice, level, draw.bernoulli(0.5))
