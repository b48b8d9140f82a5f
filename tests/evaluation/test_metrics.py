"""Scores and the confusion against torchmetrics, scikit-learn and sums by hand, however the images come in batches."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from hybrid_vit.evaluation.metrics import Confusion, Scores, places
from hybrid_vit.evaluation.metrics import predictions as predicted


def predictions(count: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    labels = torch.randint(classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    return logits + 0.5 * F.one_hot(labels, classes), labels


@pytest.mark.parametrize("classes", [6, 10, 100])
@pytest.mark.parametrize("sizes", [[200], [64, 64, 64, 8], [1] * 60])
def test_scores_are_those_of_torchmetrics_over_all_images(sizes: list[int], classes: int) -> None:
    logits, labels = predictions(sum(sizes), classes)
    scores = Scores()
    for batch in zip(logits.split(sizes), labels.split(sizes), strict=True):
        scores.update(*batch)
    found = scores.compute()
    for k in (1, 5):
        expected = MulticlassAccuracy(num_classes=classes, average="micro", top_k=k)(logits, labels)
        assert 0 < expected < 1
        assert float(found[f"top{k}"]) == pytest.approx(100 * float(expected), rel=1e-6)
    assert float(found["loss"]) == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)


def test_images_count_the_same_in_batches_of_any_size() -> None:
    scores = Scores()
    right, wrong = torch.eye(7)[[0] * 9], torch.eye(7)[[1]]
    scores.update(right, torch.zeros(9, dtype=torch.int64))
    scores.update(wrong, torch.zeros(1, dtype=torch.int64))
    assert float(scores.compute()["top1"]) == pytest.approx(90)


def test_a_given_loss_is_weighted_by_its_batch() -> None:
    logits, labels = predictions(8, 10)
    scores = Scores()
    scores.update(logits[:6], labels[:6], torch.tensor(1.0))
    scores.update(logits[6:], labels[6:], torch.tensor(3.0))
    assert float(scores.compute()["loss"]) == pytest.approx((6 * 1 + 2 * 3) / 8)


def test_soft_targets_count_by_their_largest_class() -> None:
    logits, labels = predictions(50, 10)
    soft = 0.6 * F.one_hot(labels, 10) + 0.4 * F.one_hot((labels + 1) % 10, 10)
    hard_scores, soft_scores = Scores(), Scores()
    hard_scores.update(logits, labels)
    soft_scores.update(logits, soft)
    hard, mixed = hard_scores.compute(), soft_scores.compute()
    assert 0 < float(hard["top1"]) < 100
    assert (mixed["top1"], mixed["top5"]) == (hard["top1"], hard["top5"])
    assert float(mixed["loss"]) == pytest.approx(float(-(soft * logits.log_softmax(1)).sum(1).mean()), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 5, 6])
def test_top_5_is_reported_of_more_than_five_classes(classes: int) -> None:
    logits, labels = predictions(40, classes)
    scores = Scores()
    scores.update(logits, labels)
    found = scores.compute()
    assert ("top5" in found) == (classes > 5)
    assert found["top1"] < 100


def test_a_score_is_a_quotient_of_whole_numbers() -> None:
    """In fp32 354 of 359 is 98.607243, and equal differences differ by 8e-6."""
    scores = Scores()
    labels = torch.zeros(359, dtype=torch.int64)
    scores.update(F.one_hot((torch.arange(359) >= 354).long(), 10).float(), labels)
    found = scores.compute()
    assert found["top1"] == 100 * 354 / 359
    assert found["images"] == 359 and isinstance(found["images"], int)
    assert round(found["top1"] * found["images"] / 100) == 354


def test_equal_logits_come_in_the_order_of_their_classes() -> None:
    logits = torch.tensor([[1.0, 3, 3, 0, 3, 2, 2]] * 7 + [[5.0] * 7] * 2)
    labels = torch.tensor([*range(7), 0, 6])
    assert places(logits, labels).tolist() == [5, 0, 1, 6, 2, 3, 4, 0, 6]
    assert predicted(logits).tolist() == [1] * 7 + [0] * 2
    scores = Scores()
    scores.update(logits, labels)
    assert scores.compute()["top1"] == 100 * 2 / 9
    assert scores.compute()["top5"] == 100 * 6 / 9


def test_bf16_logits_with_ties_have_one_prediction_and_one_order() -> None:
    logits, labels = predictions(5000, 100)
    logits = (logits / 4).bfloat16().float()
    first = logits.max(1, keepdim=True).values == logits
    assert (first.sum(1) > 1).float().mean() > 0.01, "the test has ties"
    by_hand = [row.index(max(row)) for row in logits.tolist()]
    assert predicted(logits).tolist() == by_hand
    ranks = [
        sorted(range(100), key=lambda c, row=row: (-row[c], c)).index(label)
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    assert places(logits, labels).tolist() == ranks


def test_a_logit_that_is_not_a_number_comes_last() -> None:
    nan, inf = math.nan, math.inf
    logits = torch.tensor([[nan, 1.0, 2.0], [nan, nan, -inf], [nan, inf, 1.0], [nan] * 3])
    assert predicted(logits).tolist() == [2, 0, 1, 0]
    assert places(logits, torch.tensor([0, 2, 1, 1])).tolist() == [2, 2, 0, 1]


def test_bfloat16_counts_exactly() -> None:
    logits, labels = predictions(999, 10)
    logits = logits.bfloat16()
    scores = Scores()
    scores.update(logits, labels, torch.tensor(1.5, dtype=torch.bfloat16))
    found = scores.compute()
    top5 = (torch.argsort(logits.float(), dim=1, descending=True, stable=True)[:, :5] == labels[:, None]).any(1).sum()
    assert float(found["top5"]) == pytest.approx(100 * float(top5) / 999, rel=1e-6)
    assert float(found["loss"]) == pytest.approx(1.5)


def test_reset_forgets_and_a_saved_state_goes_on() -> None:
    logits, labels = predictions(60, 10)
    whole, half = Scores(), Scores()
    whole.update(logits, labels)
    half.update(logits[:30], labels[:30])
    resumed = Scores()
    resumed.load_state_dict(half.state_dict())
    resumed.update(logits[30:], labels[30:])
    for key, value in whole.compute().items():
        assert resumed.compute()[key] == pytest.approx(value)
    whole.reset()
    whole.update(logits[:30], labels[:30])
    assert whole.compute()["top1"] == half.compute()["top1"]


@pytest.mark.parametrize("sizes", [[200], [64, 64, 64, 8]])
def test_the_confusion_and_balanced_top1_are_scikit_learns(sizes: list[int]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = predictions(200, 7)
    labels = torch.where(labels == 3, 4, labels)  # a class without images
    confusion = Confusion(7)
    for batch in zip(logits.split(sizes), labels.split(sizes), strict=True):
        confusion.update(*batch)
    taken_for = logits.argmax(1)
    assert (taken_for == 3).any()
    expected = metrics.confusion_matrix(labels, taken_for, labels=range(7))
    assert confusion.counts().toarray().tolist() == expected.tolist()
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = metrics.balanced_accuracy_score(labels, taken_for)
    assert confusion.compute() == {"balanced_top1": pytest.approx(100 * balanced)}


def test_of_even_classes_the_plain_top1_is_the_balanced_one_and_alone() -> None:
    logits, _ = predictions(60, 5)
    confusion = Confusion(5)
    confusion.update(logits, torch.arange(60) % 4)  # even where there are images
    assert confusion.compute() == {}
    confusion.update(logits[:1], torch.tensor([0]))
    assert confusion.compute().keys() == {"balanced_top1"}
