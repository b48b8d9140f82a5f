"""The random numbers of one batch: a seed and a share enter, CPU tensors with one row per local sample leave.

Every draw is made for the whole global batch and then cut to this process's share, so a sample meets the same
augmentation on any device and on any number of processes. The k-th draw of a batch is a function of (seed, k) alone.
"""

import random

import torch
from torch import Tensor

from hybrid_vit.utils.errors import UserError

from .ops import moved

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def derive_seed(seed: int, *parts: int) -> int:
    """A well-spread seed in [0, 2**63) for the stream that `parts` name, such as (epoch, step).

    Neighbouring seeds and parts give unrelated results, and the order of the parts matters.
    Source: the splitmix64 finaliser (Steele, Lea and Flood 2014), chained over the parts.
    """
    state = 0
    for part in (seed, *parts):
        state = (state ^ (part & _MASK)) + _GOLDEN & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state >> 1


class Draw:
    """The random numbers of one batch, in the order in which they are asked for.

    Args:
        seed: one integer per batch, for example `derive_seed(seed, epoch, step)`.
        total: number of samples in the global batch.
        share: the samples of the global batch that this process holds, as a slice or as int64 indices.
        led: the first of them is the one before the others in the global batch (the last, for the first of them). It
            is there only to be mixed with, and left out of what `Augment` returns.
        turned: (total,) bool, for `alternate`.

    Per-sample methods return CPU tensors of shape (size, *shape): grouping samples by a drawn value then needs no
    device synchronisation. Batch-level methods return one Python number, the same in every process.
    Processes agree as long as each makes the same calls in the same order, whatever its own samples are.
    """

    def __init__(
        self,
        seed: int,
        total: int,
        share: slice | Tensor = slice(None),
        *,
        led: bool = False,
        turned: Tensor | None = None,
    ) -> None:
        self.seed = seed
        self.total = total
        self.share = share
        self.led = led
        self.turned = turned
        self._drawn = 0

    @property
    def size(self) -> int:
        """Number of local samples."""
        return len(range(self.total)[self.share] if isinstance(self.share, slice) else self.share)

    def _next_seed(self) -> int:
        self._drawn += 1
        return derive_seed(self.seed, self._drawn)

    def _rand(self, shape: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(self._next_seed())
        return torch.rand((self.total, *shape), generator=generator)[self.share]

    def uniform(self, low: float = 0.0, high: float = 1.0, *, shape: tuple[int, ...] = ()) -> Tensor:
        """float32 in [low, high), (size, *shape)."""
        return self._rand(shape) * (high - low) + low

    def integers(self, high: int, *, shape: tuple[int, ...] = ()) -> Tensor:
        """int64 in [0, high), (size, *shape)."""
        generator = torch.Generator().manual_seed(self._next_seed())
        return torch.randint(high, (self.total, *shape), generator=generator)[self.share]

    def bernoulli(self, p: float, *, shape: tuple[int, ...] = ()) -> Tensor:
        """bool, True with probability p, (size, *shape)."""
        return self._rand(shape) < p

    def alternate(self) -> Tensor:
        """bool, (size,): for each sample the opposite of what it was in the epoch before; by chance in the first.

        Raises:
            UserError: the samples of this batch are not known by their number, as those of a loader are.
        """
        if self.turned is None:
            raise UserError(
                "augment.flip.alternate=true is for the batches of a training; use augment.flip.alternate=false"
            )
        return self.turned[self.share]

    def permutation(self, n: int) -> Tensor:
        """One uniform permutation of range(n) per sample: int64, (size, n)."""
        return self._rand((n,)).argsort(dim=1, stable=True)

    def subset(self, p: float) -> tuple[Tensor, "Draw"]:
        """Choose each sample with probability p: the local rows chosen, (k,) int64, and a `Draw` of size k for them."""
        generator = torch.Generator().manual_seed(self._next_seed())
        chosen = torch.rand(self.total, generator=generator) < p
        place = chosen.cumsum(0) - 1
        here = chosen[self.share]
        draw = Draw(self._next_seed(), int(chosen.sum()), place[self.share][here])
        return here.nonzero()[:, 0], draw

    def noise(self, like: Tensor) -> Tensor:
        """N(0, 1) with the shape, dtype and device of `like` (size, ...).

        Drawn on the device itself, so the values (unlike all others here) depend on the kind of device.
        """
        generator = torch.Generator(device=like.device).manual_seed(self._next_seed())
        shape = (self.total, *like.shape[1:])
        noise = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        if isinstance(self.share, slice):
            return noise[self.share]
        return noise.index_select(0, moved(self.share, like.device))

    def batch_uniform(self) -> float:
        """One number in [0, 1) for the whole batch."""
        return random.Random(self._next_seed()).random()

    def batch_integer(self, high: int) -> int:
        """One integer in [0, high) for the whole batch."""
        return random.Random(self._next_seed()).randrange(high)

    def batch_beta(self, alpha: float) -> float:
        """One number from Beta(alpha, alpha) for the whole batch."""
        return random.Random(self._next_seed()).betavariate(alpha, alpha)
