"""Depthwise convolutions that stride: their gradient in fp32 where a CPU otherwise computes in bf16.

oneDNN has no fast bf16 kernel for the gradient of their input. At batch 128, 256 channels and 16x16 pixels it takes one
core of an EPYC (Zen 4) 214 ms; the whole layer with that gradient in fp32 takes 28 ms.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StridedDepthwise(nn.Conv2d):
    """A depthwise `nn.Conv2d` with a stride and no bias; only its gradient in bf16 is computed in another way."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            input, weight = input.to(dtype), weight.to(dtype)
        if input.dtype != torch.bfloat16 or not torch.is_grad_enabled():
            return super()._conv_forward(input, weight, bias)
        return _Convolution.apply(input, weight, (self.stride, self.padding, self.dilation))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, geometry: tuple[Any, Any, Any]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return F.conv2d(x, weight, None, *geometry, x.shape[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors

        def of(grad: Tensor, x: Tensor, weight: Tensor, *wanted: bool) -> tuple[Tensor, Tensor, Tensor]:
            rest = (None, *ctx.geometry, False, (0, 0), x.shape[1], (*wanted, False))
            return torch.ops.aten.convolution_backward(grad, x, weight, *rest)

        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = of(grad.float(), x.float(), weight.float(), True, False)[0].to(x.dtype)
        to_weight = of(grad, x, weight, False, True)[1] if ctx.needs_input_grad[1] else None
        return to_x, to_weight, None


def set_strided_depthwise(model: nn.Module, fp32: bool) -> None:
    """Make the strided depthwise convolutions in `model` compute the gradient of their input in fp32, or as others."""
    for module in model.modules():
        # Not another subclass: timm's pad in their own way.
        if isinstance(module, nn.Conv2d) and type(module) in (nn.Conv2d, StridedDepthwise) and strided(module):
            module.__class__ = StridedDepthwise if fp32 else nn.Conv2d


def strided(conv: nn.Conv2d) -> bool:
    """Whether each channel is convolved by itself, with a stride, without a bias, padded by zeros."""
    plain = conv.bias is None and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and conv.groups == conv.in_channels == conv.out_channels and max(conv.stride) > 1
