"""Statistics of scores over seeds: numbers -> means with intervals, comparisons with tests, power laws.

A figure that cannot be computed, such as the interval of one score, is NaN.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import gammaln

LEVEL = 0.95
EXACT = 16  # up to so many pairs every one of the 2**n sign flips is counted; beyond, as many drawn ones


class Estimate(NamedTuple):
    """A mean of n scores and its 95 % t-interval."""

    n: int
    mean: float
    low: float
    high: float


class Comparison(NamedTuple):
    """A configuration against the reference.

    Attributes:
        kind: "paired" by seed, "welch" for other seeds, or "single" where the scores do not allow a test.
        n: pairs, or scores of the smaller side.
        difference, low, high: of the means, with the 95 % interval.
        p: two-sided, of the t-test that `kind` names.
        p_flip: two-sided, of the sign-flip permutation test; of pairs only.
        effect: Cohen's d_z of pairs, or d with the mean of both variances.
        hedges: the effect without the bias of small samples.
        p_holm, p_flip_holm: after Holm's correction for the whole family of comparisons.
    """

    kind: str
    n: int
    difference: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_flip: float = math.nan
    effect: float = math.nan
    hedges: float = math.nan
    p_holm: float = math.nan
    p_flip_holm: float = math.nan


class PowerLaw(NamedTuple):
    """error = a * size ** -b, and how far b may be off (half of its 95 % interval)."""

    a: float
    b: float
    margin: float


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent scores and its t-interval; one score has no interval."""
    n, mean = len(values), float(np.mean(values))
    margin = _margin(float(stats.sem(values)), n - 1) if n > 1 else math.nan
    return Estimate(n, mean, mean - margin, mean + margin)


def compare(scores: Mapping[int, float], reference: Mapping[int, float]) -> Comparison:
    """Scores by seed against a reference's: paired where two seeds or more are common, else as Welch does."""
    common = sorted(scores.keys() & reference.keys())
    if len(common) > 1:
        return _paired(np.array([scores[seed] for seed in common]), np.array([reference[seed] for seed in common]))
    return _welch(np.array([*scores.values()]), np.array([*reference.values()]))


def family(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons, with the p-values that Holm's correction for all of them gives."""
    corrected = zip(holm([c.p for c in comparisons]), holm([c.p_flip for c in comparisons]), strict=True)
    return [c._replace(p_holm=p, p_flip_holm=flip) for c, (p, flip) in zip(comparisons, corrected, strict=True)]


def holm(p: Sequence[float]) -> list[float]:
    """p-values after Holm's step-down correction (Holm 1979); those that are NaN are no part of the family."""
    adjusted, largest = [math.nan] * len(p), 0.0
    order = sorted((i for i in range(len(p)) if not math.isnan(p[i])), key=lambda i: p[i])
    for rank, i in enumerate(order):
        adjusted[i] = largest = max(largest, min(1.0, (len(order) - rank) * p[i]))
    return adjusted


def smallest_flip(n: int) -> float:
    """The sign-flip test of n pairs gives no p-value below this."""
    return 2 / 2**n


def power_law(sizes: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """The least-squares line through the logarithms; of two points it has no margin.

    Raises:
        ValueError: fewer than two different sizes, or an error that is not positive.
    """
    if len(set(sizes)) < 2 or min(errors) <= 0:
        raise ValueError("a power law needs two different sizes or more, and errors above 0")
    line = stats.linregress(np.log(sizes), np.log(errors))
    margin = _margin(line.stderr, len(sizes) - 2) if len(sizes) > 2 else math.nan
    return PowerLaw(math.exp(line.intercept), -line.slope, margin)


def size_for(error: float, sizes: Sequence[float], errors: Sequence[float]) -> float:
    """The size at which errors that fall have come down to `error`; lines between the logarithms, NaN beyond them.

    Args:
        error: above 0.
        sizes: ascending.
        errors: of each size.
    """
    points = list(zip(np.log(sizes), np.log(errors), strict=True))
    for (small, high), (large, low) in pairwise(points):
        if high >= math.log(error) >= low:
            share = (high - math.log(error)) / (high - low) if high > low else 0.0
            return float(np.exp(small + share * (large - small)))
    return math.nan


def _paired(scores: np.ndarray, reference: np.ndarray) -> Comparison:
    """Paired t-test, exact sign flips, Cohen's d_z; differences that are all equal have no spread to test with."""
    gaps = scores - reference
    n, mean, spread = len(gaps), float(gaps.mean()), float(gaps.std(ddof=1))
    flips = stats.permutation_test(
        (scores, reference),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=2**EXACT,
        vectorized=True,
        rng=0,
    )
    found = Comparison("paired", n, mean, p_flip=float(flips.pvalue))
    if spread < 1e-9:
        return found
    test = stats.ttest_rel(scores, reference)
    interval = test.confidence_interval(LEVEL)
    return found._replace(
        low=float(interval.low),
        high=float(interval.high),
        p=float(test.pvalue),
        effect=mean / spread,
        hedges=mean / spread * _unbiased(n - 1),
    )


def _welch(scores: np.ndarray, reference: np.ndarray) -> Comparison:
    """Welch's t-test, if both sides have two scores or more that differ."""
    found = Comparison("single", min(len(scores), len(reference)), float(scores.mean() - reference.mean()))
    if found.n < 2 or max(np.ptp(scores), np.ptp(reference)) < 1e-9:
        return found
    test = stats.ttest_ind(scores, reference, equal_var=False)
    interval = test.confidence_interval(LEVEL)
    effect = found.difference / math.sqrt((scores.var(ddof=1) + reference.var(ddof=1)) / 2)
    return found._replace(
        kind="welch",
        low=float(interval.low),
        high=float(interval.high),
        p=float(test.pvalue),
        effect=effect,
        hedges=effect * _unbiased(len(scores) + len(reference) - 2),
    )


def _margin(error: float, df: int) -> float:
    """Half of a t-interval."""
    return float(stats.t.ppf((1 + LEVEL) / 2, df)) * error


def _unbiased(df: int) -> float:
    """Hedges' exact factor (Hedges 1981); with one degree of freedom the effect has no expectation to correct."""
    return math.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else math.nan
