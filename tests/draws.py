"""Images to augment, and whether draws are distributed as they should be."""

import platform

import torch
from torch import Tensor

MANY = 20_000


# See the docstring of ops.py: elsewhere the last bit of a blend may differ.
EXACT = 0 if platform.machine() in ("x86_64", "AMD64") else 1


def noise_images(batch: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.randint(256, (batch, 3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def smooth_images(batch: int) -> Tensor:
    coarse = torch.rand(batch, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear") * 255).to(torch.uint8)


def assert_frequencies(counts: Tensor, probabilities: Tensor) -> None:
    """Chi-square, five standard deviations above its mean; what cannot happen has not happened."""
    expected = probabilities.flatten().double() * counts.sum()
    counts = counts.flatten().double()
    assert (counts[expected == 0] == 0).all()
    counts, expected = counts[expected > 0], expected[expected > 0]
    freedom = len(counts) - 1
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5, (
        f"chi-square {chi_square:.0f} for {freedom} degrees of freedom"
    )


def assert_same_distribution(ours: Tensor, theirs: Tensor) -> None:
    """Kolmogorov and Smirnov, at a significance of about 1e-4."""
    values = torch.cat((ours, theirs)).unique()
    ours, theirs = ours.sort().values, theirs.sort().values
    gap = torch.searchsorted(ours, values, right=True) / len(ours) - torch.searchsorted(
        theirs, values, right=True
    ) / len(theirs)
    assert gap.abs().max() < 2.23 * (1 / len(ours) + 1 / len(theirs)) ** 0.5
