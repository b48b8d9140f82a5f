"""Scoring: a network and a loader -> loss, top-1, top-5 and the confusion matrix over every image of it.

Training ends with this function and `hybrid_vit.evaluate` calls it again, so both report the same numbers.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchmetrics.classification import MulticlassConfusionMatrix

from hybrid_vit.evaluation.metrics import Scores


@torch.inference_mode()
def score(
    net: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, object]],
    *,
    normalize: Callable[[Tensor], Tensor],
    num_classes: int,
    device: torch.device,
    bf16: bool = False,
) -> tuple[dict[str, float], Tensor]:
    """Score `net` in eval mode on batches of (B, 3, H, W) uint8 images, (B,) labels and anything else, in this process.

    Returns:
        {"loss": nats, "top1": per cent, "top5": per cent} and the counts (num_classes, num_classes), true class first.
    """
    scores = Scores(alone=True).to(device)
    confusion = MulticlassConfusionMatrix(num_classes, validate_args=False, sync_on_compute=False).to(device)
    net.eval()
    dtype = next(net.parameters()).dtype
    for images, labels, _ in batches:
        images, labels = normalize(images.to(device)).to(dtype), labels.to(device)
        with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
            logits = net(images).float()
        scores.update(logits, labels)
        confusion.update(logits, labels)
    return {key: float(value) for key, value in scores.compute().items()}, confusion.compute().cpu()


def per_class(confusion: Tensor, class_names: list[str]) -> list[dict[str, float | str]]:
    """A row a class, worst first: its name, images, top-1 in per cent, and the class it is most often taken for."""
    rows: list[dict[str, float | str]] = []
    for index, name in enumerate(class_names):
        counts = confusion[index].clone()
        images, hits = int(counts.sum()), int(counts[index])
        counts[index] = -1
        other = int(counts.argmax())
        mistaken = class_names[other] if counts[other] > 0 else ""
        rows.append(
            {
                "class": name,
                "images": images,
                "top1": 100 * hits / images if images else float("nan"),
                "taken_for": mistaken,
            }
        )
    return sorted(rows, key=lambda row: row["top1"])


def count_macs(net: nn.Module, image_size: int) -> int:
    """Multiply-accumulates of one image by torch's counter: convolutions and matrix products, attention's included."""
    training = net.training
    net.eval()  # no running statistics from an empty image
    parameter = next(net.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=parameter.device, dtype=parameter.dtype)
    # Written out, since the counter does not see into a CPU's fused attention, whosever layer calls it.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        net(image)
    net.train(training)
    return counter.get_total_flops() // 2
