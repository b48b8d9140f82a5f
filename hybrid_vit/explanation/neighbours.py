"""Neighbours: images whose features, before the classifier, point in the same direction."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.inference_mode()
def penultimate(net: nn.Module, images: Tensor) -> Tensor:
    """The features that the classifier reads: (B, 3, H, W) -> (B, D).

    They are the input of the last `nn.Linear` that the network calls; of a network with two heads, of the second.
    """
    inputs: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        inputs[:] = [args[0]]

    hooks = [module.register_forward_pre_hook(keep) for module in net.modules() if isinstance(module, nn.Linear)]
    try:
        net(images)
    finally:
        for hook in hooks:
            hook.remove()
    assert inputs and inputs[0].ndim == 2, f"{type(net).__name__} has no linear classifier"
    return inputs[0]


def nearest(features: Tensor, others: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` of `others` (N, D) with the highest cosine similarity to each of `features` (B, D).

    Returns:
        Similarities in [-1, 1], highest first, and int64 indices; both (B, min(k, N)).
    """
    similarity = F.normalize(features.float()) @ F.normalize(others.float()).T
    return similarity.topk(min(k, len(others)))
