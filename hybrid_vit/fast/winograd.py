"""The weight gradient of a 3x3 convolution on a CPU in fp32, in a quarter of the multiplications.

For 256 channels torch's own (oneDNN 3.11, AVX2) is two to three times slower than its other two passes. Winograd's
minimal filtering F(3x3, 4x4) turns it into 36 matrix products of transformed tiles. Lavin and Gray 2016
(arXiv 1509.09308). The gradient differs by rounding only: 2e-5 of its largest entry.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid_vit.models.whitened_stem import IdentityConv

CHANNELS = 128  # with fewer, transforming the tiles costs more than the products save
TILE = 4  # outputs of a tile, each way; it has two more inputs


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """For both dimensions at once: of inputs (36, 36), of gradients (36, 16), of weights (9, 36)."""
    inputs = torch.tensor(
        [
            [4.0, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    )
    weights = torch.tensor(
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ]
    )
    outputs = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
    return torch.kron(inputs, inputs), torch.kron(outputs, outputs).T.contiguous(), torch.kron(weights, weights).T


INPUTS, GRADIENTS, WEIGHTS = transforms()


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """(B, C, H, W) inputs and (B, D, H, W) gradients of the outputs -> (D, C, 3, 3), for padding 1 and stride 1."""
    (b, c, h, w), d = x.shape, gradient.shape[1]
    rows, columns = -(-h // TILE), -(-w // TILE)
    below, right = rows * TILE - h, columns * TILE - w
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, right + 1, 1, below + 1)).contiguous()
    batch, row, column, channel = padded.stride()
    windows = padded.as_strided(
        (TILE + 2, TILE + 2, b, rows, columns, c), (row, column, batch, TILE * row, TILE * column, channel)
    )
    seen = (INPUTS @ windows.reshape(36, -1)).view(36, -1, c)
    tiles = F.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, right, 0, below)).view(b, rows, TILE, columns, TILE, d)
    wanted = (GRADIENTS @ tiles.permute(2, 4, 0, 1, 3, 5).reshape(16, -1)).view(36, -1, d)
    product = seen.transpose(1, 2) @ wanted
    return (WEIGHTS @ product.view(36, -1)).view(3, 3, c, d).permute(3, 2, 0, 1)


class _Convolve(torch.autograd.Function):
    """A convolution 3x3 with padding 1 whose weight gradient is `weight_gradient`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        before = None
        if ctx.needs_input_grad[0]:
            same = ((1, 1), (1, 1), (1, 1), False, (0, 0), 1)  # stride, padding, dilation, transposed, -, groups
            before = torch.ops.aten.convolution_backward(gradient, x, weight, None, *same, (True, False, False))[0]
        return before, weight_gradient(x, gradient) if ctx.needs_input_grad[1] else None


class WinogradConv2d(nn.Conv2d):
    """As `nn.Conv2d`, (B, C, H, W) -> (B, D, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        plain = self.bias is None and x.dtype == torch.float32 and not torch.compiler.is_compiling()
        if torch.is_grad_enabled() and plain:
            return _Convolve.apply(x, self.weight)  # type: ignore[no-untyped-call]
        return super().forward(x)


def set_winograd(net: nn.Module) -> None:
    """Make the wide 3x3 convolutions of `net` compute their weight gradient so; keys and outputs stay."""
    for module in net.modules():
        if (
            isinstance(module, nn.Conv2d)
            and type(module) in (nn.Conv2d, IdentityConv)  # timm's subclasses pad in their own way
            and (module.kernel_size, module.stride, module.padding, module.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
            and (module.groups, module.bias, module.padding_mode) == (1, None, "zeros")
            and min(module.in_channels, module.out_channels) >= CHANNELS
        ):
            module.__class__ = WinogradConv2d
