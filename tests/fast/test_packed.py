"""Packed linear layers compute what they stand for."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from hybrid_vit.fast import packed
from hybrid_vit.fast.packed import PackedLinear
from hybrid_vit.models import PatchStem, hybrid_vit

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.mark.parametrize("pool", ["cls", "sequence"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_logits_stay(pool: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    stem = PatchStem(embed_dim=32, grid=4)
    net = hybrid_vit(stem=stem, num_classes=7, embed_dim=32, depth=2, qkv_bias=False, pool=pool).eval().to(dtype)
    fast, x = packed(deepcopy(net)), torch.randn(3, 3, 32, 32, dtype=dtype)
    supported = dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    layers = sum(isinstance(layer, nn.Linear) for layer in net.modules())
    assert sum(isinstance(layer, PackedLinear) for layer in fast.modules()) == supported * layers
    assert torch.equal(fast.head.weight, net.head.weight)  # some models read a layer's weight
    with torch.no_grad():
        difference = (fast(x) - net(x)).norm() / net(x).norm()
    assert difference <= {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float64: 0}[dtype]
