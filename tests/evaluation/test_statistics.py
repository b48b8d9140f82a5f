"""Statistics against known data, against scipy and by hand; how often an interval holds the truth."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hybrid_vit.evaluation.statistics import Comparison, compare, estimate, family, holm, pareto, power_law, size_for

# Hours of sleep gained with two drugs by the same ten patients (Student 1908; R's `sleep`).
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def seeds(values: list[float], first: int = 0) -> dict[int, float]:
    return dict(enumerate(values, first))


def test_students_sleep() -> None:
    found = compare(seeds(SECOND), seeds(FIRST))
    assert (found.kind, found.n) == ("paired", 10)
    assert found.difference == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)  # R: t.test(paired = TRUE)
    assert found.p == pytest.approx(0.00283289, abs=1e-7)
    assert found.effect == pytest.approx(1.2845576, abs=1e-6)
    assert found.hedges == pytest.approx(1.2845576 * (1 - 3 / (4 * 9 - 1)), abs=2e-3)


def test_welch_where_seeds_do_not_match() -> None:
    found = compare(seeds(SECOND), seeds(FIRST, first=100))
    assert (found.kind, found.n) == ("welch", 10)
    assert (found.low, found.high) == pytest.approx((-0.2054832, 3.3654832), abs=1e-6)  # R: t.test
    assert found.p == pytest.approx(0.07939414, abs=1e-7)
    assert math.isnan(found.p_flip)


def test_one_common_seed_is_no_pair() -> None:
    assert compare({0: 1.0, 1: 2.0, 2: 4.0}, {2: 1.0, 3: 2.0}).kind == "welch"


def test_two_common_seeds_do_not_waste_the_others() -> None:
    ten, other = seeds([float(i) for i in range(10)]), seeds([i + 0.5 for i in range(10)], first=8)
    assert compare(ten, other).kind == "welch"
    assert compare(ten, seeds([0.0, 3.0], first=8)).kind == "paired"  # the other side has no more


def test_pairs_are_of_the_same_seed() -> None:
    found = compare({2: 12.0, 0: 10.5, 1: 21.0, 9: 1000.0}, {0: 10.0, 1: 20.0, 2: 10.0, 8: 0.0})
    assert (found.n, found.difference) == (3, pytest.approx((0.5 + 1 + 2) / 3))


@pytest.mark.parametrize(
    ("gaps", "p"),
    [
        ([1.0, 2.0], 2 / 4),
        ([1.0, 2.0, 4.0], 2 / 8),
        ([1.0, 2.0, -4.0], 8 / 8),  # |sum| of every flip is 1, 3, 5 or 7, and of the data 1
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2 / 64),
        ([-1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 4 / 64),
    ],
)
def test_sign_flips_are_counted_one_by_one(gaps: list[float], p: float) -> None:
    assert compare(seeds(gaps), seeds([0.0] * len(gaps))).p_flip == pytest.approx(p)


def test_one_run_allows_no_test() -> None:
    found = compare({0: 51.0}, {0: 50.0})
    assert (found.kind, found.n, found.difference) == ("single", 1, 1.0)
    assert all(math.isnan(value) for value in found[3:-1])


def test_differences_without_spread_have_no_interval() -> None:
    found = compare({0: 1.5, 1: 2.5, 2: 3.5}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert (found.difference, found.p_flip) == (0.5, 0.25)
    assert all(math.isnan(value) for value in (found.low, found.high, found.p, found.effect))
    assert compare({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p_flip == 1.0


def rounded(score: float) -> float:
    return float(np.float32(score))


def exact(score: float) -> Fraction:
    return Fraction(score).limit_denominator(359)


@pytest.mark.parametrize("kind", [float, rounded, exact])
def test_one_image_more_in_each_pair_has_no_spread(kind: Callable[[float], Any]) -> None:
    hits = (354, 351, 349)
    more, fewer = ({seed: kind(100 * (n - less) / 359) for seed, n in enumerate(hits)} for less in (0, 1))
    found = compare(more, fewer)
    assert found.difference == pytest.approx(100 / 359, rel=1e-4)
    assert math.isnan(found.p) and math.isnan(found.low)
    assert found.p_flip == 0.25
    assert found.lowest == found.highest == found.difference


def test_a_difference_of_rounding_is_none() -> None:
    a, b = (dict(enumerate(values)) for values in ((16.43, 16.5, 16.36), (16.4300003, 16.4999998, 16.3600002)))
    assert compare(a, b).difference == 0
    assert compare(a, {seed + 9: score for seed, score in b.items()}).difference == 0
    assert estimate([Fraction(1, 3)] * 3).mean == estimate([Fraction(1, 3)] * 7).mean


def test_flips_of_hits_that_tie_are_counted_as_ties() -> None:
    gaps = [Fraction(100, 359), Fraction(-100, 359), Fraction(100, 359), Fraction(200, 359), Fraction(-100, 359)]
    found = compare(dict(enumerate(gaps)), dict.fromkeys(range(5), Fraction(0)))
    sums = [abs(sum(sign * gap for sign, gap in zip(signs, gaps, strict=True))) for signs in product((1, -1), repeat=5)]
    assert found.p_flip == sum(total >= abs(sum(gaps)) for total in sums) / 32


def test_two_scores_have_a_range_and_no_interval() -> None:
    for first in (0, 7):
        found = compare({0: 52.0, 1: 53.5}, {first: 50.0, first + 1: 51.0})
        assert found.span == ((2.0, 2.5) if first == 0 else (1.0, 3.5))
        assert math.isnan(found.low) and math.isnan(found.p) and math.isnan(found.effect)


def test_runs_without_a_partner_are_counted() -> None:
    assert compare({0: 1.0, 1: 2.0, 2: 9.0, 3: 1.0}, {0: 1.0, 1: 2.5, 2: 3.0, 6: 3.0, 7: 3.0}).unpaired == 3
    assert compare({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.5}).unpaired == 0


def test_hedges_correction() -> None:
    three = compare({0: 1.0, 1: 2.0, 2: 3.0}, {0: 0.0, 1: 0.0, 2: 0.0})
    assert three.hedges / three.effect == pytest.approx(math.gamma(1) / (math.sqrt(1) * math.gamma(0.5)))


def test_holm() -> None:
    # The worked example of R's documentation and textbooks: 0.01, 0.04, 0.03, 0.005.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with_none = holm([0.02, math.nan, 0.03])
    assert (with_none[0], with_none[2]) == pytest.approx((0.04, 0.04))
    assert math.isnan(with_none[1])


def test_a_family_is_corrected_for_both_tests() -> None:
    found = family([Comparison("paired", 9, 1.0, p=p, p_flip=p / 2) for p in (0.04, 0.01)])
    assert [c.p_holm for c in found] == pytest.approx([0.04, 0.02])
    assert [c.p_flip_holm for c in found] == pytest.approx([0.02, 0.01])


def test_estimate() -> None:
    found, interval = estimate(FIRST), stats.ttest_1samp(FIRST, 0).confidence_interval(0.95)
    assert (found.n, found.mean) == (10, pytest.approx(0.75))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.span == (found.low, found.high)
    two = estimate([14.1, 20.8])
    assert (two.n, two.mean, two.span) == (2, pytest.approx(17.45), (14.1, 20.8))
    assert math.isnan(two.low)
    assert estimate([3.0])[:2] == (1, 3.0)
    assert all(map(math.isnan, estimate([3.0]).span))
    assert all(map(math.isnan, estimate([0.1 + 0.2, 0.3, 0.3]).span))  # equal but for rounding


@pytest.mark.parametrize("n", [3, 5])
def test_an_interval_holds_the_truth_in_95_of_100_samples(n: int) -> None:
    samples = np.random.default_rng(n).normal(70, 0.4, (2000, n))
    intervals = [estimate(sample) for sample in samples]
    assert np.mean([found.low <= 70 <= found.high for found in intervals]) == pytest.approx(0.95, abs=0.015)


def test_the_interval_of_a_difference_holds_the_truth_in_95_of_100_samples() -> None:
    random = np.random.default_rng(1)
    shared = random.normal(70, 2, (300, 4))  # what a seed does to both is large, and cancels
    pairs = zip(shared + random.normal(0.5, 0.3, (300, 4)), shared, strict=True)
    found = [compare(seeds(list(a)), seeds(list(b))) for a, b in pairs]
    assert np.mean([c.low <= 0.5 <= c.high for c in found]) == pytest.approx(0.95, abs=0.035)
    assert np.mean([c.high - c.low for c in found]) < 1.5


def test_the_size_for_an_error_lies_between_its_neighbours() -> None:
    sizes, errors = [100, 400, 1600], [80.0, 40.0, 20.0]
    assert size_for(40, sizes, errors) == pytest.approx(400)
    assert size_for(40 * 2**0.5, sizes, errors) == pytest.approx(200)
    assert math.isnan(size_for(90, sizes, errors)) and math.isnan(size_for(10, sizes, errors))
    assert size_for(50, [100, 200], [50.0, 50.0]) == pytest.approx(100)


def test_a_power_law_is_found_again() -> None:
    sizes = np.array([1000, 2000, 4000, 4000, 8000])
    law = power_law(sizes, 300 * sizes**-0.25)
    assert (law.a, law.b, law.margin) == pytest.approx((300, 0.25, 0), abs=1e-6)
    noisy = 300 * sizes**-0.25 * np.exp([0.01, -0.02, 0.02, 0.0, -0.01])
    slope = stats.linregress(np.log(sizes), np.log(noisy))
    assert power_law(sizes, noisy).margin == pytest.approx(stats.t.ppf(0.975, 3) * slope.stderr)
    assert math.isnan(power_law([100, 200], [50.0, 40.0]).margin)


def test_the_pareto_front_is_what_nothing_betters() -> None:
    points = [(1, 50), (2, 49), (2, 60), (3, 60), (4, 61), (9, 10)]
    assert pareto(points, cost=lambda p: p[0], gain=lambda p: p[1]) == [(1, 50), (2, 60), (4, 61)]
    assert pareto(points, cost=lambda p: p[0], gain=lambda p: -p[1]) == [(1, 50), (2, 49), (9, 10)]
    equal = [(1, 5, "first"), (1, 5, "second")]
    assert pareto(equal, cost=lambda p: p[0], gain=lambda p: p[1]) == equal[:1]
