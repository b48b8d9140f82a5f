"""Mixup and CutMix: targets that say what the images are made of."""

import pytest
import torch
from torch import Tensor

from hybrid_vit.augment import CutMix, Draw, Mix, Mixup

CLASSES = 6


def labelled_images(height: int = 12, width: int = 20) -> tuple[Tensor, Tensor]:
    """(6, 3, H, W): image k is constant k, of class k, so that an image's mean tells what it is made of."""
    labels = torch.arange(CLASSES)
    return labels.float().view(-1, 1, 1, 1).expand(-1, 3, height, width).contiguous(), labels


@pytest.mark.parametrize("mixing", [Mixup(alpha=0.8), CutMix(alpha=1.0), Mix(), Mix(mixup_alpha=None)])
def test_targets_are_the_share_of_each_image(mixing: Mixup | CutMix | Mix) -> None:
    images, labels = labelled_images()
    weights = []
    for seed in range(60):
        before = images.clone()
        mixed, targets = mixing(images, labels, CLASSES, Draw(seed, CLASSES))
        assert torch.equal(images, before), "the input changed"
        assert targets.shape == (CLASSES, CLASSES) and targets.dtype == torch.float32
        torch.testing.assert_close(targets.sum(1), torch.ones(CLASSES))
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), targets @ labels.float(), atol=1e-5, rtol=0)
        own = targets.diagonal()
        partner = targets[labels, labels.roll(1)]
        assert (own == own[0]).all(), "one lambda for the whole batch"
        torch.testing.assert_close(own + partner, torch.ones(CLASSES))
        weights.append(own[0].item())
    assert max(weights) - min(weights) > 0.5


def test_mixup_blends_and_cutmix_pastes() -> None:
    images, labels = labelled_images()
    pasted = 0
    for seed in range(20):
        blended, _ = Mixup()(images, labels, CLASSES, Draw(seed, CLASSES))
        assert (blended == blended[:, :1, :1, :1]).all()
        cut, targets = CutMix()(images, labels, CLASSES, Draw(seed, CLASSES))
        other = cut[3, 0] == 2.0
        assert (other | (cut[3, 0] == 3.0)).all()
        rows, columns = other.any(1).sum(), other.any(0).sum()
        assert other.sum() == rows * columns, "the pasted pixels are no box"
        assert targets[3, 2].item() == pytest.approx((rows * columns / other.numel()).item())
        pasted += int(other.any())
    assert pasted > 10


def test_how_often_each_is_chosen() -> None:
    images, labels = labelled_images()
    kinds = {"none": 0, "mixup": 0, "cutmix": 0}
    mix = Mix(mixup_alpha=0.8, cutmix_alpha=1.0, p=0.7, switch_p=0.4)
    for seed in range(1500):
        mixed, targets = mix(images, labels, CLASSES, Draw(seed, CLASSES))
        if torch.equal(targets, torch.eye(CLASSES)):
            kinds["none"] += 1
        else:
            kinds["mixup" if (mixed[5] == mixed[5, 0, 0, 0]).all() and mixed[5, 0, 0, 0] % 1 else "cutmix"] += 1
    # A CutMix box of less than a pixel leaves the batch as it is: P(1 - lambda < (2 / 12)^2) = 2.8 %.
    assert abs(kinds["none"] / 1500 - (0.3 + 0.28 * 0.028)) < 0.04
    assert abs(kinds["mixup"] / 1500 - 0.42) < 0.04


@pytest.mark.parametrize("mixing", [Mixup(), CutMix(), Mix(p=0.5)])
def test_shares_are_mixed_as_the_whole_batch_is(mixing: Mixup | CutMix | Mix) -> None:
    """A process has the image before its share, which it mixes its first with."""
    images, labels = labelled_images()
    for seed in range(20):
        expected = mixing(images, labels, CLASSES, Draw(seed, CLASSES))
        parts = []
        for share in (range(0, 1), range(1, 3), range(3, 6)):
            led = torch.tensor([share[0] - 1, *share]) % CLASSES
            parts.append(mixing(images[led], labels[led], CLASSES, Draw(seed, CLASSES, led, led=True)))
        for whole, *pieces in zip(expected, *parts, strict=True):
            assert torch.cat(pieces).equal(whole)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Mixup(alpha=0.0), "alpha"),
        (lambda: CutMix(alpha=-1.0), "alpha"),
        (lambda: CutMix(alpha=float("nan")), "alpha"),
        (lambda: Mix(mixup_alpha=0.0), "mixup_alpha"),
        (lambda: Mix(cutmix_alpha=-0.1), "cutmix_alpha"),
        (lambda: Mix(p=1.1), "p is"),
        (lambda: Mix(switch_p=-0.1), "switch_p"),
        (lambda: Mix(mixup_alpha=None, cutmix_alpha=None), "both None"),
    ],
)
def test_bad_arguments(make: object, name: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=name):
        make()
