"""Scoring: a network and a loader -> what the evaluators say, and the confusion matrix, over every image of it.

Training ends with this function and `hybrid_vit.evaluate` calls it again, so both report the same numbers.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hybrid_vit.evaluation.metrics import EVALUATORS, Confusion
from hybrid_vit.utils.errors import UserError


def logits_of(
    net: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, object]],
    *,
    normalize: Callable[[Tensor], Tensor],
    device: torch.device,
    bf16: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, C) fp32 logits and (B,) labels of each batch, by `net` in eval mode; the arguments are those of `score`."""
    net.eval()
    dtype = next(net.parameters()).dtype
    for images, labels, _ in batches:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
            logits = net(normalize(images.to(device)).to(dtype)).float()
        yield logits, labels.to(device)


@torch.inference_mode()
def score(
    net: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, object]],
    *,
    normalize: Callable[[Tensor], Tensor],
    num_classes: int,
    device: torch.device,
    parts: Mapping[str, Sequence[int]] | None = None,
    bf16: bool = False,
) -> tuple[dict[str, float], csr_array]:
    """Score `net` in eval mode on batches of (B, 3, H, W) uint8 images, (B,) labels and anything else, in this process.

    Args:
        parts: the classes of each of the data sets that were joined, as for `score_parts`.

    Returns:
        The values of all `EVALUATORS` and of `score_parts`, and the counts (num_classes, num_classes) int64, true class
        first. Their trace is the number of top-1 hits.

    Raises:
        UserError: the loss is not finite, so the scores mean nothing.
    """
    evaluators = {name: make(num_classes) for name, make in EVALUATORS.items()}
    for evaluator in evaluators.values():
        if isinstance(evaluator, nn.Module):
            evaluator.to(device)
    for logits, labels in logits_of(net, batches, normalize=normalize, device=device, bf16=bf16):
        for evaluator in evaluators.values():
            evaluator.update(logits, labels)
    values = {key: value for evaluator in evaluators.values() for key, value in evaluator.compute().items()}
    if not math.isfinite(values["loss"]):
        raise UserError(
            f"the loss on the {values['images']} images is {values['loss']}, so their scores mean nothing; "
            "train with a smaller optim.lr or with accelerator.precision=32"
        )
    confusion = evaluators["confusion"]
    assert isinstance(confusion, Confusion)
    counts = confusion.counts()
    return values | score_parts(counts, parts or {}), counts


def per_class(confusion: csr_array, class_names: list[str]) -> list[dict[str, float | str]]:
    """A row a class, worst first: its name, images, top-1 in per cent, and the class it is most often taken for.

    The top-1 of a class without images is NaN, and it comes last.
    """
    rows: list[dict[str, float | str]] = []
    for index, name in enumerate(class_names):
        row = slice(*confusion.indptr[index : index + 2])
        counts = dict(zip(confusion.indices[row].tolist(), confusion.data[row].tolist(), strict=True))
        images, hits = sum(counts.values()), counts.pop(index, 0)
        other = min(counts, key=lambda other: (-counts[other], other), default=None)
        rows.append(
            {
                "class": name,
                "images": images,
                "top1": 100 * hits / images if images else math.nan,
                "taken_for": "" if other is None else class_names[other],
            }
        )
    return sorted(rows, key=lambda row: (not row["images"], row["top1"]))


def score_parts(confusion: csr_array, parts: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Of data sets that were joined, what each scores in per cent of its own images.

    Args:
        confusion: (C, C) counts, true class first.
        parts: the classes of each.

    Returns:
        ``{"NAME_top1": ..., "NAME_crossed": ...}``: right, and taken for a class of another of the data sets.
    """
    scores = {}
    for name, classes in parts.items():
        rows = confusion[[*classes]]
        images, own = rows.sum(), rows[:, [*classes]]
        if images:
            scores[f"{name}_top1"] = 100 * float(own.diagonal().sum() / images)
            scores[f"{name}_crossed"] = 100 * float(1 - own.sum() / images)
    return scores


def forgotten(source: Mapping[str, Any] | None, scores: Mapping[str, float]) -> dict[str, float]:
    """What a network has lost on the data set of its source, where that is one of those that were joined.

    Args:
        source: its "data" and "test_top1" in per cent, or None.
        scores: of the network, with the names of a summary.

    Returns:
        ``{"test_NAME_forgotten": points}``, or nothing.
    """
    if not source or source["test_top1"] is None or f"test_{source['data']}_top1" not in scores:
        return {}
    return {f"test_{source['data']}_forgotten": source["test_top1"] - scores[f"test_{source['data']}_top1"]}


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
