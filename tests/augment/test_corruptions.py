"""Noise, blur and fog: strength 0 is the image itself, other strengths are the formulas."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.augment import Draw
from hybrid_vit.augment.corruptions import blur, fog, noise, plasma


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_strength_0_changes_nothing_and_no_input_is_changed(images: Tensor) -> None:
    before = images.clone()
    for corrupted in (noise(images, 0, Draw(0, 4)), blur(images, 0), fog(images, 0, Draw(0, 4))):
        assert torch.equal(corrupted, images) and corrupted is not images
    for corrupted in (noise(images, 0.1, Draw(0, 4)), blur(images, 1), fog(images, 1, Draw(0, 4))):
        assert corrupted.dtype == torch.uint8 and corrupted.shape == images.shape and not torch.equal(corrupted, images)
    assert torch.equal(images, before)
    black = torch.zeros_like(images)
    assert torch.equal(fog(black, 0, Draw(0, 4)), black)


def test_noise_has_the_standard_deviation_and_grows_with_it() -> None:
    grey = torch.full((8, 3, 64, 64), 128, dtype=torch.uint8)
    added = noise(grey, 0.1, Draw(3, 8)).float() - 128
    assert float(added.mean()) == pytest.approx(0, abs=0.3)
    assert float(added.std()) == pytest.approx(25.5, rel=0.02)
    twice = noise(grey, 0.05, Draw(3, 8)).float() - 128
    assert float((added - 2 * twice).abs().max()) <= 2  # the same noise, so that a slider moves without a jump


def test_blur_is_torchvisions(images: Tensor) -> None:
    assert torch.equal(blur(images, 1.2), TF.gaussian_blur(images, [9, 9], [1.2, 1.2]))
    assert blur(images[..., :3, :3], 4).shape == (4, 3, 3, 3)  # no wider than the image


def test_fog_is_the_formula_and_keeps_the_brightest_value(images: Tensor) -> None:
    for height, width in ((32, 32), (20, 30)):
        part = images[..., :height, :width]
        clouds = plasma(max(height, width), Draw(5, 4))[:, None, :height, :width]
        values = part / 255
        brightest = values.amax(dim=(1, 2, 3), keepdim=True)
        expected = (values + 1.5 * clouds) * brightest / (brightest + 1.5) * 255
        assert float((fog(part, 1.5, Draw(5, 4)) - expected).abs().max()) <= 0.51
        assert bool((fog(part, 1.5, Draw(5, 4)).amax(dim=(1, 2, 3)) <= part.amax(dim=(1, 2, 3))).all())


def test_clouds_are_smooth_seamless_and_of_any_size() -> None:
    for size, side in ((1, 1), (2, 2), (20, 32), (32, 32), (33, 64)):
        clouds = plasma(size, Draw(1, 5))
        assert clouds.shape == (5, side, side)
        assert float(clouds.min()) == 0 and float(clouds.max()) == pytest.approx(float(side > 1))
    clouds = plasma(64, Draw(2, 16))
    across = {step: float((clouds - clouds.roll(step, 2)).square().mean()) for step in (1, 8, 32)}
    assert across[1] < across[8] < across[32]
    seam = (clouds[..., 0] - clouds[..., -1]).square().mean() / across[1]
    assert 0.5 < float(seam) < 2
    assert not torch.equal(clouds[0], clouds[1])
