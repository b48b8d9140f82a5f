"""Dropout and stochastic depth: any tensor -> the same tensor, elements or whole samples zeroed with probability p.

`nn.Dropout` draws one number an element, on one core of a CPU: a quarter of a training step of `hybrid_192`. Here only
the dropped places are drawn, by the gaps between them, which are geometric (Devroye 1986, ch. X.2): p numbers an
element. Dropout: Srivastava et al. 2014. Stochastic depth: Huang et al. 2016 (arXiv 1603.09382).
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

_thread = threading.local()


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Within the block, what this thread drops is drawn from `generator` instead of torch's own."""
    before = _generator()
    _thread.generator = generator
    try:
        yield
    finally:
        _thread.generator = before


def _generator() -> torch.Generator | None:
    return None if torch.compiler.is_compiling() else getattr(_thread, "generator", None)


class FastDropout(nn.Dropout):
    """As `nn.Dropout(p)`, fast on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p in (0, 1) or x.device.type != "cpu":
            return super().forward(x)
        if torch.compiler.is_compiling():
            return torch.where(hashed_mask(x.shape, self.p), x / (1 - self.p), 0.0)
        return _Dropped.apply(x, draw_dropped(x.numel(), self.p), 1 / (1 - self.p))


class DropPath(StochasticDepth):
    """Stochastic depth of a residual branch: each sample of (B, ...) is zeroed with probability p, or divided by 1 - p.

    Draws as `torchvision.ops.StochasticDepth(p, "row")` does, which cannot be given a generator.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - self.p, generator=_generator())
        return x * (keep / (1 - self.p) if self.p < 1 else keep)


def set_dropout(net: nn.Module) -> None:
    """Make every `nn.Dropout` in `net` fast on a CPU, and every stochastic depth of samples drawn as it is."""
    for module in net.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout
        elif type(module) is StochasticDepth and module.mode == "row":
            module.__class__ = DropPath


def draw_dropped(n: int, p: float) -> Tensor:
    """Places in [0, n), ascending int64, each there with probability p in (0, 1) and independently of the others."""
    enough = math.ceil(n * p + 6 * math.sqrt(n * p * (1 - p))) + 1
    uniform = torch.rand(enough, generator=_generator())
    gaps = uniform.neg_().log1p_().div_(math.log1p(-p)).ceil_().clamp_(min=1)
    places = gaps.long().cumsum_(0).sub_(1)
    last = int(places[-1])
    if last < n - 1:  # once in a billion times the gaps end before n does
        return torch.cat([places, last + 1 + draw_dropped(n - 1 - last, p)])
    return places[: torch.searchsorted(places, n)]


def hashed_mask(shape: torch.Size, p: float) -> Tensor:
    """Boolean mask of `shape`, True (kept) with probability 1 - p: a hash of each place and a seed.

    Only arithmetic, so a compiler makes it part of the operation beside it. The mixing of the bits is MurmurHash3's.
    """
    seed = torch.randint(-(2**31), 2**31 - 1, (1,), dtype=torch.int32)
    bits = torch.arange(shape.numel(), dtype=torch.int32).view(shape) * -0x61C88647 + seed
    for shift, factor in ((16, -0x7A143595), (13, -0x3D4D51CB), (16, 1)):
        bits = (bits ^ (bits >> shift & 0xFFFFFFFF >> shift)) * factor
    return bits >= round(p * 2**32) - 2**31


class _Dropped(torch.autograd.Function):
    """x * scale with zeros at `places`, which are all that is kept for the backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor, places: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(places)
        ctx.scale = scale
        return _drop(x, places, scale)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (places,) = ctx.saved_tensors
        return _drop(grad, places, ctx.scale), None, None


def _drop(x: Tensor, places: Tensor, scale: float) -> Tensor:
    y = x.contiguous() * scale
    y.view(-1).index_fill_(0, places, 0.0)
    return y
