"""Pictures: whole PNGs of the promised size from any rows and counts, and the right pairs beside a matrix."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.sparse import csr_array

from hybrid_vit.evaluation.plots import confusion_matrix, examples, learning_curve, most_confused, worst_classes
from hybrid_vit.evaluation.superclasses import SUPERCLASSES, superclasses
from hybrid_vit.utils.plots import BLUE, GOLD, ORANGE, line


def epochs(count: int, *names: str) -> list[dict[str, float]]:
    rows = []
    for epoch in range(count):
        row = {"epoch": epoch, "step": 10 * (epoch + 1), "lr": 4e-4 / (epoch + 1)}
        for shift, name in enumerate(names):
            row[f"{name}_top1"] = 90 - 80 / (epoch + 1) - shift
            row[f"{name}_loss"] = 1 + 3 / (epoch + 1) + shift / 10
        rows.append(row)
    return rows


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def has(pixels: np.ndarray, color: str) -> bool:
    """Whether a picture has pixels of this colour."""
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((abs(pixels - wanted).max(axis=2) <= 2).any())


TRAIN, VAL, TEST = BLUE, ORANGE, GOLD


@pytest.mark.parametrize(("count", "names"), [(1, ("train", "val", "published_test")), (200, ("train", "val"))])
def test_a_learning_curve_has_what_the_rows_have(tmp_path: Path, count: int, names: tuple[str, ...]) -> None:
    path = tmp_path / "curve.png"
    learning_curve(epochs(count, *names), path, title="a $run_1")
    pixels = picture(path)
    assert pixels.shape == (560, 1200, 3)
    for half in (pixels[:, :600], pixels[:, 600:]):
        assert [has(half, color) for color in (TRAIN, VAL, TEST)] == [True, True, "published_test" in names]


def test_the_last_epoch_of_a_learning_curve_may_be_a_part_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[float]] = []

    def spy(x: list[float], *rest: Any, **more: Any) -> Any:
        drawn.append(x)
        return line(x, *rest, **more)

    monkeypatch.setattr("hybrid_vit.evaluation.plots.line", spy)
    rows = epochs(3, "train")
    rows[-1]["step"] = 24
    learning_curve(rows, tmp_path / "curve.png", epochs=2.4)
    assert drawn == [[1, 2, 2.4], [1, 2, 2.4]]


def test_a_learning_curve_of_incomplete_rows(tmp_path: Path) -> None:
    rows = epochs(4, "train", "val")
    del rows[1]["val_top1"], rows[3]["val_loss"], rows[2]["lr"]
    rows[2]["train_loss"] = math.nan
    rows[0] = {"epoch": 0}
    learning_curve(rows, tmp_path / "curve.png")
    pixels = picture(tmp_path / "curve.png")
    assert has(pixels, TRAIN)
    assert has(pixels, VAL)


@pytest.mark.parametrize("rows", [[], [{"epoch": 0, "lr": 0.1}], [{"epoch": 0, "train_loss": math.inf}]])
def test_a_learning_curve_without_a_value_is_an_empty_picture(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    learning_curve(rows, tmp_path / "curve.png")
    pixels = picture(tmp_path / "curve.png")
    assert pixels.shape == (560, 1200, 3)
    assert not has(pixels, TRAIN)


def confused(classes: int) -> np.ndarray:
    random = np.random.default_rng(0)
    counts = random.integers(0, 3, (classes, classes))
    counts[np.diag_indices(classes)] = random.integers(50, 90, classes)
    return counts


@pytest.mark.parametrize(("classes", "size"), [(20, (800, 1300)), (100, (1740, 2550))])
def test_a_confusion_matrix_of_few_and_of_many_classes(tmp_path: Path, classes: int, size: tuple[int, int]) -> None:
    names = [f"class_number_{i}" for i in range(classes)]
    confusion_matrix(confused(classes), names, tmp_path / "confusion.png", title="run_192: 100 % $")
    pixels = picture(tmp_path / "confusion.png")
    assert pixels.shape == (*size, 3)
    assert pixels.std() > 20


def test_the_place_of_a_confusion_is_true_class_down_and_predicted_across(tmp_path: Path) -> None:
    counts = np.zeros((4, 4), dtype=np.int64)
    counts[0, 3] = 5
    confusion_matrix(counts, list("abcd"), tmp_path / "confusion.png")
    dark = np.argwhere(abs(picture(tmp_path / "confusion.png") - [0x0B, 0x25, 0x45]).max(axis=2) <= 2)
    rows, columns = dark[dark[:, 1] < 690].T  # left of the scale
    assert (columns.min(), columns.max()) == pytest.approx((525, 677), abs=3)
    assert (rows.min(), rows.max()) == pytest.approx((115, 268), abs=3)


def test_counts_may_be_a_tensor_and_a_class_may_have_no_images(tmp_path: Path) -> None:
    confusion_matrix(torch.tensor([[5, 0], [0, 0]]), ["a$b$", "a name that is far too long"], tmp_path / "some.png")
    confusion_matrix(torch.zeros(2, 2, dtype=torch.int64), ["a", "b"], tmp_path / "none.png")
    assert has(picture(tmp_path / "some.png"), "#eeeeee")
    assert has(picture(tmp_path / "none.png"), "#eeeeee")


def test_many_classes_share_cells_and_no_image_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,001 classes: 667 cells of 3 x 3 a side; the last class is in the last cell."""
    from matplotlib.axes import Axes

    shown: list[np.ndarray] = []
    imshow = Axes.imshow

    def watched(self: Axes, rates: np.ndarray, **options: Any) -> Any:
        shown.append(rates)
        assert options["extent"] == (-0.5, 2000.5, 2000.5, -0.5)
        return imshow(self, rates, **options)

    monkeypatch.setattr(Axes, "imshow", watched)
    counts = csr_array(([3, 1, 2], ([0, 2, 2000], [0, 4, 1999])), shape=(2001, 2001))
    confusion_matrix(counts, [str(i) for i in range(2001)], tmp_path / "confusion.png")
    (rates,) = shown
    assert rates.shape == (667, 667)
    assert (rates[0, 0], rates[0, 1], rates[666, 666]) == (75, 25, 100)
    assert most_confused(counts, 5) == [(2000, 1999), (2, 4)]


def test_the_classes_of_cifar100_are_grouped_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    names = sorted(name for group in SUPERCLASSES.values() for name in group.split())
    assert len(names) == 100 and len(SUPERCLASSES) == 20
    assert superclasses(names)[names.index("maple_tree")] == "trees"
    assert superclasses(names[:-1]) == superclasses(["cat", "dog"]) == []
    assert superclasses([*names, "cat"]) == [*superclasses(names), "other classes"]

    said: list[str] = []
    ticks: list[str] = []
    savefig = Figure.savefig

    def watched(self: Figure, *arguments: Any, **options: Any) -> None:
        said.extend(text.get_text() for text in (*self.texts, *self.axes[0].texts))
        ticks.extend(label.get_text() for label in self.axes[0].get_yticklabels())
        savefig(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", watched)
    counts = np.diag(np.full(100, 7))
    counts[names.index("beaver"), names.index("whale")] = 1
    counts[names.index("beaver"), names.index("bus")] = 3
    confusion_matrix(counts, names, tmp_path / "confusion.png")
    assert any("top-1 99.43 % of 704 images; 25 % of the errors stay within the superclass" in text for text in said)
    assert {"trees", "fish", "reptiles"} <= set(said)
    assert ticks[:5] == ["beaver", "dolphin", "otter", "seal", "whale"]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (torch.tensor([1, 0, 1]), ["aquarium fish", "cat", "aquarium fish"]),
        (
            torch.tensor([[0.3, 0.7, 0.0], [0.98, 0.01, 0.01], [0.5, 0.06, 0.44]]),
            ["70 % aquarium fish\n30 % cat", "cat", "50 % cat\n44 % dog"],
        ),
    ],
)
def test_examples_bear_the_names_of_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: torch.Tensor, words: list[str]
) -> None:
    from matplotlib.axes import Axes

    titles: list[str] = []
    text = Axes.text

    def watched(self: Axes, x: float, y: float, label: str, **options: Any) -> Any:
        titles.append(label)
        return text(self, x, y, label, **options)

    monkeypatch.setattr(Axes, "text", watched)
    images = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    images[:, 0] = 200
    examples(images, targets, ["cat", "aquarium_fish", "dog"], tmp_path / "x.png")
    assert titles == words
    assert has(picture(tmp_path / "x.png"), "#c80000")


KNOWN = np.array(
    [
        [90, 10, 0, 0],  # 10 % taken for 1
        [3, 6, 1, 0],  # 30 % for 0, 10 % for 2
        [0, 0, 0, 0],
        [0, 200, 0, 800],  # 20 % for 1
    ]
)


def test_the_most_confused_pairs_are_by_share_of_the_true_class() -> None:
    # Of the two with 10 % the one of more images comes first.
    assert most_confused(KNOWN, 10) == [(1, 0), (3, 1), (0, 1), (1, 2)]
    assert most_confused(KNOWN, 2) == [(1, 0), (3, 1)]
    assert most_confused(np.diag([3, 4]), 5) == []


def test_the_worst_classes_leave_out_a_class_without_images() -> None:
    assert worst_classes(KNOWN, 10) == [1, 3, 0]
    assert worst_classes(KNOWN, 1) == [1]


def test_no_state_of_pyplot_is_touched(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    settings = dict(plt.rcParams)
    learning_curve(epochs(2, "train"), tmp_path / "curve.png")
    confusion_matrix(confused(3), list("abc"), tmp_path / "confusion.png")
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == settings
