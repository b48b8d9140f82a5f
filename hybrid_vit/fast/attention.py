"""Attention by the implementation that is fast on a machine, with its weights to look at and for some tokens only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    While `record` is set, the weights (B, heads, N, N) are handed to it, and the path is the explicit one; so it is for
    attention dropout outside CUDA, which has no fused form there.
    """

    path: AttentionPath = "auto"
    record: Callable[[Tensor], None] | None = None

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
            if self.record is not None:
                self.record(weights)
            x = self.attn_drop(weights) @ v
        else:
            dropout = self.attn_drop.p if self.training else 0.0
            x = scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(B, -1, D)))

    def _explicit(self, v: Tensor) -> bool:
        dropping = self.training and self.attn_drop.p > 0 and v.device.type != "cuda"
        if self.record is not None or dropping or self.path != "auto":
            return self.record is not None or dropping or self.path == "explicit"
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


@contextmanager
def record_attention(net: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, every forward of `net` appends each layer's attention weights, (B, heads, N, N), to the list.

    The weights stay in the graph, so gradients with respect to them can be taken.
    """
    maps: list[Tensor] = []
    layers = [module for module in net.modules() if isinstance(module, Attention)]
    before = [(type(layer), getattr(layer, "record", None)) for layer in layers]
    for layer in layers:
        layer.__class__ = FastAttention
        layer.record = maps.append  # type: ignore[assignment]
    try:
        yield maps
    finally:
        for layer, (kind, record) in zip(layers, before, strict=True):
            layer.__class__ = kind
            layer.record = record  # type: ignore[assignment]


def recording(net: nn.Module) -> bool:
    """Whether some layer of `net` hands out its attention weights now."""
    return any(getattr(module, "record", None) is not None for module in net.modules())
