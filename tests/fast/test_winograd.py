"""The weight gradient by Winograd's algorithm: torch's own but for rounding, for any size; which layers get it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hybrid_vit import build_model
from hybrid_vit.fast.winograd import WinogradConv2d, set_winograd, weight_gradient


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (3, 3), (1, 1), (5, 10), (4, 13)])
def test_it_is_the_gradient(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(3, 6, *size), torch.randn(5, 6, 3, 3, requires_grad=True)
    y = F.conv2d(x, weight, padding=1)
    gradient = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, weight, gradient)
    for layout in (torch.contiguous_format, torch.channels_last):
        found = weight_gradient(x.to(memory_format=layout), gradient.to(memory_format=layout))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_wide_convolutions_get_it_and_compute_the_same() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(128, 128, 3, padding=1, bias=False),
        nn.Conv2d(128, 128, 3, padding=1),  # a bias
        nn.Conv2d(128, 64, 3, padding=1, bias=False),  # narrow
        nn.Conv2d(64, 128, 1, bias=False),
        nn.Conv2d(128, 128, 3, 2, padding=1, bias=False),
        nn.Conv2d(128, 128, 3, padding=1, bias=False, groups=2),
    )
    fast = nn.Sequential(*plain)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(2, 128, 8, 8, requires_grad=True)
    plain(x).square().sum().backward()
    expected = {name: value.grad.clone() for name, value in plain.named_parameters()} | {"x": x.grad.clone()}
    plain.zero_grad()
    x.grad = None
    set_winograd(fast)
    assert [type(layer) is WinogradConv2d for layer in fast] == [True, *[False] * 5]
    fast(x).square().sum().backward()
    for name, value in [*fast.named_parameters(), ("x", x)]:
        largest = expected[name].abs().max().item()
        torch.testing.assert_close(value.grad, expected[name], rtol=1e-4, atol=1e-4 * largest)


def test_a_hybrid_exports_with_it() -> None:
    net = build_model("hybrid_fast", num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = net(images)
        set_winograd(net)
        assert sum(isinstance(layer, WinogradConv2d) for layer in net.modules()) == 3
        torch.testing.assert_close(net(images), expected)
        torch.testing.assert_close(torch.export.export(net, (images,)).module()(images), expected)
