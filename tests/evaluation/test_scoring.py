"""Scoring: counts and scores are of the same predictions, and the counts of many classes need no C x C numbers."""

import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from hybrid_vit.evaluation.metrics import EVALUATORS, Evaluator
from hybrid_vit.evaluation.plots import confusion_matrix
from hybrid_vit.evaluation.scoring import forgotten, per_class, score, score_parts


class Coarse(nn.Module):
    """Logits of which many are equal: (B, 3, 4, 4) -> (B, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        return (self.linear(x.flatten(1)) * 4).round()


def batches(images: int, classes: int) -> list[tuple[Tensor, Tensor, None]]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.randint(classes, (images,), generator=generator)
    return [(*part, None) for part in zip(pixels.split(64), labels.split(64), strict=True)]


def scored(images: int, classes: int, net: nn.Module | None = None) -> tuple[dict[str, float], csr_array]:
    return score(
        net or Coarse(classes),
        batches(images, classes),
        normalize=lambda images: images / 255,
        num_classes=classes,
        device=torch.device("cpu"),
    )


def test_top1_is_the_trace_of_the_counts_where_logits_are_equal() -> None:
    values, counts = scored(300, 10)
    net = Coarse(10)
    logits, labels = (
        torch.cat(parts)
        for parts in zip(*((net(images / 255), labels) for images, labels, _ in batches(300, 10)), strict=True)
    )
    assert ((logits == logits.amax(1, keepdim=True)).sum(1) > 1).any(), "the test has ties"
    expected = np.zeros((10, 10), np.int64)
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected[label, row.index(max(row))] += 1
    assert np.array_equal(counts.toarray(), expected)
    assert values["images"] == counts.sum() == 300
    assert values["top1"] == 100 * counts.trace() / 300


class Confidence:
    """Mean confidence: another evaluator, by the interface alone."""

    def __init__(self, num_classes: int) -> None:
        self.confident: list[Tensor] = []

    def update(self, logits: Tensor, targets: Tensor) -> None:
        self.confident.append(logits.softmax(1).amax(1))

    def compute(self) -> dict[str, float]:
        return {"confidence": float(torch.cat(self.confident).mean())}


def test_another_evaluator_is_a_class_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = scored(300, 10)
    made: Callable[[int], Evaluator] = Confidence
    monkeypatch.setitem(EVALUATORS, "confidence", made)
    values, _ = scored(300, 10)
    net = Coarse(10)
    logits = torch.cat([net(images / 255) for images, _, _ in batches(300, 10)]).detach()
    assert values.pop("confidence") == pytest.approx(float(logits.softmax(1).amax(1).mean()), rel=1e-5)
    assert values == before


def test_balanced_top1_is_scored_beside_the_plain_one_where_classes_are_uneven() -> None:
    values, counts = scored(300, 10)
    classes = counts.toarray()
    assert values["balanced_top1"] == pytest.approx(100 * np.mean(classes.diagonal() / classes.sum(1)))
    assert abs(values["balanced_top1"] - values["top1"]) > 0.01


def test_data_sets_that_were_joined_are_scored_apart() -> None:
    counts = csr_array([[8, 1, 1, 0], [2, 5, 0, 0], [5, 0, 0, 5], [0, 0, 0, 3]])
    assert score_parts(counts, {"old": range(2), "new": range(2, 4)}) == pytest.approx(
        {
            "old_top1": 100 * 13 / 17,
            "old_crossed": 100 * 1 / 17,
            "new_top1": 100 * 3 / 13,
            "new_crossed": 100 * 5 / 13,
        }
    )
    assert score_parts(counts, {}) == {}
    unseen = csr_array(np.array([[1, 0], [0, 0]]))
    assert score_parts(unseen, {"old": range(1), "new": range(1, 2)}) == {"old_top1": 100.0, "old_crossed": 0.0}


def test_what_is_forgotten_is_told_of_the_data_set_of_the_source() -> None:
    scores = {"test_top1": 80.0, "test_old_top1": 70.0, "test_new_top1": 90.0}
    assert forgotten({"data": "old", "test_top1": 72.5}, scores) == {"test_old_forgotten": 2.5}
    for source in (None, {"data": "old", "test_top1": None}, {"data": "other", "test_top1": 72.5}):
        assert forgotten(source, scores) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_sentence(value: float) -> None:
    net = Coarse(10)
    nn.init.constant_(net.linear.bias, value)
    with pytest.raises(ValueError, match=r"the loss on the 70 images is (nan|inf), so their scores mean nothing"):
        scored(70, 10, net)


def test_a_row_a_class_worst_first() -> None:
    counts = csr_array([[8, 1, 1, 0], [0, 0, 0, 0], [5, 0, 0, 5], [0, 0, 0, 3]])
    rows = per_class(counts, ["ant", "bee", "cat", "dog"])
    assert rows[0] == {"class": "cat", "images": 10, "top1": 0.0, "taken_for": "ant"}
    assert [row["class"] for row in rows] == ["cat", "ant", "dog", "bee"]
    assert [row["taken_for"] for row in rows] == ["ant", "bee", "", ""]
    assert rows[3]["images"] == 0 and math.isnan(rows[3]["top1"])


def test_many_classes_need_little_memory(tmp_path) -> None:
    """Counts of 3,000 x 3,000 int64 are 72 MB, and there were several copies of them beside the picture's own."""
    classes = 3000
    tracemalloc.start()
    _, counts = scored(200, classes)
    rows = per_class(counts, [f"class {i}" for i in range(classes)])
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    confusion_matrix(counts, [f"class {i}" for i in range(classes)], tmp_path / "confusion.png")
    drawn = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == classes
    assert used < 20e6
    assert drawn < 260e6
