"""Linear layers for inference on a CPU: weights laid out once as oneDNN reads them, GELU in the same pass.

oneDNN otherwise lays a bf16 weight out anew in every call, and in fp32 torch would take MKL, which on AMD's processors
stops at AVX2.
"""

import torch
from torch import Tensor, nn

from hybrid_vit.models.mlp import MLP

_ops = torch.ops.mkldnn


class PackedLinear(nn.Module):
    """(..., D) -> (..., E), as `linear` and a GELU behind it if `gelu`; no gradients."""

    packed: Tensor

    def __init__(self, linear: nn.Linear, *, gelu: bool = False) -> None:
        super().__init__()
        self.register_buffer("packed", _ops._reorder_linear_weight(linear.weight.detach(), None), persistent=False)
        self.weight, self.bias = linear.weight, linear.bias  # some models of timm read the weight
        self.after = "gelu" if gelu else "none"

    def forward(self, x: Tensor) -> Tensor:
        return _ops._linear_pointwise(x, self.packed, self.bias, self.after, [], "none")


def packed(net: nn.Module) -> nn.Module:
    """`net` with every linear layer packed, in place, where this CPU's oneDNN computes in its precision."""
    dtype = next(net.parameters()).dtype
    if dtype == torch.float32 or (dtype == torch.bfloat16 and _ops._is_mkldnn_bf16_supported()):
        for module in list(net.modules()):
            for name, layer in module.named_children():
                if isinstance(layer, nn.Linear):
                    setattr(module, name, PackedLinear(layer, gelu=isinstance(module, MLP) and name == "fc1"))
            if isinstance(module, MLP):
                module.act = nn.Identity()  # type: ignore[assignment]
    return net
