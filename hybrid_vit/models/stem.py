"""Stems: (B, 3, H, W) image -> (B, embed_dim, h, w) feature map whose cells become the tokens.

`img_size` and `grid` say by how much a stem shrinks: an image of img_size x img_size pixels becomes grid x grid cells,
and one of any other height and width as many as the strides give.

`PatchStem` is the linear patch embedding of Dosovitskiy et al. 2021 (arXiv 2010.11929), i.e. no convolutional prior at
all, unless its patches overlap (CvT, Wu et al. 2021, arXiv 2103.15808). `ConvStem` is the early convolution of Xiao et
al. 2021 (arXiv 2106.14881) without their last 1x1 convolution, `TokenizerStem` that of CCT. `ResNetStem` and
`MobileStem` are built of blocks; those after the last stride are a convolution stage at the grid's resolution (CoAtNet,
Dai et al. 2021, arXiv 2106.04803).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation

from hybrid_vit.models.whitened_stem import WhitenedStem
from hybrid_vit.utils.limits import halvings, patches, plan


class ConvStem(nn.Sequential):
    """Convolutions 3x3, each Conv(bias=False) -> BatchNorm -> ReLU: (B, 3, H, W) -> (B, embed_dim, h, w).

    What is left out is derived: channels double from 64 up to `embed_dim` (64-128-192), and the stride-2 layers
    follow a first layer at full resolution wherever the depth allows one (1-2-1 for grid 16 of 32 pixels).
    With `squeeze_excitation` one ends each layer.

    Raises:
        UserError: `grid` cannot be reached from `img_size` with `depth` layers of stride 1 or 2, or the given
            `channels` or `strides` contradict `depth`, `embed_dim` or `grid`.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        img_size: int = 32,
        grid: int = 16,
        depth: int = 3,
        channels: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        squeeze_excitation: bool = False,
    ) -> None:
        layers = []
        for c_in, c_out, stride in plan(embed_dim, img_size, grid, depth, channels, strides):
            layers.append(Conv2dNormActivation(c_in, c_out, 3, stride))
            if squeeze_excitation:
                layers[-1].append(recalibration(c_out))
        super().__init__(*layers)
        self.embed_dim, self.grid = embed_dim, grid


class ResNetStem(nn.Sequential):
    """A convolution as `ConvStem`'s, then depth - 1 residual blocks: (B, 3, H, W) -> (B, embed_dim, h, w).

    Channels and strides are derived as `ConvStem`'s. He et al. 2016 (arXiv 1512.03385).

    Raises:
        UserError: as `ConvStem`.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        img_size: int = 32,
        grid: int = 16,
        depth: int = 3,
        channels: Sequence[int] | None = None,
        squeeze_excitation: bool = False,
    ) -> None:
        (c_in, c_out, stride), *blocks = plan(embed_dim, img_size, grid, depth, channels)
        super().__init__(
            Conv2dNormActivation(c_in, c_out, 3, stride),
            *(ResidualBlock(*block, squeeze_excitation=squeeze_excitation) for block in blocks),
        )
        self.embed_dim, self.grid = embed_dim, grid


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut around them: (B, c_in, H, W) -> (B, c_out, H / stride, W / stride).

    As torchvision's `BasicBlock`, which has no place for squeeze-and-excitation before its sum.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, *, squeeze_excitation: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            Conv2dNormActivation(c_in, c_out, 3, stride), Conv2dNormActivation(c_out, c_out, 3, activation_layer=None)
        )
        if squeeze_excitation:
            self.conv.append(recalibration(c_out))
        same = stride == 1 and c_in == c_out
        self.shortcut = nn.Identity() if same else Conv2dNormActivation(c_in, c_out, 1, stride, activation_layer=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.conv(x))


class MobileStem(nn.Sequential):
    """A convolution, then depth - 1 inverted residual blocks: (B, 3, H, W) -> (B, embed_dim, h, w).

    Each block widens its channels `expand_ratio` times for a depthwise convolution and ends linearly. Channels and
    strides are derived as `ConvStem`'s. MobileNetV2, Sandler et al. 2018 (arXiv 1801.04381).

    Raises:
        UserError: as `ConvStem`.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        img_size: int = 32,
        grid: int = 16,
        depth: int = 3,
        channels: Sequence[int] | None = None,
        expand_ratio: int = 4,
    ) -> None:
        (c_in, c_out, stride), *blocks = plan(embed_dim, img_size, grid, depth, channels)
        super().__init__(
            Conv2dNormActivation(c_in, c_out, 3, stride, activation_layer=nn.ReLU6),
            *(InvertedResidual(*block, expand_ratio) for block in blocks),
        )
        self.embed_dim, self.grid = embed_dim, grid


class TokenizerStem(nn.Sequential):
    """As many layers as the grid needs, each Conv 3x3 -> ReLU -> MaxPool: (B, 3, H, W) -> (B, embed_dim, h, w).

    Each halves; there are no biases and no norms, and 64 channels before the last layer. Hassani et al. 2021
    (arXiv 2104.05704).

    Raises:
        UserError: `grid` is not `img_size` halved once or more.
    """

    def __init__(self, *, embed_dim: int, img_size: int = 32, grid: int = 16) -> None:
        depth = halvings(embed_dim, img_size, grid)
        channels = [3, *[64] * (depth - 1), embed_dim]
        super().__init__(
            *(
                nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
                for c_in, c_out in pairwise(channels)
            )
        )
        self.embed_dim, self.grid = embed_dim, grid


class PatchStem(nn.Module):
    """Patches, projected linearly: (B, 3, H, W) -> (B, embed_dim, h, w).

    Args:
        patch_size: side in pixels; left out, that of a cell. Larger patches overlap.

    Raises:
        UserError: `img_size` is not a multiple of `grid`, or the patches leave pixels out or cannot be centred.
    """

    def __init__(self, *, embed_dim: int, img_size: int = 32, grid: int = 16, patch_size: int | None = None) -> None:
        super().__init__()
        stride, patch_size = patches(embed_dim, img_size, grid, patch_size)
        self.proj = nn.Conv2d(3, embed_dim, patch_size, stride, padding=(patch_size - stride + 1) // 2)
        self.embed_dim, self.grid = embed_dim, grid

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


Stem = ConvStem | ResNetStem | MobileStem | TokenizerStem | PatchStem | WhitenedStem


def recalibration(channels: int) -> SqueezeExcitation:
    """Squeeze-and-excitation to a 16th of the channels, but at least 8. Hu et al. 2018 (arXiv 1709.01507)."""
    return SqueezeExcitation(channels, max(channels // 16, 8))  # with fewer, all may be dead in their ReLU
