"""Attention by the implementation that is fast on a machine, and for some tokens only."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from hybrid_vit.models.encoder import Attention
from hybrid_vit.models.layout import Grid
from hybrid_vit.utils.errors import UserError

AttentionPath = Literal["auto", "fused", "explicit"]


class FastAttention(Attention):
    """As `Attention`, by one of two exact implementations: "fused" or "explicit" (the matrix products written out).

    "auto" takes the explicit one for bf16 on a CPU, where the fused backward is slower, and the fused one elsewhere.
    Attention dropout outside CUDA takes the explicit one, since it has no fused form there.
    """

    path: AttentionPath = "auto"

    def forward(self, x: Tensor, grid: Grid, first: int | None = None) -> Tensor:
        """With `first` only that many first tokens attend, to all: (B, N, D) -> (B, first, D)."""
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q[:, :, :first]), self.k_norm(k)
        bias = None if self.rel_pos is None else self.rel_pos(grid)[:, :, :first].to(v.dtype)
        if self._explicit(v):
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            scores = scores if bias is None else scores + bias
            weights = scores.softmax(dim=-1).to(v.dtype)  # inside in fp32, whatever the type
            x = self.attn_drop(weights) @ v
        else:
            dropout = self.attn_drop.p if self.training else 0.0
            x = scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(B, -1, D)))

    def _explicit(self, v: Tensor) -> bool:
        dropping = self.training and self.attn_drop.p > 0 and v.device.type != "cuda"
        if dropping or self.path != "auto":
            return dropping or self.path == "explicit"
        return v.device.type == "cpu" and v.dtype == torch.bfloat16


def set_attention(net: nn.Module, path: AttentionPath) -> None:
    """Make every `Attention` in `net` take `path`: "auto", "fused" or "explicit".

    Raises:
        UserError: another path.
    """
    paths = get_args(AttentionPath)
    if path not in paths:
        raise UserError(f"accelerator.attention {path!r} is unknown; use one of {', '.join(paths)}")
    for module in net.modules():
        if isinstance(module, Attention):
            module.__class__ = FastAttention
            assert isinstance(module, FastAttention)
            module.path = path
