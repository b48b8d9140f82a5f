"""Exponential moving average of a network: after every optimizer step, average += (1 - d) * (weights - average).

The average is a second network of the same shape inside the task. Validation calls it directly, checkpoints contain
it, and weights are never swapped, so a score always belongs to the weights that it names. Buffers (BatchNorm
statistics) are copied. The warm-up of the decay is TensorFlow's: without it, a decay of 0.9999 would still
hold 38 % of the initial weights after 25 epochs of 391 steps.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """The averaged copy of `net`; called like it: (B, 3, H, W) -> (B, num_classes).

    Args:
        decay: d, the share of the average that survives one step.
        warmup: use min(d, (1 + n) / (10 + n)) at the n-th update.
    """

    num_updates: Tensor

    def __init__(self, net: nn.Module, *, decay: float = 0.9999, warmup: bool = True) -> None:
        super().__init__()
        self.net = deepcopy(net).eval().requires_grad_(False)
        self.decay, self.warmup = decay, warmup
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        self._updates = 0  # a host copy: reading the buffer would wait for the device

    def train(self, mode: bool = True) -> "EMA":
        """An average is never trained: it stays in eval mode."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move the average towards `net`'s parameters; take its buffers as they are."""
        n, self._updates = self._updates, self._updates + 1
        decay = min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay
        torch._foreach_lerp_(list(self.net.parameters()), list(net.parameters()), 1 - decay)
        for average, current in zip(self.net.buffers(), net.buffers(), strict=True):
            average.copy_(current)
        self.num_updates.add_(1)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._updates = int(self.num_updates)
