"""Progressive resolution: which size when, and the sentences for stages that cannot be."""

import pytest
import torch

from hybrid_vit.training.progressive import Progressive


@pytest.mark.parametrize(("progress", "side"), [(0.0, 20), (0.149, 20), (0.15, 24), (0.49, 24), (0.5, 32), (1.0, 32)])
def test_images_grow_with_the_training(progress: float, side: int) -> None:
    images = torch.randn(2, 3, 32, 32)
    small = Progressive([20, 24], [0.15, 0.5])(images, progress)
    assert small.shape == (2, 3, side, side)
    torch.testing.assert_close(small.mean(), images.mean(), atol=0.02, rtol=0)


def test_the_mean_cost_weighs_each_stage_by_its_share() -> None:
    cost = {20: 1.0, 24: 2.0, 32: 4.0}.__getitem__
    assert Progressive([20, 24], [0.2, 0.5]).mean(cost, 32) == pytest.approx(0.2 * 1 + 0.3 * 2 + 0.5 * 4)
    assert Progressive([], []).mean(cost, 32) == 4


def test_without_stages_images_stay_as_they_are() -> None:
    images = torch.randn(2, 3, 32, 32)
    assert Progressive([], [])(images, 0.0) is images


@pytest.mark.parametrize(("sizes", "until"), [([20], []), ([20, 24], [0.5, 0.5]), ([20, 24], [0.5, 0.2])])
def test_stages_that_cannot_be_are_a_sentence(sizes: list[int], until: list[float]) -> None:
    with pytest.raises(ValueError, match=r"progressive\.sizes .* needs as many ends, one after the other"):
        Progressive(sizes, until)
