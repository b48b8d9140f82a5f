"""Scores: logits and labels, batch by batch -> top-1, top-5 and loss over all of them, over all processes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

K = 5  # the k of "top5"


class Scores(Metric):
    """Mean cross entropy, top-1 and top-5 accuracy in per cent, in one pass and without waiting for the device.

    Soft targets (B, C) of Mixup and CutMix count by their largest class.

    Args:
        alone: count what this process has seen, and ask no other.
    """

    full_state_update = False
    totals: Tensor

    def __init__(self, *, alone: bool = False) -> None:
        super().__init__(sync_on_compute=not alone)
        # top-1 hits, top-5 hits, sum of losses, images: fp32 counts exactly up to 16.7 million, and MPS has no fp64
        self.add_state("totals", default=torch.zeros(4), dist_reduce_fx="sum", persistent=True)
        self.classes = 0

    def update(self, logits: Tensor, targets: Tensor, loss: Tensor | None = None) -> None:
        """logits (B, C); targets (B,) or (B, C); loss: the batch's mean, cross entropy if left out."""
        logits = logits.float()
        loss = F.cross_entropy(logits, targets) if loss is None else loss.float()
        labels = targets.argmax(1) if targets.ndim == 2 else targets
        before, n = places(logits, labels), len(logits)
        self.classes = logits.shape[1]
        self.totals += torch.stack([(before == 0).sum(), (before < K).sum(), loss * n, loss.new_tensor(n)])

    def compute(self) -> dict[str, float]:
        """{"loss": nats, "top1": per cent, "top5": per cent, "images": their number}; no "top5" of 5 classes or fewer.

        A score is the quotient of whole numbers: its hits are `round(top1 * images / 100)`.
        """
        top1, top5, loss, images = self.totals.tolist()
        n = images or math.nan
        scores = {"loss": loss / n, "top1": 100 * top1 / n, "top5": 100 * top5 / n, "images": int(images)}
        if self.classes <= K:
            del scores["top5"]
        return scores


def places(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the label: (B, C) and (B,) int64 -> (B,) int64, 0 where it is the prediction.

    Classes come in the order of their logits, equal ones in the order of their indices (in bf16 about one image in a
    hundred has two largest); NaN comes last.
    """
    logits = ordered(logits)
    own, index = logits.gather(1, labels[:, None]), torch.arange(logits.shape[1], device=logits.device)
    return ((logits > own) | ((logits == own) & (index < labels[:, None]))).sum(1)


def predictions(logits: Tensor) -> Tensor:
    """The class that comes first in the order of `places`: (B, C) -> (B,) int64."""
    logits, classes = ordered(logits), logits.shape[1]
    largest = logits == logits.amax(1, keepdim=True)
    return torch.where(largest, torch.arange(classes, device=logits.device), classes).amin(1)


def ordered(logits: Tensor) -> Tensor:
    """The logits with NaN below all others."""
    return logits.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
