"""Statistics of scores over seeds: numbers -> means with intervals, comparisons with tests, power laws.

A figure that cannot be computed, such as the interval of one score, is NaN.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy import stats
from scipy.special import gammaln

T = TypeVar("T")
Score = float | Fraction  # hits of images are a fraction, so that equal differences are equal

LEVEL = 0.95
ENOUGH = 3  # with two scores an interval would rest on a single degree of freedom
ROUNDING = 2**-21  # of a score: what is less is rounding, since losses and older scores were computed in float32
EXACT = 16  # up to so many pairs every one of the 2**n sign flips is counted; beyond, as many drawn ones


class Estimate(NamedTuple):
    """A mean of n scores, its 95 % t-interval, and the lowest and the highest of the scores."""

    n: int
    mean: float
    low: float
    high: float
    lowest: float
    highest: float

    @property
    def span(self) -> tuple[float, float]:
        """The interval, or where two scores allow none, from one to the other; NaN for one score."""
        return span(self.n, (self.low, self.high), (self.lowest, self.highest))


class Comparison(NamedTuple):
    """A configuration against the reference.

    Attributes:
        kind: "paired" by seed, "welch" for other seeds, or "single" where the scores do not allow a test.
        n: pairs, or scores of the smaller side.
        difference, low, high: of the means (of the pairs alone, if there are pairs), with the 95 % interval.
        p: two-sided, of the t-test that `kind` names.
        p_flip: two-sided, of the sign-flip permutation test; of pairs only.
        effect: Cohen's d_z of pairs, or d with the mean of both variances.
        hedges: the effect without the bias of small samples.
        p_holm, p_flip_holm: after Holm's correction for the whole family of comparisons.
        lowest, highest: of the differences between a score and another that `kind` allows.
        unpaired: scores of a paired comparison whose seed the other side lacks; they do not count in it.
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
    lowest: float = math.nan
    highest: float = math.nan
    unpaired: int = 0

    @property
    def span(self) -> tuple[float, float]:
        """The interval, or where n = 2 allows none, from the lowest to the highest difference; NaN for one score."""
        return span(self.n, (self.low, self.high), (self.lowest, self.highest))


class PowerLaw(NamedTuple):
    """error = a * size ** -b, and how far b may be off (half of its 95 % interval)."""

    a: float
    b: float
    margin: float


def estimate(values: Sequence[Score]) -> Estimate:
    """The mean of independent scores and its t-interval; fewer than three scores, or equal ones, have no interval."""
    n, mean = len(values), float(sum(Fraction(value) for value in values) / len(values))
    varied = n >= ENOUGH and max(values) - min(values) > _noise(*values)
    margin = _margin(float(stats.sem(np.asarray(values, dtype=float))), n - 1) if varied else math.nan
    return Estimate(n, mean, mean - margin, mean + margin, float(min(values)), float(max(values)))


def span(n: int, interval: tuple[float, float], extent: tuple[float, float]) -> tuple[float, float]:
    """What to show of n values beside their mean: the interval of three or more, the extent of two, NaN for one."""
    return interval if n >= ENOUGH else extent if n > 1 else (math.nan, math.nan)


def compare(scores: Mapping[int, Score], reference: Mapping[int, Score]) -> Comparison:
    """Scores by seed against a reference's: paired where enough seeds are common, else as Welch does.

    Two common seeds are enough only where one side has no more than two.
    """
    common = sorted(scores.keys() & reference.keys())
    if len(common) >= ENOUGH or (len(common) == 2 and min(len(scores), len(reference)) == 2):
        found = _paired([scores[seed] for seed in common], [reference[seed] for seed in common])
        return found._replace(unpaired=len(scores) + len(reference) - 2 * len(common))
    return _welch([*scores.values()], [*reference.values()])


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


def power_law(sizes: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """The least-squares line through the logarithms; of two points it has no margin."""
    assert len(set(sizes)) > 1 and min(errors) > 0
    line = stats.linregress(np.log(sizes), np.log(errors))
    margin = _margin(line.stderr, len(sizes) - 2) if len(sizes) > 2 else math.nan
    return PowerLaw(math.exp(line.intercept), -line.slope, margin)


def pareto(items: Iterable[T], *, cost: Callable[[T], float], gain: Callable[[T], float]) -> list[T]:
    """The Pareto front, by cost: items that no other is as good as in both and better in one; of equals the first."""
    best: list[T] = []
    for item in sorted(items, key=lambda item: (cost(item), -gain(item))):
        if not best or gain(item) > gain(best[-1]):
            best.append(item)
    return best


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


def _paired(scores: Sequence[Score], reference: Sequence[Score]) -> Comparison:
    """Paired t-test, exact sign flips, Cohen's d_z; differences that are all equal have no spread to test with."""
    gaps = [Fraction(ours) - Fraction(other) for ours, other in zip(scores, reference, strict=True)]
    n, noise = len(gaps), _noise(*scores, *reference)
    mean = _difference(sum(gaps) / Fraction(n), noise)
    equal = max(gaps) - min(gaps) <= noise
    # As whole numbers, since flips that tie must tie.
    whole = np.array([float(gap * math.lcm(*(gap.denominator for gap in gaps))) for gap in gaps])
    flips = stats.permutation_test(
        (whole, np.zeros(n)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=2**EXACT,
        vectorized=True,
        rng=0,
    )
    lowest, highest = (mean, mean) if equal else (float(min(gaps)), float(max(gaps)))
    found = Comparison("paired", n, mean, p_flip=float(flips.pvalue), lowest=lowest, highest=highest)
    if n < ENOUGH or equal:
        return found
    values = np.array(gaps, dtype=float)
    test = stats.ttest_1samp(values, 0.0)
    return _tested(found, test, effect=mean / float(values.std(ddof=1)), df=n - 1)


def _welch(scores: Sequence[Score], reference: Sequence[Score]) -> Comparison:
    """Welch's t-test, if both sides have three scores or more, and not all the same."""
    noise = _noise(*scores, *reference)
    means = [sum(Fraction(score) for score in side) / Fraction(len(side)) for side in (scores, reference)]
    n, difference = min(len(scores), len(reference)), _difference(means[0] - means[1], noise)
    if n < 2 or all(max(side) - min(side) <= noise for side in (scores, reference)):
        return Comparison("single", n, difference)
    lowest, highest = min(scores) - max(reference), max(scores) - min(reference)
    found = Comparison("welch", n, difference, lowest=float(lowest), highest=float(highest))
    if n < ENOUGH:
        return found
    ours, other = (np.array(side, dtype=float) for side in (scores, reference))
    test = stats.ttest_ind(ours, other, equal_var=False)
    effect = difference / math.sqrt((ours.var(ddof=1) + other.var(ddof=1)) / 2)
    return _tested(found, test, effect=effect, df=len(scores) + len(reference) - 2)


def _tested(found: Comparison, test: Any, *, effect: float, df: int) -> Comparison:
    """With the results of a t-test of scipy, and the size of the effect."""
    interval, p = test.confidence_interval(LEVEL), float(test.pvalue)
    hedges = effect * (math.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / math.sqrt(df / 2))  # Hedges 1981, exact
    return found._replace(low=float(interval.low), high=float(interval.high), p=p, effect=effect, hedges=hedges)


def _noise(*scores: Score) -> float:
    """How much scores of this size may differ by rounding alone."""
    return ROUNDING * max(abs(float(score)) for score in scores)


def _difference(value: Fraction, noise: float) -> float:
    """A difference; one of rounding is none."""
    return 0.0 if abs(float(value)) <= noise else float(value)


def _margin(error: float, df: int) -> float:
    """Half of a t-interval."""
    return float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
