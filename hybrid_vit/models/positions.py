"""Positions: a grid -> an embedding of its cells, or a learned bias of the attention between each two of them.

Both belong to the square grid that a model is trained on, and are interpolated for any other.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid_vit.models.layout import Grid, as_map, as_tokens
from hybrid_vit.utils.errors import UserError


class RelPosBias(nn.Module):
    """(h, w) -> (1, heads, N, N): what attention scores gain by the displacement between two cells.

    Prefix tokens come first, have no place and get none. Swin, Liu et al. 2021 (arXiv 2103.14030).

    Args:
        grid: side of the grid that its table is for.
    """

    relative_position_index: Tensor

    def __init__(self, grid: int, num_heads: int, *, num_prefix_tokens: int = 0) -> None:
        super().__init__()
        self.grid, self.num_prefix_tokens = (grid, grid), num_prefix_tokens
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * grid - 1) ** 2, num_heads))
        self.register_buffer("relative_position_index", displacements(self.grid), persistent=False)

    def forward(self, grid: Grid) -> Tensor:
        (h, w), (rows, columns) = self.grid, grid
        table = self.relative_position_bias_table[None]
        table = resized(table, (2 * h - 1, 2 * w - 1), (2 * rows - 1, 2 * columns - 1))[0]
        index = self.relative_position_index if grid == self.grid else displacements(grid).to(table.device)
        bias = F.embedding(index, table).permute(2, 0, 1)
        return F.pad(bias, (self.num_prefix_tokens, 0, self.num_prefix_tokens, 0))[None]


def sincos_2d(grid: int, dim: int, num_prefix: int = 0) -> Tensor:
    """(1, num_prefix + grid*grid, dim): sine and cosine of row and column, a quarter each; prefix tokens get zeros.

    Chen et al. 2021 (arXiv 2104.02057).
    """
    if dim % 4:
        raise UserError(f"pos_embed=sincos needs embed_dim divisible by 4, not {dim}; use {dim // 4 * 4 + 4}")
    frequency = 10000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    angle = torch.arange(grid)[:, None] * frequency
    row, column = angle.repeat_interleave(grid, dim=0), angle.repeat(grid, 1)
    table = torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], dim=1)
    return torch.cat([torch.zeros(num_prefix, dim), table])[None]


def displacements(grid: Grid) -> Tensor:
    """(h, w) -> (h * w, h * w) int64: from cell to cell, one of (2h - 1) x (2w - 1), numbered row by row."""
    h, w = grid
    row, column = torch.arange(h * w) // w, torch.arange(h * w) % w
    down, right = row[:, None] - row + h - 1, column[:, None] - column + w - 1
    return down * (2 * w - 1) + right


def resized(table: Tensor, trained: Grid, grid: Grid) -> Tensor:
    """(1, prefix + cells of `trained`, D) -> (1, prefix + cells of `grid`, D), bicubic; the prefix stays."""
    if grid == trained:
        return table
    n = trained[0] * trained[1]
    prefix, cells = table.split([table.shape[1] - n, n], dim=1)
    image = as_map(cells, trained).float()  # a CPU has no bf16 kernel for it
    if image.device.type == "mps":  # before torch 2.13 it has no gradient of this
        image = image.cpu()
    cells = as_tokens(F.interpolate(image, grid, mode="bicubic", antialias=True)).to(table)
    return torch.cat([prefix, cells], dim=1)
