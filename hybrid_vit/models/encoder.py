"""The transformer encoder: (B, N, D) tokens -> (B, N, D) tokens through pre-norm blocks, in timm's vocabulary.

Blocks also get the grid (h, w): the last h * w of the N tokens are its cells.
Dosovitskiy et al. 2021 (arXiv 2010.11929).
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from hybrid_vit.models.layout import Grid, as_map, as_tokens
from hybrid_vit.models.mlp import MLP, ConvMLP
from hybrid_vit.models.positions import RelPosBias
from hybrid_vit.models.whitened_stem import IdentityConv
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.limits import derive_heads

Norm = Literal["layer", "rms"]


class RMSNorm(nn.RMSNorm):
    """Zhang and Sennrich 2019 (arXiv 1910.07467), in its weight's precision, whatever autocast does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


# timm's eps; its checkpoints give their own logits only with it
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": partial(nn.LayerNorm, eps=1e-6),
    "rms": partial(RMSNorm, eps=1e-6),
}


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) -> (B, N, D).

    Args:
        qk_norm: makes a norm of the head's width, for queries and for keys (Dehghani et al. 2023, arXiv 2302.05442).
        rel_pos: (h, w) -> (1, heads, N, N), added to the scores.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        qk_norm: Callable[[int], nn.Module] | None = None,
        rel_pos: RelPosBias | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.q_norm = qk_norm(dim // num_heads) if qk_norm else nn.Identity()
        self.k_norm = qk_norm(dim // num_heads) if qk_norm else nn.Identity()
        self.rel_pos = rel_pos
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        bias = None if self.rel_pos is None else self.rel_pos(grid).to(v.dtype)
        dropout = self.attn_drop.p if self.training else 0.0
        x = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v, attn_mask=bias, dropout_p=dropout)
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(B, N, D)))


class LayerScale(nn.Module):
    """(B, N, D) -> (B, N, D): a learned factor a channel. Touvron et al. 2021 (arXiv 2103.17239)."""

    def __init__(self, dim: int, init_values: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init_values))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block, (B, N, D) -> (B, N, D); each residual branch is dropped per sample.

    With `init_values` each branch ends in a layer scale that starts there.
    """

    def __init__(
        self,
        dim: int,
        *,
        attn: Attention,
        mlp: MLP | ConvMLP,
        norm_layer: Callable[[int], nn.Module] = NORMS["layer"],
        init_values: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = attn
        self.ls1 = LayerScale(dim, init_values) if init_values else nn.Identity()
        self.norm2 = norm_layer(dim)
        self.mlp = mlp
        self.ls2 = LayerScale(dim, init_values) if init_values else nn.Identity()
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x), grid)))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x), grid)))


class ConvBlock(nn.Module):
    """A residual convolution 3x3 in place of a transformer block, (B, N, D) -> (B, N, D); no token but the grid's."""

    def __init__(self, dim: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Sequential(IdentityConv(dim, dim), nn.BatchNorm2d(dim), nn.SiLU())
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        return x + self.drop_path(as_tokens(self.conv(as_map(x, grid))))


class Encoder(nn.Sequential):
    """`depth` blocks, (B, N, embed_dim) -> (B, N, embed_dim); drop-path rises linearly from 0 to `drop_path_rate`.

    The other options are those of `Attention`, `ConvMLP` and `Block`.

    Args:
        mlp: "linear" (`MLP`) or "conv" (`ConvMLP`).
        block: "attention" (`Block`) or "conv" (`ConvBlock`, which takes none of the other options but `drop_path_rate`
            and shows what the attention is worth).
        rel_pos_bias: whether each layer has a `RelPosBias`.
        num_prefix_tokens: tokens before the cells; only `ConvMLP` and `RelPosBias` need to know.
        grid: side of the grid that tables of `RelPosBias` are for.

    Raises:
        UserError: `embed_dim` is not divisible by `num_heads` (or by 32, when heads are derived from it).
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        norm: Norm = "layer",
        qk_norm: bool = False,
        init_values: float | None = None,
        mlp: Literal["linear", "conv"] = "linear",
        block: Literal["attention", "conv"] = "attention",
        rel_pos_bias: bool = False,
        num_prefix_tokens: int = 0,
        grid: int = 0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        if depth < 1:
            raise UserError(f"model.depth {depth} must be 1 or more")
        if block == "conv" and num_prefix_tokens:
            remedy = "use model.pool=mean model.reg_tokens=0"
            raise UserError(f"model.block=conv has no place for a class token or registers; {remedy}")
        heads = derive_heads(embed_dim, num_heads) if block == "attention" else 1
        hidden_dim, norm_layer = int(embed_dim * mlp_ratio), NORMS[norm]

        def make(rate: float) -> Block | ConvBlock:
            if block == "conv":
                return ConvBlock(embed_dim, drop_path=rate)
            attn = Attention(
                embed_dim,
                heads,
                qkv_bias=qkv_bias,
                qk_norm=norm_layer if qk_norm else None,
                rel_pos=RelPosBias(grid, heads, num_prefix_tokens=num_prefix_tokens) if rel_pos_bias else None,
                attn_drop=attn_drop_rate,
                proj_drop=proj_drop_rate,
            )
            perceptron: MLP | ConvMLP
            if mlp == "linear":
                perceptron = MLP(embed_dim, hidden_dim, drop=proj_drop_rate)
            else:
                perceptron = ConvMLP(embed_dim, hidden_dim, num_prefix_tokens=num_prefix_tokens, drop=proj_drop_rate)
            return Block(
                embed_dim,
                attn=attn,
                mlp=perceptron,
                norm_layer=norm_layer,
                init_values=init_values,
                drop_path=rate,
            )

        rates = torch.linspace(0, drop_path_rate, depth).tolist() if depth != 1 else [drop_path_rate]
        super().__init__(*map(make, rates))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:  # type: ignore[override]
        for block in self:
            x = block(x, grid)
        return x
