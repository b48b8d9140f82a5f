"""Integrated gradients against captum, against their completeness, and against what they should say."""

from pathlib import Path

import pytest
import torch
from captum.attr import IntegratedGradients
from sklearn.datasets import load_digits
from torch import nn

import hybrid_vit
from hybrid_vit.explanation import integrated_gradients


@pytest.mark.parametrize("name", ["hybrid_tiny", "hybrid_fast", "wrn_16_8"])
def test_they_are_those_of_captum(name: str) -> None:
    torch.manual_seed(0)
    narrow = {"width": 1} if name == "wrn_16_8" else {}
    net = hybrid_vit.build_model(name, num_classes=10, **narrow).eval()
    images, targets = torch.randn(2, 3, 32, 32), torch.tensor([3, 7])
    expected = IntegratedGradients(net).attribute(images, target=targets, n_steps=8, method="riemann_middle")
    found = integrated_gradients(net, images, targets, steps=8)
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-5)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_they_sum_to_the_difference_from_the_baseline() -> None:
    trained = hybrid_vit.load("quickstart")
    images = trained.preprocess(Path(__file__).parents[2] / "docs" / "digit.png")
    with torch.no_grad():
        logits = trained(images)
        difference = (logits - trained(torch.zeros_like(images)))[0]
    for target in (3, 8):
        found = integrated_gradients(trained, images, torch.tensor([target]), steps=256).sum()
        assert float(found) == pytest.approx(float(difference[target]), abs=0.05 * float(logits.std()))


def test_of_a_linear_network_they_are_weight_times_input() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    images = torch.randn(2, 3, 2, 2)
    found = integrated_gradients(net, images, torch.tensor([2, 0]), steps=3)
    torch.testing.assert_close(found, images * net[1].weight[[2, 0]].view(2, 3, 2, 2))


def test_the_pixels_that_speak_for_a_class_matter_more_than_others() -> None:
    """Without its most important fifth of the pixels a digit loses more of its logit than without another fifth."""
    trained = hybrid_vit.load("quickstart")
    data = load_digits()
    images = trained.preprocess([torch.from_numpy(i * 15.9).byte().repeat(3, 1, 1) for i in data.images[:40]])
    with torch.no_grad():
        logits, targets = trained(images).max(dim=1)
    importance = integrated_gradients(trained, images, targets, steps=8).sum(dim=1).flatten(1)
    chance = torch.rand(importance.shape, generator=torch.Generator().manual_seed(0))
    left = {}
    for kind, order in (("important", importance), ("chance", chance)):
        removed = order >= order.quantile(0.8, dim=1, keepdim=True)
        with torch.no_grad():
            without = trained(images * ~removed.view(-1, 1, 32, 32))
        left[kind] = float((without.gather(1, targets[:, None])[:, 0] - logits).mean())
    assert left["important"] < 2 * left["chance"] < 0
