"""Progressive resolution: training begins with small images, which cost less: (B, 3, H, W) -> (B, 3, side, side).

Howard 2018 (fast.ai's DAWNBench entry); Tan and Le 2021 (EfficientNetV2, arXiv 2104.00298).
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor


class Progressive:
    """Images are `sizes[i]` pixels wide until the share `until[i]` of the training is over, then as they come."""

    def __init__(self, sizes: Sequence[int], until: Sequence[float]) -> None:
        self.stages = [*zip(sizes, until, strict=True)]

    def mean(self, cost: Callable[[int], float], side: int) -> float:
        """The mean over the training of what an image costs; `cost` says it for a width, `side` is the last one."""
        begun, total = 0.0, 0.0
        for width, end in [*self.stages, (side, 1.0)]:
            total += (end - begun) * cost(width)
            begun = end
        return total

    def __call__(self, images: Tensor, progress: float) -> Tensor:
        """Resize (bilinear, antialiased) where `progress`, in [0, 1], is within a stage."""
        for side, end in self.stages:
            if progress < end:
                return F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        return images
