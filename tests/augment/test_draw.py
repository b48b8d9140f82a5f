"""The random numbers of a batch: spread, determinism, and shares that add up to the whole."""

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hybrid_vit.augment import Draw, derive_seed

METHODS: dict[str, Callable[[Draw], Tensor]] = {
    "uniform": lambda d: d.uniform(-1.0, 2.0, shape=(3,)),
    "integers": lambda d: d.integers(7, shape=(2,)),
    "bernoulli": lambda d: d.bernoulli(0.3),
    "permutation": lambda d: d.permutation(5),
    "noise": lambda d: d.noise(torch.empty(d.size, 2, 3)),
}


def test_derived_seeds_are_distinct_and_spread() -> None:
    seeds = [derive_seed(s, epoch, step) for s in range(5) for epoch in range(20) for step in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    for bit in range(63):
        ones = sum(seed >> bit & 1 for seed in seeds)
        assert abs(ones - 2500) < 5 * 35.4, f"bit {bit} is 1 in {ones} of 5000"


def test_derived_seed_depends_on_every_part_and_their_order() -> None:
    assert (
        len({derive_seed(1, 2, 3), derive_seed(1, 3, 2), derive_seed(2, 1, 3), derive_seed(1, 2), derive_seed(1)}) == 5
    )
    assert derive_seed(0, 0) != derive_seed(0, 0, 0)
    assert derive_seed(-1) != derive_seed(0)
    assert derive_seed(3, 4, 5) == derive_seed(3, 4, 5)


@pytest.mark.parametrize("name", METHODS)
def test_shares_add_up_to_the_whole(name: str) -> None:
    whole = METHODS[name](Draw(5, 11))
    parts = [METHODS[name](Draw(5, 11, share)) for share in (slice(0, 4), slice(4, 11))]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(METHODS[name](Draw(5, 11, slice(1, None, 3))), whole[1::3])
    assert torch.equal(METHODS[name](Draw(5, 11, torch.tensor([8, 2]))), whole[[8, 2]])


@pytest.mark.parametrize("name", METHODS)
def test_a_draw_depends_on_its_seed_and_its_place(name: str) -> None:
    first, again, other = Draw(5, 200), Draw(5, 200), Draw(6, 200)
    value = METHODS[name](first)
    assert len(value) == first.size == 200
    assert torch.equal(value, METHODS[name](again))
    assert not torch.equal(value, METHODS[name](other))
    assert not torch.equal(value, METHODS[name](first)), "the next draw repeats the last"


def test_a_pickled_draw_goes_on_where_it_was() -> None:
    draw = Draw(5, 9, slice(2, 7))
    draw.uniform()
    copy = pickle.loads(pickle.dumps(draw))
    assert torch.equal(copy.uniform(), draw.uniform())


def test_distributions() -> None:
    draw = Draw(0, 20_000)
    uniform = draw.uniform(2.0, 4.0)
    assert 2.0 <= uniform.min() < 2.01 and 3.99 < uniform.max() < 4.0 and abs(uniform.mean() - 3.0) < 0.02
    counts = torch.bincount(draw.integers(7), minlength=7)
    assert (counts - 20_000 / 7).abs().max() < 5 * (20_000 / 7) ** 0.5
    assert abs(draw.bernoulli(0.3).float().mean() - 0.3) < 0.02
    assert not draw.bernoulli(0.0).any() and draw.bernoulli(1.0).all()
    permutation = draw.permutation(4)
    assert torch.equal(permutation.sort(dim=1).values, torch.arange(4).expand(20_000, 4))
    code = permutation @ torch.tensor([64, 16, 4, 1])
    orders, counts = code.unique(return_counts=True)
    assert len(orders) == 24 and (counts - 20_000 / 24).abs().max() < 5 * (20_000 / 24) ** 0.5
    noise = draw.noise(torch.empty(20_000, 3))
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1.0) < 0.02


def test_subset() -> None:
    rows, whole = Draw(3, 1000).subset(0.25)
    assert 190 < len(rows) < 310 and whole.size == len(rows)
    value = whole.uniform()
    assert len(value.unique()) == len(value)
    for share in (slice(0, 300), slice(300, 1000), slice(1, None, 4)):
        local = torch.arange(1000)[share]
        part_rows, part = Draw(3, 1000, share).subset(0.25)
        mine = torch.isin(rows, local)
        assert torch.equal(local[part_rows], rows[mine])
        assert torch.equal(part.uniform(), value[mine])
    rows, none = Draw(3, 8).subset(0.0)
    assert len(rows) == 0 and none.noise(torch.empty(0, 3)).shape == (0, 3)


def test_batch_numbers_are_the_same_in_every_share() -> None:
    numbers = []
    for share in (slice(0, 4), slice(4, 8)):
        draw = Draw(1, 8, share)
        numbers.append((draw.batch_uniform(), draw.batch_integer(1000), draw.batch_beta(0.8)))
    assert numbers[0] == numbers[1]
    betas = torch.tensor([Draw(seed, 1).batch_beta(0.2) for seed in range(4000)])
    assert abs(betas.mean() - 0.5) < 0.04
    assert abs(betas.var() - 0.25 / 1.4) < 0.01  # the variance of Beta(a, a) is 1 / (4 (2 a + 1))
