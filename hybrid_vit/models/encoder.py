"""The transformer encoder: (B, N, D) tokens -> (B, N, D) tokens through pre-norm blocks, in timm's vocabulary.

Dosovitskiy et al. 2021 (arXiv 2010.11929).
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid_vit.models.dropout import Dropout, DropPath

HEAD_DIM = 32
NORM_EPS = 1e-6  # timm's; its checkpoints give their own logits only with it
AttentionPath = Literal["auto", "fused", "explicit"]


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) -> (B, N, D).

    `path` chooses between two exact implementations: "fused" (`scaled_dot_product_attention`) and "explicit" (the
    matrix products written out). "auto" takes the explicit one for bf16 on a CPU, where the fused
    backward is slower, and the fused one elsewhere. While `record` is set, the weights (B, heads, N, N) are handed to
    it, and the path is the explicit one; so it is for attention dropout outside CUDA, which has no fused form there.
    With `first` only that many first tokens attend, to all: (B, N, D) -> (B, first, D).
    """

    def __init__(
        self, dim: int, num_heads: int, *, qkv_bias: bool = True, attn_drop: float = 0.0, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = Dropout(proj_drop)
        self.path: AttentionPath = "auto"
        self.record: Callable[[Tensor], None] | None = None

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        q = q[:, :, :first]
        if self._explicit(q):
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            weights = scores.softmax(dim=-1).to(v.dtype)  # inside in fp32, whatever the type
            if self.record is not None:
                self.record(weights)
            x = self.attn_drop(weights) @ v
        else:
            x = F.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop.p if self.training else 0.0)
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(B, -1, D)))

    def _explicit(self, q: Tensor) -> bool:
        dropping = self.training and self.attn_drop.p > 0 and q.device.type != "cuda"
        if self.record is not None or dropping or self.path != "auto":
            return self.record is not None or dropping or self.path == "explicit"
        return q.device.type == "cpu" and q.dtype == torch.bfloat16


class MLP(nn.Module):
    """(B, N, D) -> (B, N, D): two linear layers around a GELU."""

    def __init__(self, dim: int, hidden_dim: int, *, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.drop1 = Dropout(drop)
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop2 = Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class Block(nn.Module):
    """Pre-norm transformer block, (B, N, D) -> (B, N, D); each residual branch is dropped per sample.

    With `first` only that many first tokens come out: (B, first, D), the same as without, at a part of the cost.
    """

    def __init__(self, dim: int, *, attn: Attention, mlp: MLP, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = mlp
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        x = x[:, :first] + self.drop_path(self.attn(self.norm1(x), first))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Encoder(nn.Sequential):
    """`depth` blocks, (B, N, embed_dim) -> (B, N, embed_dim); drop-path rises linearly from 0 to `drop_path_rate`.

    With `first` the last block gives only that many first tokens.

    Raises:
        ValueError: `embed_dim` is not divisible by `num_heads` (or by 32, when heads are derived from it).
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        if depth < 1:
            raise ValueError(f"model.depth {depth} must be at least 1 block")
        heads = derive_heads(embed_dim, num_heads)
        rates = torch.linspace(0, drop_path_rate, depth).tolist()
        super().__init__(
            *(
                Block(
                    embed_dim,
                    attn=Attention(
                        embed_dim, heads, qkv_bias=qkv_bias, attn_drop=attn_drop_rate, proj_drop=proj_drop_rate
                    ),
                    mlp=MLP(embed_dim, int(embed_dim * mlp_ratio), drop=proj_drop_rate),
                    drop_path=rate,
                )
                for rate in rates
            )
        )

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        *blocks, last = self
        for block in blocks:
            x = block(x)
        return last(x, first)


def derive_heads(embed_dim: int, num_heads: int | None) -> int:
    """Heads of 32 channels when `num_heads` is None; a width that cannot be divided is an error with the remedy."""
    if embed_dim < 1:
        raise ValueError(f"model.embed_dim {embed_dim} must be positive, e.g. model.embed_dim=192")
    if num_heads is None:
        if embed_dim % HEAD_DIM:
            low = max(embed_dim // HEAD_DIM, 1) * HEAD_DIM
            raise ValueError(
                f"embed_dim {embed_dim} is not a multiple of the head width {HEAD_DIM}; "
                f"use {low} or {low + HEAD_DIM}, or give model.num_heads"
            )
        return embed_dim // HEAD_DIM
    if num_heads < 1 or embed_dim % num_heads:
        step = max(num_heads, 1)
        low = max(embed_dim // step, 1) * step
        raise ValueError(
            f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}; "
            f"use {low} or {low + step}, or leave num_heads out (head_dim {HEAD_DIM})"
        )
    return num_heads
