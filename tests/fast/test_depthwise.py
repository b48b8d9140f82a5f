"""Depthwise convolutions that stride: what they compute, which ones change, and their gradients."""

import pytest
import torch
from torch import nn

from hybrid_vit.fast import set_strided_depthwise
from hybrid_vit.fast.accelerator import Choice
from hybrid_vit.fast.depthwise import StridedDepthwise


def layer(kernel: int = 3, **settings) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(8, 8, kernel, groups=8, bias=False, **({"stride": 2, "padding": kernel // 2} | settings))


@pytest.mark.parametrize("settings", [{}, {"kernel": 5}, {"dilation": 2}, {"stride": (2, 1), "padding": 0}])
def test_its_gradients_in_bf16_are_those_of_float64(settings: dict) -> None:
    net, x = layer(**settings), torch.randn(4, 8, 13, 12).bfloat16()

    def through(net: nn.Module, x: torch.Tensor, bf16: bool) -> tuple[torch.Tensor, ...]:
        x = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = net(x)
        return y, *torch.autograd.grad(y, (x, *net.parameters()), torch.ones_like(y))

    exact = layer(**settings).double()
    exact.weight.data = net.weight.data.bfloat16().double()
    set_strided_depthwise(net, fp32=True)
    assert type(net) is StridedDepthwise
    for here, there in zip(through(net, x, bf16=True), through(exact, x.double(), bf16=False), strict=True):
        assert (here.double() - there).norm() / there.norm() < 0.005
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x), layer(**settings)(x))


@pytest.mark.parametrize(
    "other",
    [
        layer(stride=1),
        nn.Conv2d(8, 8, 3, stride=2, bias=False),
        nn.Conv2d(8, 16, 3, stride=2, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, stride=2, groups=8),
        layer(padding_mode="reflect"),
    ],
)
def test_other_convolutions_stay(other: nn.Conv2d) -> None:
    set_strided_depthwise(other, fp32=True)
    assert type(other) is nn.Conv2d


@pytest.mark.parametrize(
    ("accelerator", "precision", "compile", "changed"),
    [
        ("cpu", "bf16-mixed", False, True),
        ("cpu", "bf16-mixed", True, False),
        ("cpu", "32-true", False, False),
        ("mps", "bf16-mixed", False, False),
    ],
)
def test_only_where_a_cpu_computes_eagerly_in_bf16(
    accelerator: str, precision: str, compile: bool, changed: bool
) -> None:
    for before in (False, True):
        net = nn.Sequential(layer())
        set_strided_depthwise(net, fp32=before)
        Choice(accelerator, precision, "explicit", compile, shards=1, reason="").tune(net)
        assert (type(net[0]) is StridedDepthwise) is changed
        assert [*net.state_dict()] == ["0.weight"]
