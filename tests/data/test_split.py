"""Stratified splits: exact sizes, the same proportions of classes, a function of the seed."""

import pytest
import torch

from hybrid_vit.data.split import stratified_split


def labels(*counts: int) -> torch.Tensor:
    """Shuffled labels with so many of each class."""
    ordered = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return ordered[torch.randperm(len(ordered), generator=torch.Generator().manual_seed(7))]


@pytest.mark.parametrize("size", [10, 33, 100, 400])
@pytest.mark.parametrize("counts", [(50,) * 10, (5, 95, 40, 60, 100, 17, 83, 30, 30, 40), (0, 250, 250)])
def test_parts_are_disjoint_complete_and_proportional(counts: tuple[int, ...], size: int) -> None:
    y = labels(*counts)
    train, val = stratified_split(y, size, seed=3)
    assert (len(train), len(val)) == (500 - size, size)
    assert torch.cat([train, val]).sort().values.equal(torch.arange(500))
    assert train.equal(train.sort().values) and val.equal(val.sort().values)
    taken = torch.bincount(y[val], minlength=len(counts))
    assert ((taken - torch.tensor(counts) * size / 500).abs() < 1).all()


def test_counts_of_equal_classes_differ_by_at_most_one() -> None:
    y = labels(*[40] * 7)
    for seed in range(20):
        _, val = stratified_split(y, 38, seed)
        assert sorted(torch.bincount(y[val]).tolist()) == [5, 5, 5, 5, 6, 6, 6]


def test_is_a_function_of_the_seed() -> None:
    y = labels(*[40] * 7)
    first, again, other = (stratified_split(y, 38, seed)[1] for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    assert len({tuple(torch.bincount(y[stratified_split(y, 38, seed)[1]]).tolist()) for seed in range(20)}) > 5


def test_every_sample_is_equally_likely() -> None:
    y = labels(20, 40)
    hits = torch.zeros(60)
    for seed in range(2000):
        hits[stratified_split(y, 15, seed)[1]] += 1
    # A quarter of 2,000 with standard deviation 19; 60 samples stay within 4.5 of them.
    assert (hits - 500).abs().max() < 90


def test_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    stratified_split(labels(9, 9), 4, seed=0)
    assert torch.get_rng_state().equal(before)


def test_size_zero_leaves_everything() -> None:
    train, val = stratified_split(labels(3, 3), 0, seed=0)
    assert train.tolist() == [0, 1, 2, 3, 4, 5]
    assert val.tolist() == []


@pytest.mark.parametrize(
    ("counts", "size", "sentence"),
    [
        ((5, 5), 1, "val_size=1 cannot hold one image of each of 2 classes; use at least 2, or 0 for no split"),
        ((5, 5), 10, "val_size=10 leaves nothing of 10 images to train on; use less than 10"),
        ((5, 5), -1, "val_size=-1 cannot hold one image of each of 2 classes; use at least 2, or 0 for no split"),
        (
            (1, 3),
            3,
            "val_size=3 of 4 images would take all 1 images of class 0; use less or give that class more images",
        ),
    ],
)
def test_impossible_sizes(counts: tuple[int, ...], size: int, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        stratified_split(labels(*counts), size, seed=0, name="val_size")
    assert str(caught.value) == sentence
