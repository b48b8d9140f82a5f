"""Stems: (B, 3, H, W) image -> (B, embed_dim, grid, grid) feature map whose cells become the tokens.

`ConvStem` is the early convolution of Xiao et al. 2021 (arXiv 2106.14881); `PatchStem` is the linear patch
embedding of Dosovitskiy et al. 2021 (arXiv 2010.11929), i.e. no convolutional prior at all.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation


class ConvStem(nn.Sequential):
    """Convolutions 3x3, each Conv(bias=False) -> BatchNorm -> ReLU: (B, 3, H, W) -> (B, embed_dim, grid, grid).

    What is left out is derived: channels double from 64 up to `embed_dim` (64-128-192), and the stride-2 layers
    follow a first layer at full resolution wherever the depth leaves room for one (1-2-1 for grid 16 of 32 pixels).

    Raises:
        ValueError: `grid` cannot be reached from `img_size` with `depth` layers of stride 1 or 2, or the given
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
    ) -> None:
        check_sizes(embed_dim, img_size, grid)
        if depth < 1:
            raise ValueError(f"stem.depth {depth} must be at least 1 layer, e.g. stem.depth=3")
        channels = list(channels or derive_channels(depth, embed_dim))
        strides = list(strides or derive_strides(depth, img_size, grid))
        if len(channels) != depth or channels[-1] != embed_dim or min(channels) < 1:
            raise ValueError(
                f"stem.channels {channels} must be {depth} positive numbers (stem.depth) ending in "
                f"embed_dim {embed_dim}; leave them out to get {derive_channels(depth, embed_dim)}"
            )
        if min(strides) < 1:
            raise ValueError(f"stem.strides {strides} must be positive; leave stem.strides out to derive them")
        size = img_size
        for stride in strides:
            size = (size - 1) // stride + 1
        if len(strides) != depth or size != grid:
            raise ValueError(
                f"stem.strides {strides} must be {depth} numbers (stem.depth) that take {img_size} pixels to "
                f"grid {grid}; they are {len(strides)} and give {size}: leave stem.strides out, or set "
                f"stem.depth={len(strides)} and stem.grid={size}"
            )
        layers = zip([3, *channels[:-1]], channels, strides, strict=True)
        super().__init__(*(Conv2dNormActivation(c_in, c_out, 3, stride) for c_in, c_out, stride in layers))
        self.embed_dim, self.grid = embed_dim, grid


class PatchStem(nn.Module):
    """Non-overlapping patches, projected linearly: (B, 3, H, W) -> (B, embed_dim, grid, grid).

    Raises:
        ValueError: `img_size` is not a multiple of `grid`.
    """

    def __init__(self, *, embed_dim: int, img_size: int = 32, grid: int = 16) -> None:
        super().__init__()
        check_sizes(embed_dim, img_size, grid)
        if img_size % grid:
            raise ValueError(f"stem.grid {grid} does not divide the image of {img_size} pixels; use a divisor of it")
        patch_size = img_size // grid
        self.proj = nn.Conv2d(3, embed_dim, patch_size, patch_size)
        self.embed_dim, self.grid = embed_dim, grid

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


def check_sizes(embed_dim: int, img_size: int, grid: int) -> None:
    """A width is positive, and a grid has between one cell and one cell a pixel."""
    if embed_dim < 1:
        raise ValueError(f"model.embed_dim {embed_dim} must be positive, e.g. model.embed_dim=192")
    if not 1 <= grid <= img_size:
        raise ValueError(f"stem.grid {grid} must lie between 1 and the {img_size} pixels of the image; use a divisor")


def derive_channels(depth: int, embed_dim: int) -> list[int]:
    """64, 128, ... doubling but never above `embed_dim`, which is the last of the `depth` numbers."""
    return [min(64 * 2**i, embed_dim) for i in range(depth - 1)] + [embed_dim]


def derive_strides(depth: int, img_size: int, grid: int) -> list[int]:
    """One stride per layer, 1 or 2, whose product is img_size / grid."""
    halvings = (img_size // grid).bit_length() - 1
    if grid * 2**halvings != img_size:
        reachable = [img_size >> k for k in range(depth + 1) if not img_size % 2**k]
        raise ValueError(f"stem.grid {grid} is not {img_size} pixels halved; with depth {depth} use one of {reachable}")
    if halvings > depth:
        raise ValueError(
            f"stem.grid {grid} cannot be reached from {img_size} pixels with stem.depth {depth} (each layer halves at "
            f"most once); use stem.depth={halvings} or stem.grid={img_size >> depth}"
        )
    full = min(1, depth - halvings)
    return [1] * full + [2] * halvings + [1] * (depth - halvings - full)
