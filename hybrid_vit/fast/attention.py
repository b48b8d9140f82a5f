"""Attention by the implementation that is fast on a machine, and for some tokens only."""

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from hybrid_vit.models.encoder import Attention
from hybrid_vit.models.layout import Grid

AttentionPath = Literal["fused", "explicit"]


class FastAttention(Attention):
    """As `Attention`, by one of two exact implementations: "fused" or "explicit" (the matrix products written out).

    Attention dropout outside CUDA takes the explicit one, since it has no fused form there.
    """

    path: AttentionPath = "fused"

    def forward(self, x: Tensor, grid: Grid, first: int | None = None) -> Tensor:
        """With `first` only that many first tokens attend, to all: (B, N, D) -> (B, first, D)."""
        B, N, D = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q[:, :, :first]), self.k_norm(k)
        bias = None if self.rel_pos is None else self.rel_pos(grid)[:, :, :first].to(v.dtype)
        dropping = self.training and self.attn_drop.p > 0 and v.device.type != "cuda"
        if dropping or self.path == "explicit":
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            scores = scores if bias is None else scores + bias
            weights = scores.softmax(dim=-1).to(v.dtype)  # inside in fp32, whatever the type
            x = self.attn_drop(weights) @ v
        else:
            dropout = self.attn_drop.p if self.training else 0.0
            x = scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(B, -1, D)))


def set_attention(net: nn.Module, path: AttentionPath) -> None:
    """Make every `Attention` in `net` take `path`: "fused" or "explicit".

    Those of timm have a switch: "explicit" turns it off, and "fused" leaves it as timm sets it.
    """
    for module in net.modules():
        if type(module) in (Attention, FastAttention):  # another class of attention has a forward of its own
            module.__class__ = FastAttention
            assert isinstance(module, FastAttention)
            module.path = path
        elif path == "explicit" and hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
