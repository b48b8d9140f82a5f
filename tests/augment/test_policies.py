"""What the policies draw, against torchvision's tables and torchvision's own draws."""

from collections.abc import Callable

import pytest
import torch
from draws import EXACT, MANY, assert_frequencies, noise_images, smooth_images
from torch import Tensor
from torchvision.transforms import v2

from hybrid_vit.augment import (
    AutoAugment,
    Draw,
    RandAugment,
    TrivialAugment,
    policies,
)
from hybrid_vit.augment.policies import AUTO_SPACE, STANDARD_SPACE, WIDE_SPACE, magnitude_table

# --- tables


TABLES = [
    (STANDARD_SPACE, v2.RandAugment(), 31),
    (WIDE_SPACE, v2.TrivialAugmentWide(), 31),
    (AUTO_SPACE, v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10), 10),
]


@pytest.mark.parametrize(("space", "theirs", "bins"), TABLES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 37)])
def test_tables_equal_torchvision(
    space: dict[str, policies.Op], theirs: v2.Transform, bins: int, height: int, width: int
) -> None:
    reference = {"Identity": (lambda *_: None, False)} | theirs._AUGMENTATION_SPACE
    assert set(space) == set(reference)
    table = magnitude_table(space, bins, height, width)
    for row, (name, op) in zip(table, space.items(), strict=True):
        magnitudes, signed = reference[name]
        expected = magnitudes(bins, height, width)
        assert op.signed == signed, name
        assert (op.magnitudes is None) == (expected is None), name
        assert torch.equal(row, torch.zeros(bins) if expected is None else expected.float()), name


@pytest.mark.parametrize(("space", "theirs", "bins"), TABLES)
def test_every_entry_acts_as_torchvision_at_every_magnitude(
    space: dict[str, policies.Op], theirs: v2.Transform, bins: int
) -> None:
    image = torch.cat((noise_images(1), smooth_images(1)), dim=3)[0, :, :30]
    table = magnitude_table(space, bins, 30, 64)
    for row, (name, op) in zip(table, space.items(), strict=True):
        magnitudes = torch.cat((row, -row)) if op.signed else row
        actual = op.apply(image.expand(len(magnitudes), -1, -1, -1), magnitudes)
        for result, magnitude in zip(actual, magnitudes.tolist(), strict=True):
            expected = theirs._apply_image_or_video_transform(image, name, magnitude, "nearest", theirs._fill)
            assert (result.int() - expected.int()).abs().max() <= EXACT, (name, magnitude)


def test_auto_augment_rows_equal_torchvision() -> None:
    assert policies.AUTO_POLICIES["cifar10"] == v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)._policies


# --- draws


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """The (choice, parameter) of every step; the images pass through."""
    record: list[tuple[Tensor, Tensor]] = []

    def apply(images: Tensor, choice: Tensor, parameter: Tensor, applies: list[Callable]) -> Tensor:
        record.append((choice, parameter))
        return images

    monkeypatch.setattr(policies, "apply_by_choice", apply)
    return record


def many_images() -> Tensor:
    return torch.zeros(1, 3, 32, 32, dtype=torch.uint8).expand(MANY, -1, -1, -1)


def assert_magnitudes(space: dict[str, policies.Op], choice: Tensor, parameter: Tensor, expected: Tensor) -> None:
    """parameter = expected (MANY,), but negated for one half of the samples of the signed ops."""
    signed = torch.tensor([op.signed for op in space.values()])[choice]
    assert torch.equal(parameter.abs(), expected.abs())
    assert torch.equal(parameter[~signed], expected[~signed])
    nonzero = parameter[signed & (expected != 0)]
    assert len(nonzero) > 1000
    assert abs((nonzero < 0).float().mean() - 0.5) < 2.5 / len(nonzero) ** 0.5


def test_rand_augment_draws(drawn: list[tuple[Tensor, Tensor]]) -> None:
    RandAugment(num_ops=3, magnitude=10)(many_images(), Draw(0, MANY))
    assert len(drawn) == 3
    table = magnitude_table(STANDARD_SPACE, 31, 32, 32)
    for choice, parameter in drawn:
        assert_frequencies(torch.bincount(choice, minlength=14), torch.full((14,), 1 / 14))
        assert_magnitudes(STANDARD_SPACE, choice, parameter, table[choice, 10])
    pairs = torch.bincount(drawn[0][0] * 14 + drawn[1][0], minlength=196)
    assert_frequencies(pairs, torch.full((196,), 1 / 196))


def test_trivial_augment_draws(drawn: list[tuple[Tensor, Tensor]]) -> None:
    TrivialAugment()(many_images(), Draw(1, MANY))
    [(choice, parameter)] = drawn
    assert_frequencies(torch.bincount(choice, minlength=14), torch.full((14,), 1 / 14))
    table = magnitude_table(WIDE_SPACE, 31, 32, 32)
    names = list(WIDE_SPACE)
    solarize = parameter[choice == names.index("Solarize")]
    counts = (solarize[:, None] == table[names.index("Solarize")]).sum(0)
    assert counts.sum() == len(solarize)
    assert_frequencies(counts, torch.full((31,), 1 / 31))
    rotate = parameter[choice == names.index("Rotate")]
    counts = (rotate[:, None].abs() == table[names.index("Rotate")]).sum(0)
    assert_frequencies(counts, torch.full((31,), 1 / 31))
    signed = parameter[torch.tensor([op.signed for op in WIDE_SPACE.values()])[choice] & (parameter != 0)]
    assert abs((signed < 0).float().mean() - 0.5) < 2.5 / len(signed) ** 0.5


def test_auto_augment_draws(drawn: list[tuple[Tensor, Tensor]]) -> None:
    """The pairs of ops come as often as the table says, each at the level that its row says."""
    AutoAugment()(many_images(), Draw(2, MANY))
    (first, first_parameter), (second, second_parameter) = drawn
    names = list(AUTO_SPACE)
    table = magnitude_table(AUTO_SPACE, 10, 32, 32)
    pair = torch.zeros(len(names), len(names))
    magnitudes: list[dict[int, set[float]]] = [{}, {}]
    idle = names.index("Identity")
    for row in policies.AUTO_POLICIES["cifar10"]:
        (a, p, _), (b, q, _) = row
        for one, one_p in ((names.index(a), p), (idle, 1 - p)):
            for two, two_p in ((names.index(b), q), (idle, 1 - q)):
                pair[one, two] += one_p * two_p / 25
        for step, (name, probability, level) in enumerate(row):
            k = names.index(name)
            if probability:
                magnitudes[step].setdefault(k, set()).add(0.0 if level is None else table[k, level].item())
    assert_frequencies(torch.bincount(first * len(names) + second, minlength=len(names) ** 2), pair)
    for step, (choice, parameter) in enumerate(drawn):
        for k, expected in magnitudes[step].items():
            values = parameter[choice == k]
            assert {v for v in values.abs().tolist() if v} == {v for v in expected if v}, names[k]
            if AUTO_SPACE[names[k]].signed and 0.0 not in expected:
                assert abs((values < 0).float().mean() - 0.5) < 2.5 / len(values) ** 0.5
            else:
                assert (values >= 0).all() or 0.0 in expected
    assert first_parameter.any() and second_parameter.any()


def test_each_sample_meets_the_op_that_it_drew() -> None:
    images = noise_images(50, 6, 7)
    choice = torch.arange(50) * 7 % 4
    parameter = torch.arange(50)
    applies = [
        lambda i, p: i,
        lambda i, p: ~i,
        lambda i, p: p.to(torch.uint8).view(-1, 1, 1, 1).expand_as(i),
        lambda i, p: pytest.fail("an op that nobody drew was called"),
        lambda i, p: i // 2,
    ]
    choice[choice == 3] = 4
    actual = policies.apply_by_choice(images, choice, parameter, applies)
    expected = [applies[c](images[k : k + 1], parameter[k : k + 1]) for k, c in enumerate(choice.tolist())]
    assert torch.equal(actual, torch.cat(expected))
