"""Scores: logits and labels, batch by batch -> top-1, top-5 and loss over all of them, over all processes."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric


class Scores(Metric):
    """Mean cross entropy, top-1 and top-5 accuracy in per cent, in one pass and without waiting for the device.

    Soft targets (B, C) of Mixup and CutMix count by their largest class. With five classes or fewer top-5 is 100.

    Args:
        alone: count what this process has seen, and ask no other.
    """

    full_state_update = False
    totals: Tensor

    def __init__(self, *, alone: bool = False) -> None:
        super().__init__(sync_on_compute=not alone)
        self.add_state("totals", default=torch.zeros(4), dist_reduce_fx="sum", persistent=True)

    def update(self, logits: Tensor, targets: Tensor, loss: Tensor | None = None) -> None:
        """logits (B, C); targets (B,) or (B, C); loss: the batch's mean, cross entropy if left out."""
        logits = logits.float()
        loss = F.cross_entropy(logits, targets) if loss is None else loss.float()
        labels = targets.argmax(1) if targets.ndim == 2 else targets
        hits = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        n = len(logits)
        self.totals += torch.stack([hits[:, 0].sum(), hits.sum(), loss * n, loss.new_tensor(n)])

    def compute(self) -> dict[str, Tensor]:
        """{"loss": nats, "top1": per cent, "top5": per cent}"""
        top1, top5, loss, n = self.totals
        return {"loss": loss / n, "top1": 100 * top1 / n, "top5": 100 * top5 / n}
