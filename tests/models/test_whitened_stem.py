"""The whitened stem: white patches, the identity at the start, sizes, sentences for misfits."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid_vit.fast.accelerator import choose
from hybrid_vit.models import ConvBlock, WhitenedStem, WhiteningConv, hybrid_vit


def smooth_images(n: int = 64) -> Tensor:
    """Neighbouring pixels and channels are correlated, as in photographs."""
    noise = torch.randn(n, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise + noise.mean(dim=1, keepdim=True), (32, 32), mode="bilinear")


def test_whitened_patches_have_no_correlation_and_variance_one() -> None:
    images, conv = smooth_images(), WhiteningConv(2)
    conv.init_weights()
    conv.whiten(images, eps=0.0)
    with torch.no_grad():
        # As many patches as the kernels were computed from: those that do not overlap.
        white = conv(images)[:, :, ::2, ::2]
    half = white.shape[1] // 2
    torch.testing.assert_close(white[:, :half], -white[:, half:])
    torch.testing.assert_close(white[:, :half].transpose(0, 1).flatten(1).cov(), torch.eye(half), atol=5e-3, rtol=0)


def test_images_of_one_colour_leave_finite_kernels() -> None:
    conv = WhiteningConv(2)
    conv.whiten(torch.zeros(4, 3, 8, 8))
    assert conv.weight.isfinite().all()


def test_kernels_stay_as_they_are_and_the_bias_is_trained() -> None:
    stem = WhitenedStem(embed_dim=16, grid=7)
    stem(torch.randn(2, 3, 32, 32)).sum().backward()
    assert {name for name, value in stem.named_parameters() if not value.requires_grad} == {"white.weight"}
    assert stem.white.bias.grad.any()


@pytest.mark.parametrize(
    ("grid", "image", "patch", "channels"),
    [(15, 32, 2, [48]), (7, 32, 2, [48, 48]), (3, 32, 2, [48, 48, 48]), (8, 32, 2, [48, 48]), (15, 64, 4, [48, 48])],
)
def test_each_group_halves(grid: int, image: int, patch: int, channels: list[int]) -> None:
    stem = WhitenedStem(embed_dim=48, img_size=image, grid=grid, patch_size=patch)
    assert [group.residual[0].out_channels for group in stem.groups] == channels
    assert stem(torch.zeros(2, 3, image, image)).shape == (2, 48, grid, grid)


def test_the_first_group_is_narrow_unless_channels_say_otherwise() -> None:
    for channels, expected in ((None, [64, 96]), ([32, 96], [32, 96])):
        stem = WhitenedStem(embed_dim=96, channels=channels)
        assert [group.residual[0].out_channels for group in stem.groups] == expected


def test_a_group_has_as_many_residual_convolutions_as_asked() -> None:
    torch.manual_seed(0)
    stem = WhitenedStem(embed_dim=32, channels=[16, 32], depths=[1, 3]).eval()
    assert [1 + len(group.further) for group in stem.groups] == [1, 3]
    plain = WhitenedStem(embed_dim=32, channels=[16, 32]).eval()
    assert stem.state_dict().keys() > plain.state_dict().keys()  # those of before keep their names
    group, x = stem.groups[1], torch.randn(2, 16, 14, 14)
    expected = group.halving(x)
    for conv, norm, act in (group.residual, *group.further):
        expected = expected + act(norm(conv(expected)))
    torch.testing.assert_close(group(x), expected)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"grid": 9}, r"stem\.grid 9 is not 32 pixels whitened in patches of 2 and halved; use one of \[16, 15, 8, "),
        ({"channels": [64]}, r"stem\.channels \[64\] must be 2 positive numbers.*leave them out to get \[64, 96\]"),
        ({"channels": [64, 64]}, r"ending in embed_dim 96"),
        ({"depths": [2]}, r"stem\.depths \[2\] must be 2 positive numbers.*leave them out to get \[1, 1\]"),
        ({"depths": [2, 0]}, r"stem\.depths \[2, 0\] must be 2 positive numbers"),
        ({"embed_dim": 0}, r"model\.embed_dim 0 must be positive"),
    ],
)
def test_misfits_are_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        WhitenedStem(**{"embed_dim": 96, **arguments})


@pytest.mark.parametrize("block", ["attention", "conv"])
def test_a_model_begins_with_identity_kernels_and_trains(block: Any) -> None:
    torch.manual_seed(0)
    net = hybrid_vit(
        stem=WhitenedStem(embed_dim=32),
        num_classes=4,
        embed_dim=32,
        depth=2,
        mlp="conv",
        init_values=0.3,
        pool="maxmean",
        block=block,
    )
    group = net.patch_embed.groups[1]
    identity = torch.zeros(32, 32, 3, 3)
    nn.init.dirac_(identity)
    for conv in (group.halving[0], group.residual[0]):
        torch.testing.assert_close(conv.weight, identity)
    logits = net(torch.randn(2, 3, 40, 24))  # positions of another grid
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert all(parameter.grad is not None for parameter in net.parameters() if parameter.requires_grad)


def test_a_convolution_block_is_a_residual_convolution() -> None:
    torch.manual_seed(0)
    block = ConvBlock(8)
    conv, norm, act = block.conv
    nn.init.normal_(conv.weight)
    tokens = torch.randn(2, 12, 8)
    grid = tokens.transpose(1, 2).reshape(2, 8, 3, 4)
    expected = (grid + act(norm(conv(grid)))).flatten(2).transpose(1, 2)
    torch.testing.assert_close(block(tokens, (3, 4)), expected)


def test_convolution_blocks_have_no_place_for_a_class_token() -> None:
    with pytest.raises(ValueError, match=r"model\.block=conv has no place for a class token.*use model\.pool=mean"):
        hybrid_vit(stem=WhitenedStem(embed_dim=32), num_classes=4, embed_dim=32, depth=1, block="conv")


def test_a_model_of_convolution_blocks_is_set_up_for_a_machine() -> None:
    torch.manual_seed(0)
    stem = WhitenedStem(embed_dim=32)
    net = hybrid_vit(stem=stem, num_classes=4, embed_dim=32, depth=1, pool="maxmean", block="conv").eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = net(images)
        choose("cpu", precision="32-true", shards=2).tune(net)
        torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-5)
