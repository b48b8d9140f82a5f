"""Scores against torchmetrics and against sums by hand, however the images come in batches."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from hybrid_vit.evaluation import Scores


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


@pytest.mark.parametrize("classes", [2, 5])
def test_top_5_of_five_classes_or_fewer_is_100(classes: int) -> None:
    logits, labels = predictions(40, classes)
    scores = Scores()
    scores.update(logits, labels)
    found = scores.compute()
    assert float(found["top5"]) == 100
    assert float(found["top1"]) < 100


def test_bfloat16_counts_exactly() -> None:
    logits, labels = predictions(999, 10)
    logits = logits.bfloat16()
    scores = Scores()
    scores.update(logits, labels, torch.tensor(1.5, dtype=torch.bfloat16))
    found = scores.compute()
    top5 = (logits.float().topk(5).indices == labels[:, None]).any(1).sum()
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
        torch.testing.assert_close(resumed.compute()[key], value)
    whole.reset()
    whole.update(logits[:30], labels[:30])
    assert torch.equal(whole.compute()["top1"], half.compute()["top1"])
