"""Convolutions before a pool: the values and gradients of the whole ones, for odd and even sides."""

from copy import deepcopy

import pytest
import torch

from hybrid_vit import build_model
from hybrid_vit.fast import set_pooled
from hybrid_vit.fast.accelerator import choose
from hybrid_vit.fast.pooled import EvenConv
from hybrid_vit.models import ConvGroup


@pytest.mark.parametrize("size", [(7, 7), (15, 15), (8, 8), (6, 9), (5, 4)])
def test_values_and_gradients_stay(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    whole = ConvGroup(64, 8).double()
    even = deepcopy(whole)
    set_pooled(even)
    assert type(even.halving[0]) is EvenConv and type(even.residual[0]) is not EvenConv
    assert even.state_dict().keys() == whole.state_dict().keys()
    results = []
    for net in (whole, even):
        x = torch.randn(
            3, 64, *size, dtype=torch.double, generator=torch.Generator().manual_seed(1), requires_grad=True
        )
        y = net(x)
        y.square().sum().backward()
        results.append([y, x.grad, *(parameter.grad for parameter in net.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one)


def test_narrow_convolutions_are_left_alone() -> None:
    group = ConvGroup(24, 64)
    set_pooled(group)
    assert type(group.halving[0]) is not EvenConv


def test_inference_in_fp32_keeps_it() -> None:
    """Winograd's convolutions, which only gradients need, would take their place."""
    plain = build_model("hybrid_fast", num_classes=3)
    net = choose("cpu", precision="32-true").serve(plain)
    set_pooled(plain)
    counts = [sum(type(module) is EvenConv for module in each.modules()) for each in (plain, net)]
    assert counts[0] == counts[1] > 0
