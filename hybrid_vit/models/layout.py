"""Layout: tokens (B, h * w, C) and a feature map (B, C, h, w) of the same numbers, without a copy.

Both permute a channels-last tensor. `flatten` and `transpose`, which say the same, give a batch of one image strides
with which the BatchNorm of torch 2.14 on a CPU computes wrong gradients (`tests/models/test_one_image.py`).
"""

from torch import Tensor

Grid = tuple[int, int]  # rows and columns of the cells that are tokens


def as_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)"""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_map(x: Tensor, grid: Grid) -> Tensor:
    """(B, h * w, C) -> (B, C, h, w)"""
    return x.unflatten(1, grid).permute(0, 3, 1, 2)
