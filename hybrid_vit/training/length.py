"""What one epoch of a training is: steps and images, where batches are gathered into steps or limited in number."""

import math
from dataclasses import dataclass

from hybrid_vit.config.schema import Trainer
from hybrid_vit.data.module import DataModule

Limit = int | float | None  # a number of batches, a share of them, or all


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Batches and images of one epoch, after the limits.

    Attributes:
        steps: optimizer steps; the last one may be of fewer batches than the others.
        batches: of training.
        val_batches: what Lightning is to take of each validation loader.
        val_images: that are scored after it.
        test_batches: that are scored at the end of the training.
        test_images: in those.
        limited: the limits that take something away, by what they limit.
    """

    steps: int
    batches: int
    val_batches: int | float
    val_images: int
    test_batches: int
    test_images: int
    limited: dict[str, int | float]

    @classmethod
    def of(cls, settings: Trainer, data: DataModule) -> "Epoch":
        """That of `data`, which is set up, with the limits and the accumulation of `settings`."""
        size = data.eval_batch_size
        images = [data.sizes[name.removeprefix("published_")] for name in data.val_names]
        counts = [math.ceil(n / size) for n in images]
        val, test = settings.limit_val_batches, math.ceil(data.sizes["test"] / size)
        batches = at_most(data.steps_per_epoch, settings.limit_train_batches)
        test_batches = at_most(test, settings.limit_test_batches)
        if isinstance(val, float) and val > 0 and any(int(n * val) < 1 for n in counts):
            val = 1  # Lightning would take none
        kept = [at_most(n, val) for n in counts]
        limits = {
            "train_batches": (settings.limit_train_batches, batches < data.steps_per_epoch),
            "val_batches": (settings.limit_val_batches, kept != counts),
            "test_batches": (settings.limit_test_batches, test_batches < test),
        }
        return cls(
            steps=math.ceil(batches / settings.accumulate_grad_batches),
            batches=batches,
            val_batches=(1.0 if val is None else val) if counts else 0,
            val_images=sum(min(n, k * size) for n, k in zip(images, kept, strict=True)),
            test_batches=test_batches,
            test_images=min(data.sizes["test"], test_batches * size),
            limited={key: limit for key, (limit, less) in limits.items() if less and limit is not None},
        )


def at_most(batches: int, limit: Limit) -> int:
    """So many of `batches` as a limit leaves; a share above 0 leaves at least one."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else max(int(limit > 0), int(batches * limit))
