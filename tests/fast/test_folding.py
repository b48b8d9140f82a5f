"""Folding BatchNorm away changes nothing but the operations."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from hybrid_vit.fast import folded
from hybrid_vit.models import ConvStem, MobileStem, ResNetStem, WhitenedStem, hybrid_vit


@pytest.mark.parametrize(
    ("stem", "mlp", "norms", "left"),
    [
        (ConvStem, "linear", 3, 0),
        (partial(ConvStem, squeeze_excitation=True), "linear", 3, 0),
        (partial(ResNetStem, squeeze_excitation=True), "linear", 7, 0),
        (MobileStem, "conv", 7 + 6, 0),
        (WhitenedStem, "conv", 4 + 6, 2),
    ],
    ids=["conv", "conv, squeezed", "resnet", "mobile and conv", "whitened"],
)
def test_logits_stay_and_no_batchnorm_behind_a_convolution_does(stem: Any, mlp: Any, norms: int, left: int) -> None:
    torch.manual_seed(0)
    net = hybrid_vit(stem=stem(embed_dim=32, grid=8), num_classes=7, embed_dim=32, depth=2, mlp=mlp, proj_drop_rate=0.5)
    x = torch.randn(8, 3, 32, 32)
    for _ in range(3):
        net(x + 1)  # statistics that are not those of a fresh layer
    fast = folded(net)
    assert net.training
    assert not fast.training
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules()) == left  # those behind a max-pool
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()) == norms
    net.eval()
    torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)
