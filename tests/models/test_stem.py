"""Stems: shapes over depths and grids, what is derived, and the sentences for what does not fit."""

import pytest
import torch
from torch import nn

from hybrid_vit.models import ConvStem, PatchStem


def convolutions(stem: nn.Module) -> list[nn.Conv2d]:
    return [module for module in stem.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize(
    ("depth", "grid", "strides"),
    [
        (2, 16, [1, 2]),
        (2, 8, [2, 2]),
        (3, 16, [1, 2, 1]),
        (3, 8, [1, 2, 2]),
        (3, 4, [2, 2, 2]),
        (4, 16, [1, 2, 1, 1]),
        (4, 8, [1, 2, 2, 1]),
        (4, 4, [1, 2, 2, 2]),
        (1, 32, [1]),
    ],
)
def test_depth_and_grid_give_strides_and_shape(depth: int, grid: int, strides: list[int]) -> None:
    stem = ConvStem(embed_dim=48, depth=depth, grid=grid)
    assert [conv.stride for conv in convolutions(stem)] == [(s, s) for s in strides]
    assert (stem.embed_dim, stem.grid) == (48, grid)
    assert stem(torch.zeros(2, 3, 32, 32)).shape == (2, 48, grid, grid)


@pytest.mark.parametrize(
    ("depth", "embed_dim", "channels"),
    [
        (2, 192, [64, 192]),
        (3, 192, [64, 128, 192]),
        (3, 384, [64, 128, 384]),
        (4, 192, [64, 128, 192, 192]),
        (4, 384, [64, 128, 256, 384]),
        (3, 96, [64, 96, 96]),
        (2, 32, [32, 32]),
    ],
)
def test_channels_double_up_to_the_width(depth: int, embed_dim: int, channels: list[int]) -> None:
    convs = convolutions(ConvStem(embed_dim=embed_dim, depth=depth))
    assert [conv.out_channels for conv in convs] == channels
    assert [conv.in_channels for conv in convs] == [3, *channels[:-1]]


def test_each_layer_is_an_unbiased_convolution_a_norm_and_a_relu() -> None:
    stem = ConvStem(embed_dim=32, depth=2)
    for layer in stem:
        assert [type(part) for part in layer] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
        assert layer[0].bias is None
        assert layer[0].kernel_size == (3, 3)
    assert stem(torch.randn(2, 3, 32, 32)).min() == 0


def test_given_channels_and_strides_are_taken() -> None:
    stem = ConvStem(embed_dim=24, grid=8, depth=3, channels=[16, 8, 24], strides=[2, 1, 2])
    assert [conv.out_channels for conv in convolutions(stem)] == [16, 8, 24]
    assert [conv.stride[0] for conv in convolutions(stem)] == [2, 1, 2]


def test_strides_other_than_two_reach_grids_that_halving_cannot() -> None:
    stem = ConvStem(embed_dim=8, grid=11, depth=2, strides=[1, 3])
    assert stem(torch.zeros(1, 3, 32, 32)).shape == (1, 8, 11, 11)


@pytest.mark.parametrize("grid", [1, 4, 8, 16, 32])
def test_patch_stem_shape(grid: int) -> None:
    stem = PatchStem(embed_dim=12, grid=grid)
    assert stem.proj.kernel_size == stem.proj.stride == (32 // grid, 32 // grid)
    assert stem(torch.zeros(2, 3, 32, 32)).shape == (2, 12, grid, grid)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"depth": 2, "grid": 4}, r"stem\.grid 4 cannot be .*stem\.depth 2 .*stem\.depth=3 or stem\.grid=8"),
        ({"depth": 1, "grid": 8}, r"stem\.grid 8 cannot be .*stem\.depth=2 or stem\.grid=16"),
        ({"grid": 10}, r"stem\.grid 10 is not 32 pixels halved.*\[32, 16, 8, 4\]"),
        ({"grid": 64}, r"stem\.grid 64 must lie between 1 and the 32 pixels"),
        ({"grid": 0}, r"stem\.grid 0 must lie between 1"),
        ({"depth": 0}, r"stem\.depth 0 must be at least 1"),
        ({"depth": -1}, r"stem\.depth -1 must be at least 1"),
        ({"embed_dim": 0}, r"model\.embed_dim 0 must be positive"),
        ({"channels": [64, 192]}, r"stem\.channels \[64, 192\] must be 3 .*leave them out to get \[64, 128, 192\]"),
        ({"channels": [64, 128, 200]}, r"stem\.channels .* embed_dim 192; leave them out"),
        ({"channels": [64, 0, 192]}, r"stem\.channels .* positive"),
        ({"strides": [1, 1, 1]}, r"stem\.strides \[1, 1, 1\] .* give 32: leave stem\.strides out, or .*stem\.grid=32"),
        ({"strides": [2]}, r"stem\.strides \[2\] must be 3 numbers .*leave stem\.strides out, or set stem\.depth=1"),
        ({"strides": [1, 0, 2]}, r"stem\.strides \[1, 0, 2\] must be positive; leave stem\.strides out"),
    ],
)
def test_what_does_not_fit_is_a_sentence_with_the_remedy(arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ConvStem(**{"embed_dim": 192, **arguments})


@pytest.mark.parametrize(("grid", "sentence"), [(10, "does not divide"), (0, "between 1"), (33, "between 1")])
def test_a_patch_grid_that_does_not_divide_is_a_sentence(grid: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=rf"stem\.grid {grid} .*{sentence}.*use a divisor"):
        PatchStem(embed_dim=12, grid=grid)
