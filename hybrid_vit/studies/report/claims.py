"""What a comparison allows one to say: its numbers -> a sentence; a metric -> its unit and direction."""

import math

from hybrid_vit.evaluation.statistics import ENOUGH, Comparison

ALPHA = 0.05


def unit(metric: str) -> str:
    """What a score is counted in."""
    return "nats" if metric.endswith("loss") else "points"


def lower_is_better(metric: str) -> bool:
    """Whether the best score is the lowest."""
    return metric.endswith(("loss", "ece", "crossed", "forgotten"))


def written(value: float, metric: str, sign: str = "") -> str:
    """A score, or with the sign "+" a difference of scores, to four places in nats and to two in points."""
    places = 4 if unit(metric) == "nats" else 2
    return f"{round(value, places) + 0.0:{sign}.{places}f}"  # no negative zero


def told_apart(found: Comparison) -> bool:
    """Whether the data tell a configuration from the reference: enough of them, and Holm's p-value is small."""
    return found.n >= ENOUGH and found.p_holm < ALPHA


def sentence(label: str, reference: str, metric: str, found: Comparison) -> str:
    """One comparison in plain words, no stronger than the data."""
    said = claim(label, reference, metric, found)
    if not found.unpaired:
        return said
    runs = "1 run" if found.unpaired == 1 else f"{found.unpaired} runs"
    return (
        f"{said} The difference is that of the pairs; the means of each configuration also count {runs} whose seed the "
        "other lacks."
    )


def claim(label: str, reference: str, metric: str, found: Comparison) -> str:
    """What a comparison says."""
    difference, low, high, lowest, highest = (
        written(value, metric, "+") for value in (found.difference, found.low, found.high, found.lowest, found.highest)
    )
    what = f"{label} against {reference}: {difference} {unit(metric)}"
    if found.kind == "single":
        why = "one run on a side" if found.n < 2 else "scores without spread"
        return f"{what}; {why}, so nothing can be said about other seeds: cannot be told apart with n = {found.n}."
    pairs = (
        f"n = {found.n} pairs" if found.kind == "paired" else f"seeds differ, so Welch; n = {found.n} or more a side"
    )
    if found.kind == "paired" and found.lowest == found.highest:
        return (
            f"{what}, by exactly as much in each pair ({pairs}), so that no interval can be estimated: "
            f"cannot be told apart with n = {found.n}.{_floor(found)}"
        )
    if found.n < ENOUGH:
        return (
            f"{what}, from {lowest} to {highest} ({pairs}), too few for an interval: "
            f"cannot be told apart with n = {found.n}.{_floor(found)}"
        )
    numbers = f"{what}, 95 % interval {low} to {high} ({pairs})"
    if told_apart(found):
        side = "higher" if found.difference > 0 else "lower"
        return f"{numbers}: {side}, by the t-test p {equation(found.p_holm)} after Holm.{_floor(found)}"
    if found.low <= 0 <= found.high:
        why = "the interval holds 0"
    else:
        why = f"the interval alone leaves out 0, but among all comparisons p {equation(found.p_holm)} after Holm"
    return f"{numbers}; {why}: cannot be told apart with n = {found.n}."


def shown_p(p: float) -> str:
    """A p-value with three digits, or as many as show on which side of ALPHA it is; nothing for none."""
    if math.isnan(p):
        return ""
    texts = (f"{p:.{digits}g}" for digits in range(3, 18))
    return "< 0.0001" if p < 1e-4 else next(text for text in texts if (float(text) < ALPHA) == (p < ALPHA))


def equation(p: float) -> str:
    """ "= 0.03" or "< 0.0001"."""
    return shown_p(p) if p < 1e-4 else f"= {shown_p(p)}"


def _floor(found: Comparison) -> str:
    """What a sign-flip test of so few pairs could say at best."""
    floor = 2 / 2**found.n
    if found.kind != "paired" or floor <= ALPHA:
        return ""
    return f" By sign flips the p-value of {found.n} pairs cannot fall under 2/2^{found.n} = {floor:.3g}."
