"""Mixed batches: (B, C, H, W) float images and (B,) int64 labels enter, images and (B, num_classes) soft targets leave.

One lambda for the whole batch; every image is paired with the one before it in the global batch, the first with the
last. A process that holds a part of the batch is given one image more for it: a `Draw` that is `led`.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from hybrid_vit.utils.errors import UserError

from .draw import Draw
from .transforms import check_probability


def pair(samples: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """The samples of this process and, for each, the one before it in the global batch."""
    if draw.led:
        return samples[1:], samples[:-1]
    assert draw.size == draw.total, "a part of a batch begins with the sample before it: Draw(..., led=True)"
    return samples, samples.roll(1, 0)


def soft_targets(labels: Tensor, num_classes: int, weight: float, draw: Draw) -> Tensor:
    """Labels -> (B, num_classes) float32: `weight` on the own class, the rest on that of the image before."""
    own, other = pair(F.one_hot(labels, num_classes).float(), draw)
    return weight * own + (1.0 - weight) * other


def _check_alpha(name: str, alpha: float) -> None:
    if not 0.0 < alpha < math.inf:
        raise UserError(
            f"{name} is {alpha}, but Beta({name}, {name}) needs a number above 0; leave the mixing out for none"
        )


class Mixup:
    """Every image blended with another: lambda * own + (1 - lambda) * other, lambda ~ Beta(alpha, alpha).

    Source: Zhang et al. 2018.
    """

    def __init__(self, *, alpha: float = 1.0) -> None:
        _check_alpha("alpha", alpha)
        self.alpha = alpha

    def __call__(self, images: Tensor, labels: Tensor, num_classes: int, draw: Draw) -> tuple[Tensor, Tensor]:
        weight = draw.batch_beta(self.alpha)
        own, other = pair(images, draw)
        return own * weight + other * (1.0 - weight), soft_targets(labels, num_classes, weight, draw)


class CutMix:
    """A box of every image replaced by that of another; lambda is the share of own pixels that really remains.

    The box has the image's aspect ratio, the area 1 - Beta(alpha, alpha) of it and a uniform centre, and is clipped
    at the border. Source: Yun et al. 2019.
    """

    def __init__(self, *, alpha: float = 1.0) -> None:
        _check_alpha("alpha", alpha)
        self.alpha = alpha

    def __call__(self, images: Tensor, labels: Tensor, num_classes: int, draw: Draw) -> tuple[Tensor, Tensor]:
        height, width = images.shape[2:]
        half_side = 0.5 * math.sqrt(1.0 - draw.batch_beta(self.alpha))
        y, x = draw.batch_integer(height), draw.batch_integer(width)
        half_height, half_width = int(half_side * height), int(half_side * width)
        rows = slice(max(0, y - half_height), min(height, y + half_height))
        columns = slice(max(0, x - half_width), min(width, x + half_width))
        own, other = pair(images, draw)
        mixed = own.clone()
        mixed[:, :, rows, columns] = other[:, :, rows, columns]
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start)
        return mixed, soft_targets(labels, num_classes, 1.0 - pasted / (height * width), draw)


class Mix:
    """Mixup or CutMix, drawn anew for every batch.

    Args:
        mixup_alpha: the Beta parameter of Mixup; None leaves it out.
        cutmix_alpha: that of CutMix; None leaves it out.
        p: probability that a batch is mixed at all.
        switch_p: probability of CutMix in a mixed batch where both are there.
    """

    def __init__(
        self,
        *,
        mixup_alpha: float | None = 0.8,
        cutmix_alpha: float | None = 1.0,
        p: float = 1.0,
        switch_p: float = 0.5,
    ) -> None:
        for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            if alpha is not None:
                _check_alpha(name, alpha)
        for name, probability in (("p", p), ("switch_p", switch_p)):
            check_probability(name, probability)
        if mixup_alpha is None and cutmix_alpha is None:
            raise UserError("mixup_alpha and cutmix_alpha are both None; give one, or leave the mixing out")
        self.mixup = None if mixup_alpha is None else Mixup(alpha=mixup_alpha)
        self.cutmix = None if cutmix_alpha is None else CutMix(alpha=cutmix_alpha)
        self.p = p
        self.switch_p = switch_p

    def __call__(self, images: Tensor, labels: Tensor, num_classes: int, draw: Draw) -> tuple[Tensor, Tensor]:
        mixed, switched = draw.batch_uniform() < self.p, draw.batch_uniform() < self.switch_p
        chosen = self.cutmix if self.mixup is None or (switched and self.cutmix is not None) else self.mixup
        if not mixed or chosen is None:
            return pair(images, draw)[0], soft_targets(labels, num_classes, 1.0, draw)
        return chosen(images, labels, num_classes, draw)
