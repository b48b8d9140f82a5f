"""What crops, flips, erasing and jitter draw, against torchvision's own draws."""

from collections.abc import Callable

import pytest
import torch
from draws import MANY, assert_frequencies, assert_same_distribution, noise_images, smooth_images
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from hybrid_vit.augment import (
    ColorJitter,
    Draw,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    ops,
)


def test_random_crop_moves_evenly() -> None:
    images = torch.stack(torch.meshgrid(torch.arange(12), torch.arange(10), indexing="ij")).to(torch.uint8)
    images = torch.cat((images, images[:1])).expand(MANY, -1, -1, -1)
    cropped = RandomCrop(padding=3)(images, Draw(3, MANY))
    down, right = cropped[:, 0, 5, 5].int() - 5, cropped[:, 1, 5, 5].int() - 5
    assert_frequencies(torch.bincount((down + 3) * 7 + right + 3, minlength=49), torch.full((49,), 1 / 49))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_random_flip_frequency(p: float) -> None:
    images = torch.tensor([[0, 1]], dtype=torch.uint8).expand(MANY, 3, 1, 2)
    flipped = RandomHorizontalFlip(p=p)(images, Draw(4, MANY))[:, 0, 0, 0].float().mean()
    assert flipped == p if p in (0.0, 1.0) else abs(flipped - p) < 0.02


@pytest.mark.parametrize(
    ("scale", "ratio", "height", "width"),
    [((0.8, 1.0), (3 / 4, 4 / 3), 32, 32), ((0.08, 1.0), (0.3, 3.0), 24, 37), ((0.9, 1.0), (0.5, 2.0), 16, 16)],
)
def test_resized_crop_boxes_are_distributed_as_torchvisions(
    scale: tuple[float, float], ratio: tuple[float, float], height: int, width: int
) -> None:
    torch.manual_seed(0)
    theirs_transform = v2.RandomResizedCrop((height, width), scale=scale, ratio=ratio)
    drawn = [theirs_transform.make_params([torch.empty(3, height, width)]) for _ in range(2000)]
    boxes = RandomResizedCrop(scale=scale, ratio=ratio).boxes(Draw(5, MANY), height, width)
    top, left, h, w = boxes
    assert ((h > 0) & (w > 0) & (top >= 0) & (left >= 0) & (top + h <= height) & (left + w <= width)).all()
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn])
    for ours, reference in zip(boxes, theirs.unbind(1), strict=True):
        assert_same_distribution(ours.double(), reference.double())
    assert_same_distribution((h * w).double(), (theirs[:, 2] * theirs[:, 3]).double())
    assert_same_distribution(h / w, theirs[:, 2] / theirs[:, 3])


def test_boxes_are_log_uniform_in_their_aspect_ratio() -> None:
    """Small boxes in a large image: every first try fits, and rounding hardly matters."""
    expected = torch.linspace(-1.0, 1.5, MANY, dtype=torch.float64)
    ratio = (torch.e**-1.0, torch.e**1.5)
    _, _, h, w = RandomResizedCrop(scale=(0.04, 0.05), ratio=ratio).boxes(Draw(0, MANY), 4000, 4000)
    assert_same_distribution((w / h).double().log(), expected)
    _, _, h, w = RandomErasing(scale=(0.04, 0.05), ratio=ratio).boxes(Draw(0, MANY), 4000, 4000)
    assert_same_distribution((h / w).double().log(), expected)
    assert_same_distribution((h * w).double() / 4000**2, torch.linspace(0.04, 0.05, MANY, dtype=torch.float64))


@pytest.mark.parametrize(("height", "width", "ratio"), [(8, 40, (1.0, 1.0)), (40, 8, (1.0, 1.5)), (9, 50, (0.7, 1.3))])
def test_resized_crop_falls_back_to_the_central_box(height: int, width: int, ratio: tuple[float, float]) -> None:
    theirs = v2.RandomResizedCrop((height, width), scale=(0.95, 1.0), ratio=ratio)
    expected = theirs.make_params([torch.empty(3, height, width)])
    boxes = RandomResizedCrop(scale=(0.95, 1.0), ratio=ratio).boxes(Draw(6, 50), height, width)
    for ours, name in zip(boxes, ("top", "left", "height", "width"), strict=True):
        assert (ours == expected[name]).all()


@pytest.mark.parametrize(
    ("scale", "ratio", "height", "width"),
    [((0.02, 0.33), (0.3, 3.3), 32, 32), ((0.3, 1.0), (0.1, 2.0), 12, 20)],
)
def test_erasing_boxes_are_distributed_as_torchvisions(
    scale: tuple[float, float], ratio: tuple[float, float], height: int, width: int
) -> None:
    torch.manual_seed(0)
    transform = v2.RandomErasing(1.0, scale=scale, ratio=ratio)
    drawn = [transform.make_params([torch.empty(3, height, width)]) for _ in range(2000)]
    boxes = RandomErasing(p=1.0, scale=scale, ratio=ratio).boxes(Draw(7, MANY), height, width)
    missed = boxes[2] == 0
    assert abs(missed.float().mean() - sum(d["v"] is None for d in drawn) / 2000) < 0.02
    theirs = torch.tensor([[d["i"], d["j"], d["h"], d["w"]] for d in drawn if d["v"] is not None])
    for ours, reference in zip(boxes, theirs.unbind(1), strict=True):
        assert_same_distribution(ours[~missed].double(), reference.double())


@pytest.mark.parametrize("value", ["random", 0.5])
def test_erasing(value: str | float) -> None:
    images = torch.zeros(4000, 3, 8, 9)
    erased = RandomErasing(p=0.25, value=value)(images, Draw(8, 4000))
    assert not images.any(), "the input changed"
    touched = (erased != 0).any(1)
    assert abs(touched.flatten(1).any(1).float().mean() - 0.25) < 0.03
    assert torch.equal(touched.any(2).sum(1) * touched.any(1).sum(1), touched.sum(dim=(1, 2))), "not a box"
    pixels = erased.permute(0, 2, 3, 1)[touched]
    if value == 0.5:
        assert (pixels == 0.5).all()
    else:
        assert abs(pixels.mean()) < 0.03 and abs(pixels.std() - 1.0) < 0.03
        assert len(pixels.unique()) > 0.99 * pixels.numel(), "pixels or channels share their noise"


@pytest.mark.parametrize(("p", "touched"), [(0.0, 0), (1.0, 16)])
def test_erasing_none_or_all(p: float, touched: int) -> None:
    erased = RandomErasing(p=p, scale=(0.2, 0.3))(torch.zeros(16, 3, 32, 32), Draw(0, 16))
    assert erased.flatten(1).any(1).sum() == touched


def test_jitter_draws_every_order_and_the_whole_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stand-in for an op appends its digit to the base-4 number that an image starts from zero with."""
    factors: dict[int, list[Tensor]] = {0: [], 1: [], 2: [], 3: []}

    def stand_in(digit: int) -> Callable[[Tensor, Tensor], Tensor]:
        def op(images: Tensor, factor: Tensor) -> Tensor:
            factors[digit].append(factor)
            return images * 4 + digit

        return op

    for digit, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        monkeypatch.setattr(ops, name, stand_in(digit))
    images = torch.zeros(MANY, 3, 1, 1, dtype=torch.uint8)
    jitter = ColorJitter(brightness=0.4, contrast=(0.5, 2.0), saturation=1.5, hue=0.1)
    codes, counts = jitter(images, Draw(9, MANY))[:, 0, 0, 0].unique(return_counts=True)
    orders = [sorted((c >> 2 * k) % 4 for k in range(4)) for c in codes.tolist()]
    assert len(orders) == 24 and all(order == [0, 1, 2, 3] for order in orders)
    assert_frequencies(counts, torch.full((24,), 1 / 24))
    for digit, (low, high) in enumerate(((0.6, 1.4), (0.5, 2.0), (0.0, 2.5), (-0.1, 0.1))):
        drawn = torch.cat(factors[digit])
        assert len(drawn) == MANY
        assert_same_distribution(drawn, torch.linspace(low, high, MANY))


@pytest.mark.parametrize(
    ("jitter", "reference"),
    [
        (ColorJitter(brightness=(1.3, 1.3)), lambda i: V.adjust_brightness(i, 1.3)),
        (ColorJitter(contrast=(0.6, 0.6)), lambda i: V.adjust_contrast(i, 0.6)),
        (ColorJitter(saturation=(1.4, 1.4)), lambda i: V.adjust_saturation(i, 1.4)),
        (ColorJitter(hue=(0.1, 0.1)), lambda i: V.adjust_hue(i, 0.1)),
        (ColorJitter(brightness=0.0, contrast=0), lambda i: i),
    ],
)
def test_jitter_applies_torchvisions_ops(jitter: ColorJitter, reference: Callable[[Tensor], Tensor]) -> None:
    images = torch.cat((noise_images(4), smooth_images(4)))
    difference = jitter(images, Draw(0, 8)).int() - torch.stack([reference(i) for i in images]).int()
    assert difference.abs().max() <= 1
