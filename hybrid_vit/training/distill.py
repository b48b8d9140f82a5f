"""Distillation: a student learns from the labels and from a teacher that sees the same augmented images.

Hard: cross entropy with the class that the teacher chooses. Soft: Kullback-Leibler divergence of the softened
probabilities (Hinton et al. 2015, arXiv 1503.02531). A student with a distillation token (Touvron et al. 2021, arXiv
2012.12877) gives (B, 2, C) logits in training: the class token's learn from the labels, the other's from the teacher.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Distillation(nn.Module):
    """Adds what the teacher says to the loss of a student: loss, logits, images -> loss.

    Args:
        teacher: (B, 3, H, W) -> (B, C); put into eval mode, and never given a gradient.
        kind: "hard" or "soft".
        alpha: share of the teacher in the loss.
        temperature: of the softened probabilities.
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        kind: Literal["hard", "soft"] = "hard",
        alpha: float = 0.5,
        temperature: float = 3.0,
    ) -> None:
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.kind, self.alpha, self.temperature = kind, alpha, temperature

    def train(self, mode: bool = True) -> "Distillation":
        """A teacher is never trained: it stays in eval mode."""
        return super().train(False)

    def forward(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """loss: of `logits` (B, C), or of the class token's of (B, 2, C), with the labels."""
        with torch.no_grad():
            taught = self.teacher(images).float()
        student = (logits[:, -1] if logits.ndim == 3 else logits).float()
        if self.kind == "hard":
            lesson = F.cross_entropy(student, taught.argmax(1))
        else:
            softened, target = ((values / self.temperature).log_softmax(1) for values in (student, taught))
            lesson = self.temperature**2 * F.kl_div(softened, target, reduction="batchmean", log_target=True)
        return (1 - self.alpha) * loss + self.alpha * lesson
