"""The whole pipeline of augmentation, and arguments that cannot be."""

import pickle
from collections.abc import Callable

import pytest
import torch
from draws import noise_images, smooth_images
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from hybrid_vit.augment import (
    Augment,
    AutoAugment,
    ColorJitter,
    Draw,
    Mix,
    Normalize,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    TrivialAugment,
)
from hybrid_vit.config.build import build

MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


def pipelines() -> dict[str, Augment]:
    jitter = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    flip = RandomHorizontalFlip()
    return {
        "run_192": Augment(
            crop=RandomCrop(), flip=flip, policy=RandAugment(num_ops=2, magnitude=10), erase=RandomErasing(p=0.5)
        ),
        "run_384": Augment(
            crop=RandomResizedCrop(scale=(0.8, 1.0)),
            flip=flip,
            jitter=jitter,
            policy=AutoAugment(),
            erase=RandomErasing(),
        ),
        "trivial": Augment(crop=RandomCrop(), flip=flip, policy=TrivialAugment(), erase=RandomErasing(value=0.0)),
    }


def run(augment: Augment, images: Tensor, draw: Draw) -> Tensor:
    labels = torch.arange(len(images), device=images.device)
    floats, targets = augment(images, labels, draw, normalize=Normalize(MEAN, STD), num_classes=100)
    assert floats.dtype == torch.float32 and floats.shape == images.shape and targets is labels
    return floats


@pytest.mark.parametrize("name", pipelines())
@pytest.mark.parametrize("height", [32, 20])
def test_shares_give_the_unsplit_batch(name: str, height: int) -> None:
    augment, images = pipelines()[name], noise_images(8, height, 32)
    before = images.clone()
    for seed in range(10):
        whole = run(augment, images, Draw(seed, 8))
        parts = [run(augment, images[share], Draw(seed, 8, share)) for share in (slice(0, 4), slice(4, 8))]
        assert torch.equal(torch.cat(parts), whole)
        strided = run(augment, images[1::3], Draw(seed, 8, slice(1, None, 3)))
        assert torch.equal(strided, whole[1::3])
        assert torch.equal(images, before), "the input changed"


@pytest.mark.parametrize("name", pipelines())
def test_same_seed_same_images_and_each_sample_its_own(name: str) -> None:
    augment, images = pipelines()[name], smooth_images(1).expand(64, -1, -1, -1)
    first = run(augment, images, Draw(1, 64))
    assert torch.equal(first, run(pickle.loads(pickle.dumps(augment)), images, Draw(1, 64)))
    assert not torch.equal(first, run(augment, images, Draw(2, 64)))
    assert len(first.flatten(1).unique(dim=0)) > 60


def test_the_order_of_the_parts() -> None:
    images, labels = noise_images(6), torch.arange(6)
    crop, flip, jitter = RandomCrop(padding=4), RandomHorizontalFlip(), ColorJitter(brightness=0.4)
    policy, erase, mix = RandAugment(), RandomErasing(p=1.0), Mix()
    normalize = Normalize(MEAN, STD)
    augment = Augment(crop=crop, flip=flip, jitter=jitter, policy=policy, erase=erase, mix=mix)
    actual, targets = augment(images, labels, Draw(3, 6), normalize=normalize, num_classes=7)
    draw = Draw(3, 6)
    changed = policy(jitter(flip(crop(images, draw), draw), draw), draw)
    expected, expected_targets = mix(erase(normalize(changed), draw), labels, 7, draw)
    assert torch.equal(actual, expected) and torch.equal(targets, expected_targets)
    weak = Draw(3, 6)
    assert torch.equal(run(augment.weak, images, Draw(3, 6)), run(Augment(crop=crop, flip=flip), images, weak))
    assert targets.shape == (6, 7)


def test_nothing_but_normalize() -> None:
    images = torch.cat((noise_images(3), smooth_images(2)))
    expected = V.normalize(V.to_dtype(images, torch.float32, scale=True), list(MEAN), list(STD))
    torch.testing.assert_close(run(Augment(), images, Draw(0, 5)), expected, atol=2e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["trivial", "run_384"])
def test_cuda_agrees_with_cpu(name: str) -> None:
    """Without noise. A grey level more or less before an equalize or a posterize can become a few."""
    augment, images = pipelines()[name], smooth_images(256)
    augment.erase = RandomErasing(value=0.0)
    cpu = run(augment, images, Draw(1, 256))
    cuda = run(augment, images.cuda(), Draw(1, 256)).cpu()
    assert ((cpu - cuda).abs() > 2.5 / 255 / min(STD)).float().mean() < 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomCrop(padding=-1), "padding is -1"),
        (lambda: RandomCrop(padding=2.5), "padding is 2.5"),
        (lambda: build({"_target_": "hybrid_vit.augment.RandomErasing", "scale": 0.2}), "RandomErasing: a value is of"),
        (lambda: RandomCrop(mode="edge"), "augment.crop.mode=edge is unknown; use constant or reflect"),
        (lambda: RandomResizedCrop(scale=(0.0, 1.0)), "scale"),
        (lambda: RandomResizedCrop(scale=(0.9, 0.8)), "scale"),
        (lambda: RandomResizedCrop(scale=(0.5, 1.2)), "scale"),
        (lambda: RandomResizedCrop(ratio=(-1.0, 2.0)), "ratio"),
        (lambda: RandomResizedCrop(ratio=(1.0, float("inf"))), "0 <= low <= high <= a finite number"),
        (lambda: RandomErasing(ratio=(0.0, 0.0)), r"use for example \(1, 1\)"),
        (lambda: RandomHorizontalFlip(p=1.5), "p is 1.5"),
        (lambda: RandomHorizontalFlip(p=float("nan")), "p is nan"),
        (lambda: ColorJitter(brightness=-0.1), "brightness is -0.1"),
        (lambda: ColorJitter(brightness=float("inf")), "brightness is inf"),
        (lambda: ColorJitter(contrast=(2.0, 1.0)), "contrast"),
        (lambda: ColorJitter(saturation=(-1.0, 1.0)), "saturation"),
        (lambda: ColorJitter(hue=0.6), r"hue is 0\.6, but it is a strength; use 0 to 0\.5"),
        (lambda: ColorJitter(hue=(-0.6, 0.6)), "hue"),
        (lambda: AutoAugment(policy="cifar100"), "policy 'cifar100'.*cifar10"),
        (lambda: RandAugment(num_ops=0), "num_ops is 0"),
        (lambda: RandAugment(magnitude=31), "magnitude is 31.*30"),
        (lambda: RandAugment(magnitude=-1), "magnitude is -1"),
        (lambda: RandAugment(magnitude=9.5), r"magnitude is 9\.5; use a whole number, 0 to 30"),
        (lambda: RandAugment(num_ops=2.5), r"num_ops is 2\.5; use a whole number, 1 or more"),
        (lambda: RandAugment(num_magnitude_bins=1), "num_magnitude_bins is 1"),
        (lambda: TrivialAugment(num_magnitude_bins=0), "num_magnitude_bins is 0"),
        (lambda: RandomErasing(p=-0.1), "p is -0.1"),
        (lambda: RandomErasing(scale=(-0.1, 0.3)), "scale"),
        (lambda: RandomErasing(ratio=(0.0, 1.0)), "ratio"),
        (lambda: RandomErasing(value="white"), "value is 'white'"),
        (lambda: Normalize((0.5,), (0.2, 0.2)), "mean has 1"),
        (lambda: Normalize((0.5,), (0.0,)), "std"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_normalization_that_was_used_without_gradients_has_them() -> None:
    normalize, images = Normalize(MEAN, STD), torch.rand(1, 3, 4, 4) * 255
    with torch.inference_mode():
        normalize(images)
    images.requires_grad_()
    normalize(images).sum().backward()
    expected = (1 / (255 * torch.tensor(STD))).view(3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(images.grad, expected)
