"""Stratified splits: (N,) labels -> the indices of two parts that hold the classes in the same proportions.

Tensors, whose order never changes, are split by a draw; files, which come and go, each by its own name.
"""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from hybrid_vit.utils.errors import UserError


def stratified_split(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split N samples into N - size and size, class by class.

    A class of n samples gives ``size * n / N`` of them to the second part, rounded down or up so that the total is
    exact: where the classes are equally large, their counts differ by at most one. A function of its arguments alone.

    Args:
        labels: (N,) int64 class indices.
        size: number of samples of the second part; 0 leaves it empty.
        seed: of the draw.

    Returns:
        Two sorted int64 index tensors, (N - size,) and (size,), disjoint and together 0..N-1.

    Raises:
        UserError: if size leaves nothing to train on, is smaller than the number of classes, or takes a whole class.
    """
    n = len(labels)
    everything = torch.arange(n)
    if size == 0:
        return everything, everything[:0]
    counts = torch.bincount(labels)
    classes = int((counts > 0).sum())
    if size < classes:
        raise UserError(
            f"data.val_size={size} cannot hold one image of each of {classes} classes; "
            f"use at least {classes}, or 0 for no split"
        )
    if size >= n:
        raise UserError(f"data.val_size={size} leaves nothing of {n} images to train on; use less than {n}")

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
        raise UserError(
            f"data.val_size={size} of {n} images would take all {int(counts[label])} images of class {label}; "
            "use less or give that class more images"
        )

    held_out = _places(labels, counts, shuffled) < take[labels]
    return everything[~held_out], everything[held_out]


def nested_subset(labels: Tensor, size: int, seed: int) -> Tensor:
    """A stratified choice of `size` samples: every smaller choice with the same seed is a part of every larger one.

    One sample of each class comes first, then the classes take turns in proportion to their sizes (Sainte-Laguë's
    method): a class of n samples has about ``size * n / N`` of them chosen.

    Args:
        labels: (N,) int64 class indices.
        size: number of samples, from the number of classes to N.
        seed: of the draw.

    Returns:
        Sorted int64 indices, (size,).
    """
    counts = torch.bincount(labels)
    assert (counts > 0).sum() <= size <= len(labels)
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(labels), generator=generator)
    turn = torch.empty_like(counts)
    turn[torch.randperm(len(counts), generator=generator)] = torch.arange(len(counts))  # of equals, the seed decides
    place = _places(labels, counts, shuffled)
    due = torch.where(place > 0, (place + 0.5) / counts[labels].double(), 0.0)
    order = turn[labels].argsort(stable=True)
    order = order[due[order].argsort(stable=True)]
    return order[:size].sort().values


def split_by_name(names: Sequence[str], labels: Tensor, size: int | None, stream: str) -> tuple[Tensor, Tensor]:
    """Split N files by their own names, so that a file keeps its part when others are added or deleted.

    A file's name and `stream` make a number in [0, 1). Without a size the files below 1/10 are split off: a tenth of
    every class on average, each file for itself. With one, the `size` files of the smallest numbers are.
    Two rules come first. In every class of two files or more the one of the smallest number is split off. In every
    class the one of the largest number is not, so that there is something to train on.

    So adding or deleting a file moves no other file without a size, except in a class that has no number below 1/10,
    or none above: there at most one. With a size it moves at most two others.

    Args:
        names: of the N files, with their classes, such as "cat/1.jpg".
        labels: (N,) int64 class indices.
        size: number of files to split off, or None.
        stream: other splits are drawn from other streams.

    Returns:
        Two sorted int64 index tensors, of the files that stay and of those split off.

    Raises:
        UserError: a size that leaves a class nothing to train on, or too small to hold a file of each class.
    """
    n = len(names)
    number = torch.tensor([_number(f"{stream}/{name}") for name in names], dtype=torch.float64)
    order = number.argsort(stable=True)
    by_class = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    ends = counts.cumsum(0)[counts > 0]
    last = by_class[ends - 1]
    first = by_class[ends - counts[counts > 0]]
    rank = number.clone()
    rank[first] -= 1
    rank[last] = 2  # also where it is the first: the only one of its class
    if size is None:
        taken = rank < 0.1
        return torch.nonzero(~taken).flatten(), torch.nonzero(taken).flatten()
    classes, most = int((counts > 1).sum()), n - len(ends)
    if size < classes:
        raise UserError(
            f"data.val_size={size} cannot hold one image of each of {classes} classes; "
            f"use at least {classes}, or 0 for no split"
        )
    if size > most:
        raise UserError(f"data.val_size={size} of {n} images leaves a class nothing to train on; use at most {most}")
    order = rank.argsort(stable=True)
    return order[size:].sort().values, order[:size].sort().values


def _number(name: str) -> float:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=6).digest(), "big") / 2**48


def _places(labels: Tensor, counts: Tensor, shuffled: Tensor) -> Tensor:
    """(N,) int64: the position of every sample among those of its class, in shuffled order."""
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    places = torch.empty_like(labels)
    places[by_class] = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    return places
