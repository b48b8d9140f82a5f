"""Folding BatchNorm away changes nothing but the operations."""

import torch
from torch import nn

from hybrid_vit.models import ConvStem, folded, hybrid_vit


def test_logits_stay_and_no_batchnorm_does() -> None:
    torch.manual_seed(0)
    stem = ConvStem(embed_dim=32, grid=8)
    net = hybrid_vit(stem=stem, num_classes=7, embed_dim=32, depth=2, proj_drop_rate=0.5)
    x = torch.randn(8, 3, 32, 32)
    for _ in range(3):
        net(x + 1)  # statistics that are not those of a fresh layer
    fast = folded(net)
    assert net.training
    assert not fast.training
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules())
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()) == 3
    net.eval()
    torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)
