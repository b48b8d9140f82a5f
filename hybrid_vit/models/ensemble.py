"""Ensemble: several networks answer together: (B, 3, H, W) image -> (B, num_classes) logits."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The logarithm of the mean of the members' probabilities, so that softmax gives that mean.

    Hansen and Salamon 1990; Lakshminarayanan et al. 2017 (arXiv 1612.01474).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        answers = torch.stack([member(x).float().log_softmax(1) for member in self.members])
        return answers.logsumexp(0) - math.log(len(self.members))


class Mirror(nn.Module):
    """(B, C, H, W) -> (B, C, H, W), left and right exchanged."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(3)


def mirrored(net: nn.Module) -> Ensemble:
    """Test-time augmentation: the mean of the probabilities of `net` for an image and for its mirror image."""
    return Ensemble([net, nn.Sequential(Mirror(), net)])
