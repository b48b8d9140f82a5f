"""The MLP of a block: (B, N, D) tokens and their grid -> (B, N, D), each by itself, or with its neighbours."""

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from hybrid_vit.models.layout import Grid, as_map, as_tokens


class MLP(nn.Module):
    """(B, N, D) -> (B, N, D): two linear layers around a GELU."""

    def __init__(self, dim: int, hidden_dim: int, *, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class ConvMLP(nn.Module):
    """(B, N, D) -> (B, N, D): an MLP with a depthwise convolution 3x3, BatchNorms, and a shortcut around the former.

    Prefix tokens have no neighbours. A small MLP computes a factor for each of their channels from the mean of the
    other tokens. This is the DAFF of DHVT, Lu et al. 2022 (arXiv 2210.05958). In training mode, its BatchNorms use the
    statistics of the whole batch.

    Args:
        num_prefix_tokens: number of tokens before the cells of the grid.
        drop: dropout at the end; before a BatchNorm it would shift its statistics (Li et al. 2019, arXiv 1801.05134).
    """

    def __init__(self, dim: int, hidden_dim: int, *, num_prefix_tokens: int = 0, drop: float = 0.0) -> None:
        super().__init__()
        self.num_prefix_tokens = num_prefix_tokens
        self.fc1 = Conv2dNormActivation(dim, hidden_dim, 1, activation_layer=nn.GELU, inplace=None)
        self.conv = Conv2dNormActivation(
            hidden_dim, hidden_dim, 3, groups=hidden_dim, activation_layer=nn.GELU, inplace=None
        )
        self.fc2 = Conv2dNormActivation(hidden_dim, dim, 1, activation_layer=None)
        if num_prefix_tokens:
            self.recalibration = nn.Sequential(nn.Linear(dim, dim // 4), nn.GELU(), nn.Linear(dim // 4, dim))
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        prefix, cells = x.split([self.num_prefix_tokens, grid[0] * grid[1]], dim=1)
        hidden = self.fc1(as_map(cells, grid))
        x = as_tokens(self.fc2(hidden + self.conv(hidden)))
        if self.num_prefix_tokens:
            x = torch.cat([prefix * self.recalibration(x.mean(dim=1, keepdim=True)), x], dim=1)
        return self.drop(x)
