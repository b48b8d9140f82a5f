"""Stratified splits: exact sizes, the same proportions of classes, a function of the seed; files by their names."""

import hashlib

import pytest
import torch

from hybrid_vit.data.split import nested_subset, split_by_name, stratified_split


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
        ((5, 5), 1, "data.val_size=1 cannot hold one image of each of 2 classes; use at least 2, or 0 for no split"),
        ((5, 5), 10, "data.val_size=10 leaves nothing of 10 images to train on; use less than 10"),
        ((5, 5), -1, "data.val_size=-1 cannot hold one image of each of 2 classes; use at least 2, or 0 for no split"),
        (
            (1, 3),
            3,
            "data.val_size=3 of 4 images would take all 1 images of class 0; use less or give that class more images",
        ),
    ],
)
def test_impossible_sizes(counts: tuple[int, ...], size: int, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        stratified_split(labels(*counts), size, seed=0)
    assert str(caught.value) == sentence


def checksum(indices: torch.Tensor) -> str:
    return hashlib.sha256(indices.numpy().tobytes()).hexdigest()[:16]


# What published runs were trained on: (classes, images of each, seed) -> the split of 5,000, then the subsets.
PUBLISHED = {
    (100, 500, 0): "64cfc48a06e2f117 589564b6a4ba5cec 20e8022d83f41c12 1362f734d59c786f c476f07cb1cb6bf3 "
    "ff89b7654eabb022",
    (100, 500, 1): "ddb83d4a4979c77e 83345cc1844b390e 25a17ac8bf4b9445 d7e76e61188ce16e fb212ff55b0c3c59 "
    "fafd3776455dad72",
    (10, 5000, 0): "3f52c8b007e8502a c217273c5e199497 4d6016f5860f397a 4ecb9c3ca392de04 369245f556ee1f10 "
    "68349bce7baa3f1c",
    (10, 5000, 1): "396e81341067a10e 69ff4d5b69b9cd6d 119f553e37bcf7f7 236c09e37c5938e8 b9c7cea22dfcf012 "
    "cc40f006da069856",
}


@pytest.mark.parametrize(("classes", "images", "seed"), PUBLISHED)
def test_published_splits_and_subsets_stay(classes: int, images: int, seed: int) -> None:
    y = labels(*[images] * classes)
    train, _ = stratified_split(y, 5000, seed)
    subsets = [nested_subset(y[train], round(share * 45_000), seed) for share in (0.01, 0.05, 0.1, 0.25, 0.5)]
    assert [checksum(indices) for indices in (train, *subsets)] == PUBLISHED[classes, images, seed].split()


@pytest.mark.parametrize("counts", [(7, 57, 38, 5, 54, 57), (1, 1, 200), (50,) * 4, (0, 3, 9)])
def test_smaller_subsets_are_parts_of_larger_ones(counts: tuple[int, ...]) -> None:
    y, n = labels(*counts), sum(counts)
    classes = sum(count > 0 for count in counts)
    for seed in range(3):
        smaller: set[int] = set()
        for size in range(classes, n + 1):
            indices = nested_subset(y, size, seed)
            assert indices.tolist() == sorted(indices.tolist()) and len(indices) == size
            assert smaller < set(indices.tolist())
            smaller = set(indices.tolist())
            taken = torch.bincount(y[indices], minlength=len(counts))
            expected = torch.tensor(counts) * size / n
            assert ((taken > 0) == (torch.tensor(counts) > 0)).all()
            assert ((taken - expected).abs() < 1.5 + (expected < 1).sum()).all()  # one of each costs the others


def test_a_file_alone_decides_where_it_is() -> None:
    names = [f"{'ab'[i % 2]}/{i}.png" for i in range(2000)]
    y = torch.arange(2000) % 2
    kept, taken = split_by_name(names, y, None, "test")
    assert torch.cat([kept, taken]).sort().values.equal(torch.arange(2000))
    assert 146 < len(taken) < 254  # a tenth, and four standard deviations
    half, _ = split_by_name(names[:1000], y[:1000], None, "test")
    assert half.equal(kept[kept < 1000])
    other = split_by_name(names, y, None, "val 0")[1]
    assert len(set(other.tolist()) & set(taken.tolist())) < 50  # another stream; 20 by chance


def test_sizes_of_a_split_by_name() -> None:
    names, y = ["a/1", "a/2", "a/3", "b/1", "b/2", "c/1"], torch.tensor([0, 0, 0, 1, 1, 2])
    for size in (2, 3):
        kept, taken = split_by_name(names, y, size, "test")
        assert (len(kept), len(taken)) == (6 - size, size)
        assert set(y[kept].tolist()) == {0, 1, 2} and set(y[taken].tolist()) == {0, 1}
    for size, sentence in (
        (1, "data.val_size=1 cannot hold one image of each of 2 classes; use at least 2, or 0 for no split"),
        (4, "data.val_size=4 of 6 images leaves a class nothing to train on; use at most 3"),
    ):
        with pytest.raises(ValueError) as caught:
            split_by_name(names, y, size, "test")
        assert str(caught.value) == sentence
