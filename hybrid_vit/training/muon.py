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

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float, ns_steps: int, **adamw: Any) -> None:
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
        # Channels last, as kernels lie in memory on a CPU: the order of the columns changes nothing but the cost.
        update = gradient.add(state["momentum"], alpha=self.momentum).movedim(1, -1)
        matrix = update.reshape(rows, -1)
        scale = max(1.0, rows / matrix.shape[1]) ** 0.5
        factor = orthogonalised(matrix, self.ns_steps, dtype=fast_dtype(matrix)).view_as(update).movedim(-1, 1)
        weight.mul_(rows**0.5 / weight.norm().clamp(min=1e-7))
        weight.add_(factor, alpha=-lr * scale)


def fast_dtype(matrix: Tensor) -> torch.dtype:
    """bf16, which is precise enough here, where its products are fast; else fp32."""
    cuda = matrix.is_cuda
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def orthogonalised(matrix: Tensor, steps: int = 3, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """(m, n) -> (m, n): U V^T of its singular value decomposition U S V^T, roughly.

    Newton-Schulz iteration, computed in `dtype`. After three steps the singular values are 1.2 at most, and below 0.5
    where they were under 1.3 % of the norm of the matrix. A fused query, key and value is one matrix here; Jordan takes
    three.
    """
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)
