"""Stratified splits: (N,) labels -> the indices of two parts that hold the classes in the same proportions."""

import torch
from torch import Tensor


def stratified_split(labels: Tensor, size: int, seed: int, name: str = "size") -> tuple[Tensor, Tensor]:
    """Split N samples into N - size and size, class by class.

    A class of n samples gives ``size * n / N`` of them to the second part, rounded down or up so that the total is
    exact: where the classes are equally large, their counts differ by at most one. A function of its arguments alone.

    Args:
        labels: (N,) int64 class indices.
        size: number of samples of the second part; 0 leaves it empty.
        seed: of the draw.
        name: what an error calls the size.

    Returns:
        Two sorted int64 index tensors, (N - size,) and (size,), disjoint and together 0..N-1.

    Raises:
        ValueError: if size leaves nothing to train on, is smaller than the number of classes, or takes a whole class.
    """
    n = len(labels)
    everything = torch.arange(n)
    if size == 0:
        return everything, everything[:0]
    counts = torch.bincount(labels)
    classes = int((counts > 0).sum())
    if size < classes:
        raise ValueError(
            f"{name}={size} cannot hold one image of each of {classes} classes; "
            f"use at least {classes}, or 0 for no split"
        )
    if size >= n:
        raise ValueError(f"{name}={size} leaves nothing of {n} images to train on; use less than {n}")

    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(n, generator=generator)
    take = counts * size // n
    remainders = counts * size % n
    # The classes with the largest remainders give one more; the seed decides between equal ones.
    tied = torch.randperm(len(counts), generator=generator)
    first = tied[remainders[tied].argsort(descending=True, stable=True)]
    take[first[: size - int(take.sum())]] += 1
    emptied = torch.nonzero((take == counts) & (counts > 0)).flatten()
    if len(emptied):
        label = int(emptied[0])
        raise ValueError(
            f"{name}={size} of {n} images would take all {int(counts[label])} images of class {label}; "
            "use less or give that class more images"
        )

    # Position of every sample within its class, in shuffled order: the first `take` of each class are split off.
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    place = torch.empty(n, dtype=torch.int64)
    place[by_class] = everything - (counts.cumsum(0) - counts)[labels[by_class]]
    held_out = place < take[labels]
    return everything[~held_out], everything[held_out]
