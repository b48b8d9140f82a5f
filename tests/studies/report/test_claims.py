"""A sentence claims no more than its numbers."""

import pytest

from hybrid_vit.evaluation.statistics import Comparison, compare, family
from hybrid_vit.studies.report.claims import lower_is_better, sentence, told_apart, written


def said(scores: dict[int, float], reference: dict[int, float], metric: str = "test_top1", others: int = 0) -> str:
    found = family([compare(scores, reference)] * (1 + others))[0]
    return sentence("new", "old", metric, found)


OLD = {0: 50.0, 1: 51.0, 2: 52.0, 3: 53.0, 4: 54.0, 5: 55.0}


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({0: 52.0}, "-0.50 points; one run on a side, so nothing can be said about other seeds"),
        (
            {0: 52.0, 1: 53.01},
            "from +2.00 to +2.01 (n = 2 pairs), too few for an interval: cannot be told apart with n = 2. By sign",
        ),
        ({0: 52.0, 1: 50.0, 2: 53.0}, "the interval holds 0: cannot be told apart with n = 3"),
        ({0: 52.0, 1: 53.0}, "by exactly as much in each pair (n = 2 pairs), so that no interval can be estimated"),
        ({0: 52.0, 1: 53.1, 2: 53.9}, "(n = 3 pairs): higher, by the t-test p = "),
        ({0: 48.0, 1: 49.1, 2: 49.9}, "(n = 3 pairs): lower, by the t-test p = "),
        ({0: 52.0, 1: 53.1, 2: 53.9}, "means of each configuration also count 3 runs whose seed the other lacks."),
        ({7: 59.0, 8: 61.1, 9: 59.9}, "(seeds differ, so Welch; n = 3 or more a side): higher"),
    ],
)
def test_one_comparison(new: dict[int, float], words: str) -> None:
    assert words in said(new, OLD)
    assert ("higher" in said(new, OLD) or "lower" in said(new, OLD)) == ("told apart" not in said(new, OLD))


def test_few_pairs_say_what_a_sign_flip_cannot() -> None:
    assert "cannot fall under 2/2^3 = 0.25" in said({0: 52.0, 1: 53.1, 2: 53.9}, OLD)
    six = {seed: value + 2 + seed / 10 for seed, value in OLD.items()}
    assert "cannot fall" not in said(six, OLD)  # 2/64 can be significant


def test_one_of_many_comparisons_needs_more() -> None:
    new = {0: 52.0, 1: 53.6, 2: 53.3, 3: 55.3}
    assert ": higher" in said(new, OLD)
    assert "among all comparisons" in said(new, OLD, others=50)
    assert "cannot be told apart with n = 4" in said(new, OLD, others=50)


def test_one_image_in_each_pair_is_not_higher() -> None:
    new, old = ({seed: 100 * (hits - less) / 359 for seed, hits in enumerate((354, 351, 349))} for less in (0, 1))
    assert "by exactly as much in each pair (n = 3 pairs), so that no interval can be estimated" in said(new, old)


def test_a_tiny_p_is_said_without_an_equals_sign() -> None:
    old = {seed: 50.0 + seed for seed in range(9)}
    text = said({seed: score + 5 + seed / 1e3 for seed, score in old.items()}, old)
    assert "p < 0.0001 after Holm" in text and "= <" not in text


def test_the_unit_is_the_metrics() -> None:
    assert "nats" in said({0: 1.0}, OLD, "test_loss")
    losses = {seed: 2 + seed / 10 for seed in range(4)}
    less = {seed: loss - 0.0035 - seed / 5e3 for seed, loss in losses.items()}
    assert "-0.0038 nats, 95 % interval -0.0042 to -0.0034 (n = 4 pairs): lower" in said(less, losses, "test_loss")
    assert written(-0.001, "test_top1", "+") == "+0.00" and written(0.00123, "val_loss") == "0.0012"


@pytest.mark.parametrize(("metric", "lower"), [("test_top1", False), ("test_ece", True), ("val_loss", True)])
def test_the_best_score_is_the_highest_or_the_lowest(metric: str, lower: bool) -> None:
    assert lower_is_better(metric) is lower


def test_two_scores_never_tell_apart() -> None:
    assert not told_apart(Comparison("paired", 2, 1.0, 0.9, 1.1, p_holm=0.001))
    assert told_apart(Comparison("paired", 3, 1.0, 0.9, 1.1, p_holm=0.001))
    assert not told_apart(Comparison("single", 3, 1.0))
