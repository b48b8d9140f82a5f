"""Muon: an orthogonalised momentum for matrices and kernels, AdamW for everything else, in one optimizer.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/). As in his CIFAR speedruns, each of those matrices is
also kept at a fixed norm, the root of its number of rows, so that it needs no weight decay.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the quintic polynomial, chosen by Jordan for its slope at zero


class Muon(AdamW):
    """A step is W <- c W - lr sqrt(max(1, rows / columns)) O(g + momentum m), with m <- momentum m + g.

    O is `orthogonalised`; c sets the Frobenius norm of W to sqrt(rows). A kernel (c_out, c_in, k, k) is the matrix
    (c_out, c_in k k). Groups with `orthogonal=False` are AdamW's.

    Args:
        groups: with the key "orthogonal", and what AdamW's groups have.
        momentum: of the orthogonal groups.
        ns_steps: of the Newton-Schulz iteration.
    """

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float = 0.6, ns_steps: int = 3, **adamw: Any) -> None:
        super().__init__(groups, fused=True, **adamw)
        self.momentum, self.ns_steps = momentum, ns_steps

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; the gradients of the orthogonal groups are used up."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"] if group["orthogonal"] else ():
                if weight.grad is not None:
                    self._move(weight, weight.grad, group["lr"])
                    weight.grad = None  # nothing is left for AdamW
        super().step()
        return loss

    def _move(self, weight: Tensor, gradient: Tensor, lr: float) -> None:
        state, rows = self.state[weight], len(weight)
        if "momentum" not in state:
            state["step"] = torch.zeros(())  # unused; AdamW wants it when a checkpoint is loaded
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].mul_(self.momentum).add_(gradient)
        matrix = gradient.add(state["momentum"], alpha=self.momentum).reshape(rows, -1)
        scale = max(1.0, rows / matrix.shape[1]) ** 0.5
        weight.mul_(rows**0.5 / weight.norm().clamp(min=1e-7))
        weight.add_(orthogonalised(matrix, self.ns_steps).view_as(weight), alpha=-lr * scale)


def orthogonalised(matrix: Tensor, steps: int = 3) -> Tensor:
    """(m, n) -> (m, n): U V^T of its singular value decomposition U S V^T, roughly: values between 0.5 and 1.5.

    Newton-Schulz iteration; on a GPU in bf16, which is precise enough.
    """
    x = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)
