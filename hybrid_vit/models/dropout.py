"""Dropout with cheap random numbers on the CPU: any tensor -> the same tensor, elements zeroed with probability p.

`nn.Dropout` draws one Bernoulli number an element, on one core: a quarter of a training step of `hybrid_192` on a CPU.
Here four elements share one 64-bit draw, 16 bits each, so p is met to 1/65536. Elsewhere it is `nn.Dropout` itself.
Srivastava et al. 2014.
"""

import torch
from torch import Tensor, nn

LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """As `nn.Dropout(p)`; on the CPU with p rounded to a multiple of 2^-16."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p in (0, 1) or x.device.type != "cpu":
            return super().forward(x)
        return _Masked.apply(x, draw_mask(x.shape, self.p), 1 / (1 - self.p))


def draw_mask(shape: torch.Size, p: float) -> Tensor:
    """Boolean mask of `shape`, True (kept) with probability 1 - p."""
    n = shape.numel()
    bits = torch.empty((n + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:n].view(shape)
    return bits >= min(round(p * LEVELS), LEVELS - 1) - LEVELS // 2


class _Masked(torch.autograd.Function):
    """x * mask * scale, keeping one byte an element for the backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return torch.where(mask, x, 0.0).mul_(scale)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (mask,) = ctx.saved_tensors
        return torch.where(mask, grad, 0.0).mul_(ctx.scale), None, None
