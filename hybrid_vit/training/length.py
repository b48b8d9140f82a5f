"""What one epoch of a training is: steps and images, where batches are gathered into steps or limited in number."""

import math

from hybrid_vit.config.schema import Trainer
from hybrid_vit.data.module import DataModule


class Epoch:
    """Batches and images of one epoch of `data`, which is set up, with the limits and the accumulation of `settings`.

    Attributes:
        steps: optimizer steps; the last one may be of fewer batches than the others.
        batches: of training.
        val_batches: what Lightning is to take of each validation loader.
        val_images: that are scored after it.
        test_batches: that are scored at the end of the training.
        test_images: in those.
        limited: the limits that take something away, by what they limit.
    """

    def __init__(self, settings: Trainer, data: DataModule) -> None:
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
        self.steps = math.ceil(batches / settings.accumulate_grad_batches)
        self.batches = batches
        self.val_batches: int | float = (1.0 if val is None else val) if counts else 0
        self.val_images = sum(min(n, k * size) for n, k in zip(images, kept, strict=True))
        self.test_batches = test_batches
        self.test_images = min(data.sizes["test"], test_batches * size)
        self.limited = {key: limit for key, (limit, less) in limits.items() if less and limit is not None}


def at_most(batches: int, limit: int | float | None) -> int:
    """So many of `batches` as a limit leaves; a share above 0 leaves at least one."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else max(int(limit > 0), int(batches * limit))
