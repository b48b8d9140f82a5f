"""Attention rollout: the attention weights of all layers -> how much of each cell reaches the tokens that are read.

Abnar and Zuidema 2020 (arXiv 2005.00928). It follows the attention and the shortcut around it, and nothing else: not
the values, the MLPs or the convolutions.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hybrid_vit.utils.errors import UserError


@torch.inference_mode()
def attention_map(net: nn.Module, images: Tensor) -> Tensor:
    """Attention rollout of (B, 3, H, W) images: (B, h, w), the share of each cell in what is classified; sums to 1.

    What is classified is the class token (and the distillation token), or where there is none all cells, which count
    alike here whatever the pool does with them.

    Args:
        net: has `num_prefix_tokens`, as the transformers of timm do, and attention by torch's function.

    Raises:
        UserError: it has no global attention over a grid of tokens.
    """
    prefix = getattr(net, "num_prefix_tokens", None)
    with AttentionRecorder() as recorder:
        net(images)
    maps = recorder.maps
    tokens = {(len(weights), *weights.shape[-2:]) for weights in maps}
    square = all(weights.shape[-2] == weights.shape[-1] for weights in maps)
    if prefix is None or len(tokens) != 1 or len(maps[0]) != len(images) or not square:
        raise UserError(f"{type(net).__name__} has no attention between all cells of one grid, so no attention rollout")
    height, width = grid_of(maps[0].shape[-1] - prefix, images.shape[2] / images.shape[3])
    readers = sum(getattr(net, name, None) is not None for name in ("cls_token", "dist_token"))
    if getattr(net, "global_pool", "token") != "token":  # of timm: its head does not read the class token
        readers = 0
    through = rollout(maps)
    read = through[:, :readers] if readers else through[:, prefix:]
    cells = read.mean(dim=1)[:, prefix:]
    return (cells / cells.sum(dim=1, keepdim=True)).unflatten(1, (height, width))


def rollout(maps: Sequence[Tensor]) -> Tensor:
    """Attention weights of each layer, first to last, (B, heads, N, N) -> (B, N, N): how much of token j is in token i.

    The product of (mean over heads + identity) / 2 over the layers; each row sums to 1.
    """
    identity = torch.eye(maps[0].shape[-1], device=maps[0].device, dtype=maps[0].dtype)
    through = identity.expand(len(maps[0]), -1, -1)
    for weights in maps:
        through = (weights.mean(dim=1) + identity) / 2 @ through
    return through


class AttentionRecorder(TorchFunctionMode):
    """Within it, calls of torch's `scaled_dot_product_attention` append their weights, (B, heads, N, N), to `maps`."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.maps.append(attention_weights(*args, **kwargs))
        return func(*args, **kwargs)


def attention_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q k^T scale + mask): what `scaled_dot_product_attention` weights the values with; dropout is left out."""
    assert not (is_causal or enable_gqa), "a classifier of images looks at all of its tokens"
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(dim=-1)


def grid_of(cells: int, ratio: float) -> tuple[int, int]:
    """Rows and columns of `cells` whose ratio is nearest to that of the image, height / width."""
    grids = [(rows, cells // rows) for rows in range(1, cells + 1) if cells % rows == 0]
    return min(grids, key=lambda grid: abs(math.log(grid[0] / grid[1] / ratio)))
