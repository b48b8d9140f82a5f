"""Stems: shapes over depths and grids, what is derived, blocks against torchvision's, sentences for misfits."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, conv1x1

from hybrid_vit.models import ConvStem, MobileStem, PatchStem, ResNetStem, TokenizerStem
from hybrid_vit.models.stem import ResidualBlock


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


@pytest.mark.parametrize("grid", [4, 8, 16])
@pytest.mark.parametrize(
    ("stem", "options"),
    [
        (ConvStem, {"squeeze_excitation": True}),
        (ResNetStem, {}),
        (ResNetStem, {"depth": 5, "squeeze_excitation": True, "channels": [8, 8, 16, 24, 48]}),
        (MobileStem, {}),
        (MobileStem, {"depth": 4, "expand_ratio": 1}),
        (TokenizerStem, {}),
        (PatchStem, {"patch_size": 15}),
    ],
)
def test_every_stem_reaches_the_grid_and_trains_every_parameter(stem: Any, options: dict, grid: int) -> None:
    torch.manual_seed(0)
    net = stem(embed_dim=48, grid=grid, **options)
    y = net(torch.randn(4, 3, 32, 32))
    assert y.shape == (4, net.embed_dim, net.grid, net.grid) == (4, 48, grid, grid)
    assert net(torch.randn(2, 3, 64, 96)).shape == (2, 48, 2 * grid, 3 * grid)
    (y * torch.randn_like(y)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())


@pytest.mark.parametrize("squeeze_excitation", [False, True])
@pytest.mark.parametrize(("c_in", "c_out", "stride"), [(8, 8, 1), (8, 12, 1), (8, 8, 2)])
def test_a_residual_block_is_torchvisions(c_in: int, c_out: int, stride: int, squeeze_excitation: bool) -> None:
    torch.manual_seed(0)
    ours = ResidualBlock(c_in, c_out, stride, squeeze_excitation=squeeze_excitation)
    same = stride == 1 and c_in == c_out
    downsample = None if same else nn.Sequential(conv1x1(c_in, c_out, stride), nn.BatchNorm2d(c_out))
    theirs = BasicBlock(c_in, c_out, stride, downsample)
    if squeeze_excitation:
        theirs.bn2 = nn.Sequential(theirs.bn2, ours.conv[-1])
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(4, c_in, 8, 8)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_what_the_grid_does_not_need_is_a_stage_at_its_resolution() -> None:
    sizes: list[tuple[int, int]] = []
    stem = ResNetStem(embed_dim=48, grid=8, depth=5)
    for layer in stem:
        layer.register_forward_hook(lambda layer, inputs, y: sizes.append((y.shape[1], y.shape[2])))
    stem(torch.zeros(1, 3, 32, 32))
    assert sizes == [(48, 32), (48, 16), (48, 8), (48, 8), (48, 8)]
    assert [type(layer.shortcut) is nn.Identity for layer in [*stem][1:]] == [False, False, True, True]


def test_squeeze_and_excitation_scales_each_channel_by_what_all_of_it_says() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    stem = ConvStem(embed_dim=32, depth=1, squeeze_excitation=True)
    conv, norm, relu, gate = stem[0]
    y = relu(norm(conv(x)))
    squeezed = F.relu(F.linear(y.mean(dim=(2, 3)), gate.fc1.weight.flatten(1), gate.fc1.bias))
    excited = torch.sigmoid(F.linear(squeezed, gate.fc2.weight.flatten(1), gate.fc2.bias))
    assert gate.fc1.out_channels == 8
    torch.testing.assert_close(stem(x), y * excited[:, :, None, None])


def test_mobile_blocks_widen_by_their_ratio() -> None:
    stem = MobileStem(embed_dim=96, depth=4, channels=[16, 24, 24, 96], expand_ratio=6)
    blocks = [*stem][1:]
    assert all(isinstance(block, InvertedResidual) for block in blocks)
    assert [block.conv[0].out_channels for block in blocks] == [96, 144, 144]
    assert [block.use_res_connect for block in blocks] == [False, True, False]


@pytest.mark.parametrize(("grid", "channels"), [(16, [48]), (8, [64, 48]), (4, [64, 64, 48])])
def test_the_tokenizer_is_convolution_relu_and_max_pool(grid: int, channels: list[int]) -> None:
    torch.manual_seed(0)
    stem = TokenizerStem(embed_dim=48, grid=grid)
    x = torch.randn(2, 3, 32, 32)
    y = stem(x)
    for conv in convolutions(stem):
        x = F.max_pool2d(F.conv2d(x, conv.weight, padding=1).clamp(min=0), 3, stride=2, padding=1)
    torch.testing.assert_close(y, x)
    assert [conv.out_channels for conv in convolutions(stem)] == channels


@pytest.mark.parametrize("grid", [1, 4, 8, 16, 32])
def test_patch_stem_shape(grid: int) -> None:
    stem = PatchStem(embed_dim=12, grid=grid)
    assert stem.proj.kernel_size == stem.proj.stride == (32 // grid, 32 // grid)
    assert stem(torch.zeros(2, 3, 32, 32)).shape == (2, 12, grid, grid)


@pytest.mark.parametrize(("grid", "patch_size", "padding"), [(8, 7, 2), (16, 3, 1), (16, 4, 1), (8, 4, 0), (32, 3, 1)])
def test_larger_patches_overlap_as_in_cvt(grid: int, patch_size: int, padding: int) -> None:
    stem = PatchStem(embed_dim=12, grid=grid, patch_size=patch_size)
    assert (stem.proj.kernel_size[0], stem.proj.stride[0], stem.proj.padding[0]) == (patch_size, 32 // grid, padding)
    assert stem(torch.zeros(2, 3, 32, 32)).shape == (2, 12, grid, grid)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"depth": 2, "grid": 4}, r"stem\.grid 4 cannot be .*stem\.depth 2 .*stem\.depth=3 or stem\.grid=8"),
        ({"depth": 1, "grid": 8}, r"stem\.grid 8 cannot be .*stem\.depth=2 or stem\.grid=16"),
        ({"grid": 10}, r"stem\.grid 10 is not 32 pixels halved.*\[32, 16, 8, 4\]"),
        ({"grid": 64}, r"stem\.grid 64 must lie between 1 and the 32 pixels"),
        ({"grid": 0}, r"stem\.grid 0 must lie between 1"),
        ({"embed_dim": 0}, r"model\.embed_dim 0 must be positive"),
        ({"channels": [64, 192]}, r"stem\.channels \[64, 192\] must be 3 .*leave them out to get \[64, 128, 192\]"),
        ({"channels": [64, 128, 200]}, r"stem\.channels .* embed_dim 192; leave them out"),
        ({"channels": [64, 0, 192]}, r"stem\.channels .* positive"),
        ({"strides": [1, 1, 1]}, r"stem\.strides \[1, 1, 1\] .* give 32: leave stem\.strides out, or .*stem\.grid=32"),
        ({"strides": [2]}, r"stem\.strides \[2\] must be 3 numbers .*leave stem\.strides out, or set stem\.depth=1"),
    ],
)
def test_what_does_not_fit_is_a_sentence_with_the_remedy(arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ConvStem(**{"embed_dim": 192, **arguments})


@pytest.mark.parametrize(
    ("stem", "arguments", "sentence"),
    [
        (PatchStem, {"grid": 10}, r"stem\.grid 10 does not divide.*use a divisor"),
        (PatchStem, {"grid": 0}, r"stem\.grid 0 must lie between 1.*use a divisor"),
        (PatchStem, {"grid": 33}, r"stem\.grid 33 must lie between 1.*use a divisor"),
        (PatchStem, {"grid": 8, "patch_size": 3}, r"stem\.patch_size 3 .* 4 pixels .*use 4 \(or leave .* overlap 7"),
        (PatchStem, {"grid": 32, "patch_size": 2}, r"stem\.patch_size 2 .* odd .*use 1 .* overlap 3"),
        (PatchStem, {"patch_size": 0}, r"stem\.patch_size 0 must"),
        (
            TokenizerStem,
            {"grid": 10},
            r"stem\.grid 10 is not 32 pixels halved once or more; use one of \[16, 8, 4, 2, 1",
        ),
        (TokenizerStem, {"grid": 32}, r"stem\.grid 32 is not 32 pixels halved once"),
        (ResNetStem, {"grid": 4, "depth": 2}, r"stem\.grid 4 cannot be .*stem\.depth=3"),
        (MobileStem, {"grid": 4, "depth": 2}, r"stem\.grid 4 cannot be .*stem\.depth=3"),
        (MobileStem, {"channels": [8, 16, 24]}, r"stem\.channels .* embed_dim 12; leave them out"),
    ],
)
def test_what_does_not_fit_another_stem_is_a_sentence(stem: Any, arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        stem(embed_dim=12, **arguments)
