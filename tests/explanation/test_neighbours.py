"""Features before the classifier, of all kinds of models, and the most similar ones."""

import pytest
import torch

import hybrid_vit
from hybrid_vit.explanation import nearest, penultimate


@pytest.mark.parametrize("name", ["hybrid_tiny", "hybrid_fast", "wrn_16_8", "resnet18", "swin_micro", "convnext_atto"])
def test_the_classifier_makes_the_logits_of_the_features(name: str) -> None:
    net = hybrid_vit.build_model(name, num_classes=7).eval()
    images = torch.randn(3, 3, 32, 32)
    features = penultimate(net, images)
    with torch.no_grad():
        heads = [module for module in net.modules() if isinstance(module, torch.nn.Linear) and module.out_features == 7]
        torch.testing.assert_close(heads[-1](features), net(images))
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_the_nearest_are_those_of_the_smallest_angle() -> None:
    others = torch.tensor([[1.0, 0.0], [0.0, 5.0], [3.0, 3.0], [-1.0, 0.0]])
    values, indices = nearest(torch.tensor([[2.0, 0.0], [0.0, 0.1]]), others.half(), 3)
    assert indices.tolist() == [[0, 2, 1], [1, 2, 0]]
    torch.testing.assert_close(values, torch.tensor([[1, 0.5**0.5, 0], [1, 0.5**0.5, 0]]), rtol=1e-3, atol=1e-3)
    assert nearest(others[:1], others, 9)[1].shape == (1, 4)
