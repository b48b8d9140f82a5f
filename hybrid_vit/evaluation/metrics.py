"""Evaluators: logits and targets, batch by batch -> {name: value} over all of them.

A new evaluator of logits is a class here, or in a new file, and a row in `EVALUATORS`; every test then computes it. An
evaluation of the network itself, such as an attack, is a function in a file of its own.
"""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array, csr_array
from torch import Tensor
from torchmetrics import Metric

from hybrid_vit.evaluation.calibration import calibration_error

K = 5  # the k of "top5"


class Evaluator(Protocol):
    """What logits and targets are asked."""

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """A batch: (B, C) float logits and (B,) int64 labels, on any device."""

    def compute(self) -> dict[str, float]:
        """The answers over all batches, by their names in a summary."""
        ...


class Scores(Metric):
    """Mean cross entropy, top-1 and top-5 accuracy in per cent, in one pass and without waiting for the device.

    In training it also counts over all processes.

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
        self.totals += torch.stack([(before == 0).sum(), (before < K).sum(), loss * n, torch.full_like(loss, n)])

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


class Confusion:
    """The confusion matrix, and the balanced accuracy if the classes have different numbers of images.

    If all classes have equally many images, the balanced accuracy equals top-1 and is left out. Classes without images
    are ignored. Brodersen et al. 2010 (ICPR, "The balanced accuracy and its posterior distribution").
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._pairs: list[Tensor] = []

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """logits (B, C), targets (B,)."""
        self._pairs.append(torch.stack([targets, predictions(logits)]))

    def counts(self) -> csr_array:
        """(num_classes, num_classes) int64, true class first; sparse, since those of 10,000 classes are 800 MB."""
        pairs = torch.cat(self._pairs, dim=1).cpu().numpy()
        counted = coo_array((np.ones(pairs.shape[1], np.int64), tuple(pairs)), shape=(self.num_classes,) * 2)
        return counted.tocsr()

    def compute(self) -> dict[str, float]:
        """{"balanced_top1": per cent}, or nothing."""
        counts = self.counts()
        images, hits = counts.sum(axis=1), counts.diagonal()
        there = images > 0
        if len(np.unique(images[there])) < 2:
            return {}
        return {"balanced_top1": 100 * float((hits[there] / images[there]).mean())}


class Calibration:
    """The expected calibration error, in per cent, of the probability of the predicted class."""

    def __init__(self, num_classes: int) -> None:
        self._parts: list[Tensor] = []

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """logits (B, C), targets (B,)."""
        probability = logits.float().softmax(1).amax(1)
        self._parts.append(torch.stack([probability, (places(logits, targets) == 0).float()]))

    def compute(self) -> dict[str, float]:
        """{"ece": per cent}."""
        return {"ece": calibration_error(*torch.cat(self._parts, dim=1).cpu())}


# Made from the number of classes, once a test.
EVALUATORS: dict[str, Callable[[int], Evaluator]] = {
    "accuracy": lambda num_classes: Scores(alone=True),
    "confusion": Confusion,
    "calibration": Calibration,
}


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
