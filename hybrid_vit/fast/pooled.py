"""Convolutions before a max-pool that leaves out an odd last row and column: those are not computed.

Of 7 x 7 cells the pool keeps 6 x 6, which are three quarters of the work. Values and gradients stay the same.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hybrid_vit.models.whitened_stem import ConvGroup, IdentityConv

CHANNELS = 64  # with fewer, padding the input by hand costs more than is saved


class EvenConv(IdentityConv):
    """As `IdentityConv`, (B, c_in, H, W) -> (B, c_out, H, W), without the last row or column of an odd H or W."""

    def forward(self, x: Tensor) -> Tensor:
        below, right = (1 - size % 2 for size in x.shape[2:])
        return super().forward(x) if below and right else F.conv2d(F.pad(x, (1, right, 1, below)), self.weight)


def set_pooled(net: nn.Module) -> None:
    """Make the halving convolutions of `net` compute only what their pool reads."""
    for module in net.modules():
        if isinstance(module, ConvGroup):
            conv = module.halving[0]
            if type(conv) is IdentityConv and conv.in_channels >= CHANNELS:
                conv.__class__ = EvenConv
