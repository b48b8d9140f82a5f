"""Every batched op against torchvision's functional op, image by image.

Only the warps and the sharpness, which are slow to call, get all images of one parameter at once."""

import math
import platform
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from hybrid_vit.augment import ops

# "Exact" rests on fused multiply-adds that round alike; see the docstring of ops.py.
EXACT = 0 if platform.machine() in ("x86_64", "AMD64") else 1
ONE_LEVEL = 1
SIZES = [(32, 32), (24, 37), (7, 5), (16, 9)]


def make_images(height: int, width: int) -> Tensor:
    """(12, 3, H, W): black, white, constant colours, noise, dark and pale noise, gradients, greys, two-valued."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    noise = torch.randint(256, (4, 3, height, width), generator=generator, dtype=torch.uint8)
    x = torch.linspace(0, 255, width).expand(height, width)
    y = torch.linspace(0, 255, height)[:, None].expand(height, width)
    smooth = torch.stack((x, y, 255 - (x + y) / 2)).to(torch.uint8)
    colour = torch.tensor([200, 30, 90], dtype=torch.uint8)[:, None, None].expand(3, height, width)
    return torch.stack(
        (
            torch.zeros_like(noise[0]),
            torch.full_like(noise[0], 255),
            torch.full_like(noise[0], 77),
            colour,
            noise[0],
            noise[1] // 8,
            255 - noise[2] // 8,
            noise[3, :1].expand(3, -1, -1),
            noise[3] // 128 * 255,
            smooth,
            smooth.flip(2),
            (smooth // 2 + noise[0] // 4),
        )
    )


def assert_equals_torchvision(
    op: Callable[[Tensor, Tensor], Tensor],
    reference: Callable[[Tensor, float], Tensor],
    parameters: list[float],
    tolerance: int,
    *,
    sizes: list[tuple[int, int]] = SIZES,
    one_by_one: bool = True,
) -> None:
    """Every parameter with every image, all in one batch, so that neighbours have different parameters."""
    for size in sizes:
        images = make_images(*size)
        values = torch.tensor(parameters, dtype=torch.float64).repeat(len(images))
        batch = images.repeat_interleave(len(parameters), dim=0)
        before = batch.clone()
        actual = op(batch, values)
        assert actual.dtype == torch.uint8 and actual.shape == batch.shape
        assert torch.equal(batch, before), "the op changed its input"
        if one_by_one:
            expected = torch.stack([reference(i, v) for i in images for v in parameters])
        else:
            expected = torch.stack([reference(images, v) for v in parameters], dim=1).flatten(0, 1)
        worst = (actual.int() - expected.int()).abs().flatten(1).amax(1)
        wrong = [(i // len(parameters), values[i].item()) for i in (worst > tolerance).nonzero().flatten().tolist()]
        assert not wrong, f"{size}: up to {worst.max()} levels off for (image, parameter) {wrong[:10]}"


# The factors that the policies reach (1 +- k * 0.03, 1 +- k * 0.033, 1 +- k * 0.1) and the ends.
FACTORS = [0.0, 0.01, 0.1, 0.35, 0.6, 0.7, 0.97, 1.0, 1.03, 1.2, 1.3, 1.4, 1.5, 1.9, 1.99, 3.0]
FACTORS += [1.0 + sign * float(v) for v in torch.linspace(0.0, 0.9, 31)[[7, 10, 29]] for sign in (-1, 1)]


@pytest.mark.parametrize(
    ("op", "reference"),
    [
        (ops.brightness, V.adjust_brightness),
        (ops.contrast, V.adjust_contrast),
        (ops.saturation, V.adjust_saturation),
    ],
)
def test_blends(op: Callable[[Tensor, Tensor], Tensor], reference: Callable[[Tensor, float], Tensor]) -> None:
    assert_equals_torchvision(op, reference, FACTORS, EXACT)


def test_sharpness() -> None:
    assert_equals_torchvision(ops.sharpness, V.adjust_sharpness, FACTORS, EXACT, one_by_one=False)


@pytest.mark.parametrize("size", [(2, 9), (9, 2), (1, 1), (3, 3)])
def test_sharpness_of_the_smallest_images(size: tuple[int, int]) -> None:
    assert_equals_torchvision(ops.sharpness, V.adjust_sharpness, [0.0, 0.5, 1.9], EXACT, sizes=[size])


def test_hue() -> None:
    turns = [-0.5, -0.31, -0.1, -1 / 12, 0.0, 0.003, 0.05, 0.1, 1 / 6, 0.25, 0.4, 0.5]
    assert_equals_torchvision(ops.hue, V.adjust_hue, turns, ONE_LEVEL)


def test_posterize() -> None:
    assert_equals_torchvision(ops.posterize, lambda i, b: V.posterize(i, int(b)), [0, 1, 2, 3, 4, 5, 6, 7, 8], 0)
    assert_equals_torchvision(ops.posterize, lambda i, b: V.posterize(i, int(b)), [4.9, 7.1], 0)


def test_solarize() -> None:
    thresholds = [0.0, 0.5, 1.0, 76.5, 77.0, 77.5, 127.5, 128.0, 254.0, 254.5, 255.0]
    thresholds += [255.0 * float(v) for v in torch.linspace(1.0, 0.0, 31)]
    assert_equals_torchvision(ops.solarize, V.solarize, thresholds, 0)


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "invert"])
def test_ops_without_parameter(name: str) -> None:
    op, reference = getattr(ops, name), getattr(V, name)
    sizes = [*SIZES, (1, 1), (15, 17), (16, 16), (64, 48)]
    assert_equals_torchvision(lambda i, _: op(i), lambda i, _: reference(i), [0.0], 0, sizes=sizes)


def affine(image: Tensor, *, translate: tuple[int, int] = (0, 0), slope: tuple[float, float] | None = None) -> Tensor:
    """As torchvision's AutoAugment calls it: shears about the corner, translations about the middle."""
    shear = [math.degrees(math.atan(s)) for s in slope or (0.0, 0.0)]
    centre = [0.0, 0.0] if slope else None
    return V.affine(image, angle=0.0, translate=list(translate), scale=1.0, shear=shear, center=centre)


def both_signs(values: Tensor) -> list[float]:
    return [sign * float(v) for v in values for sign in (-1, 1)]


# 0.1 and 0.2 meet points half-way between two pixels; the linspaces are what the policies draw.
SLOPES = both_signs(
    torch.cat((torch.tensor([0.1, 0.2, 0.5, 1.0]), torch.linspace(0, 0.3, 31), torch.linspace(0, 0.99, 31)))
)


def test_shear_x() -> None:
    assert_equals_torchvision(ops.shear_x, lambda i, s: affine(i, slope=(s, 0.0)), SLOPES, 0, one_by_one=False)


def test_shear_y() -> None:
    assert_equals_torchvision(ops.shear_y, lambda i, s: affine(i, slope=(0.0, s)), SLOPES, 0, one_by_one=False)


PIXELS = [*map(float, range(-9, 10)), 0.48, -0.9, 3.99, -3.99, 14.5, 31.0, -32.0, 32.0]


def test_translate_x() -> None:
    def reference(image: Tensor, pixels: float) -> Tensor:
        return affine(image, translate=(int(pixels), 0))

    assert_equals_torchvision(ops.translate_x, reference, PIXELS, 0, one_by_one=False)


def test_translate_y() -> None:
    def reference(image: Tensor, pixels: float) -> Tensor:
        return affine(image, translate=(0, int(pixels)))

    assert_equals_torchvision(ops.translate_y, reference, PIXELS, 0, one_by_one=False)


def test_rotate() -> None:
    degrees = torch.cat((torch.linspace(0, 30, 31), torch.linspace(0, 135, 31), torch.tensor([45.0, 180.0, 359.0])))
    assert_equals_torchvision(ops.rotate, lambda i, d: V.rotate(i, d), both_signs(degrees), 0, one_by_one=False)


@pytest.mark.parametrize("size", SIZES)
def test_crop_with_padding(size: tuple[int, int]) -> None:
    images = make_images(*size)
    height, width = size
    for padding in (0, 1, 4):
        corners = torch.cartesian_prod(torch.arange(2 * padding + 1), torch.arange(2 * padding + 1))
        batch = images.repeat_interleave(len(corners), dim=0)
        top, left = corners.repeat(len(images), 1).unbind(1)
        actual = ops.crop_with_padding(batch, top, left, padding=padding)
        expected = [
            V.crop(V.pad(i, [padding]), t, c, height, width)
            for i, t, c in zip(batch, top.tolist(), left.tolist(), strict=True)
        ]
        assert torch.equal(actual, torch.stack(expected))


@pytest.mark.parametrize("size", SIZES)
def test_resized_crop(size: tuple[int, int]) -> None:
    images, (height, width) = make_images(*size), size
    generator = torch.Generator().manual_seed(0)
    batch = images.repeat(40, 1, 1, 1)
    box_height = torch.randint(1, height + 1, (len(batch),), generator=generator)
    box_width = torch.randint(1, width + 1, (len(batch),), generator=generator)
    top = (torch.rand(len(batch), generator=generator) * (height - box_height + 1)).long()
    left = (torch.rand(len(batch), generator=generator) * (width - box_width + 1)).long()
    boxes = torch.stack((top, left, box_height, box_width), dim=1)
    boxes[: len(images)] = torch.tensor([0, 0, height, width])
    actual = ops.resized_crop(batch, *boxes.unbind(1))
    expected = torch.stack(
        [
            V.resized_crop(i, *box, size=[height, width], antialias=True)
            for i, box in zip(batch, boxes.tolist(), strict=True)
        ]
    )
    assert torch.equal(actual[: len(images)], images), "the whole image must come back unchanged"
    assert (actual.int() - expected.int()).abs().max() <= ONE_LEVEL


@pytest.mark.parametrize("size", [(8, 8), (6, 11)])
def test_crop_with_reflection_is_torchs(size: tuple[int, int]) -> None:
    images, padding = torch.randint(256, (9, 3, *size), dtype=torch.uint8), 3
    top, left = torch.arange(9) % 7, (torch.arange(9) * 5) % 7
    padded, corners = V.pad(images, [padding], padding_mode="reflect"), zip(top.tolist(), left.tolist(), strict=True)
    expected = [image[:, t : t + size[0], u : u + size[1]] for image, (t, u) in zip(padded, corners, strict=True)]
    assert torch.equal(ops.crop_with_reflection(images, top, left, padding=padding), torch.stack(expected))
    with pytest.raises(ValueError, match=r"crop\.padding=8 cannot reflect images"):
        ops.crop_with_reflection(images, top, left, padding=8)


def test_hflip() -> None:
    images = make_images(9, 14)
    flipped = torch.arange(len(images)) % 3 == 0
    expected = [V.horizontal_flip(i) if f else i for i, f in zip(images, flipped, strict=True)]
    assert torch.equal(ops.hflip(images, flipped), torch.stack(expected))


@pytest.mark.parametrize("value", ["noise", 0.25])
def test_erase(value: str | float) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(60, 3, 11, 17, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    height = torch.randint(0, 12, (60,), generator=generator)
    width = torch.randint(0, 18, (60,), generator=generator)
    top = (torch.rand(60, generator=generator) * (12 - height)).long()
    left = (torch.rand(60, generator=generator) * (18 - width)).long()
    actual = ops.erase(images, top, left, height, width, noise if value == "noise" else 0.25)
    for k in range(60):
        t, c, h, w = (int(v[k]) for v in (top, left, height, width))
        fill = noise[k, :, t : t + h, c : c + w] if value == "noise" else torch.tensor(0.25)
        assert torch.equal(actual[k], V.erase(images[k], t, c, h, w, fill))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("op", "parameters", "tolerance"),
    [
        (ops.brightness, FACTORS, 1),
        (ops.contrast, FACTORS, 1),
        (ops.saturation, FACTORS, 1),
        (ops.sharpness, FACTORS, 1),
        (ops.hue, [-0.5, -0.1, 0.0, 0.07, 0.5], 1),
        (ops.posterize, [0.0, 3.0, 8.0], 0),
        (ops.solarize, [0.0, 77.0, 127.5, 255.0], 0),
        (lambda i, _: ops.autocontrast(i), [0.0], 1),
        (lambda i, _: ops.equalize(i), [0.0], 0),
        (lambda i, _: ops.invert(i), [0.0], 0),
        (ops.translate_x, PIXELS, 0),
        (ops.translate_y, PIXELS, 0),
    ],
)
def test_cuda_agrees_with_cpu(op: Callable[[Tensor, Tensor], Tensor], parameters: list[float], tolerance: int) -> None:
    images = make_images(24, 37)
    batch = images.repeat_interleave(len(parameters), dim=0)
    values = torch.tensor(parameters).repeat(len(images))
    difference = (op(batch.cuda(), values).cpu().int() - op(batch, values).int()).abs()
    assert difference.max() <= tolerance
