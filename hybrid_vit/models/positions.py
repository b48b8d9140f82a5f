"""Positions: a grid -> a fixed embedding of its cells, or a learned bias of the attention between each two of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RelPosBias(nn.Module):
    """() -> (1, heads, N, N): what attention scores gain by the displacement between two of grid x grid cells.

    Prefix tokens come first, have no place and get none. Swin, Liu et al. 2021 (arXiv 2103.14030).
    """

    relative_position_index: Tensor

    def __init__(self, grid: int, num_heads: int, *, num_prefix_tokens: int = 0) -> None:
        super().__init__()
        self.num_prefix_tokens = num_prefix_tokens
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * grid - 1) ** 2, num_heads))
        row, column = torch.arange(grid**2) // grid, torch.arange(grid**2) % grid
        down, right = row[:, None] - row + grid - 1, column[:, None] - column + grid - 1
        self.register_buffer("relative_position_index", down * (2 * grid - 1) + right, persistent=False)

    def forward(self) -> Tensor:
        bias = F.embedding(self.relative_position_index, self.relative_position_bias_table).permute(2, 0, 1)
        return F.pad(bias, (self.num_prefix_tokens, 0, self.num_prefix_tokens, 0))[None]


def sincos_2d(grid: int, dim: int, num_prefix: int = 0) -> Tensor:
    """(1, num_prefix + grid*grid, dim): sine and cosine of row and column, a quarter each; prefix tokens get zeros.

    Chen et al. 2021 (arXiv 2104.02057).
    """
    if dim % 4:
        raise ValueError(f"pos_embed=sincos needs embed_dim divisible by 4, not {dim}; use {dim // 4 * 4 + 4}")
    frequency = 10000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    angle = torch.arange(grid)[:, None] * frequency
    row, column = angle.repeat_interleave(grid, dim=0), angle.repeat(grid, 1)
    table = torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], dim=1)
    return torch.cat([torch.zeros(num_prefix, dim), table])[None]
