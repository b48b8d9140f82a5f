"""What the policies draw, against torchvision's tables and torchvision's own draws; then the whole pipeline."""

import pickle
import platform
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from hybrid_vit.augment import (
    Augment,
    AutoAugment,
    ColorJitter,
    Draw,
    Mix,
    Normalize,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    TrivialAugment,
    ops,
    policies,
)
from hybrid_vit.augment.policies import AUTO_SPACE, STANDARD_SPACE, WIDE_SPACE, magnitude_table

MANY = 20_000
# See the docstring of ops.py: elsewhere the last bit of a blend may differ.
EXACT = 0 if platform.machine() in ("x86_64", "AMD64") else 1


def noise_images(batch: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.randint(256, (batch, 3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def smooth_images(batch: int) -> Tensor:
    coarse = torch.rand(batch, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear") * 255).to(torch.uint8)


def assert_frequencies(counts: Tensor, probabilities: Tensor) -> None:
    """Chi-square, five standard deviations above its mean; what cannot happen has not happened."""
    expected = probabilities.flatten().double() * counts.sum()
    counts = counts.flatten().double()
    assert (counts[expected == 0] == 0).all()
    counts, expected = counts[expected > 0], expected[expected > 0]
    freedom = len(counts) - 1
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5, (
        f"chi-square {chi_square:.0f} for {freedom} degrees of freedom"
    )


def assert_same_distribution(ours: Tensor, theirs: Tensor) -> None:
    """Kolmogorov and Smirnov, at a significance of about 1e-4."""
    values = torch.cat((ours, theirs)).unique()
    ours, theirs = ours.sort().values, theirs.sort().values
    gap = torch.searchsorted(ours, values, right=True) / len(ours) - torch.searchsorted(
        theirs, values, right=True
    ) / len(theirs)
    assert gap.abs().max() < 2.23 * (1 / len(ours) + 1 / len(theirs)) ** 0.5


# ---------------------------------------------------------------- tables

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


# ---------------------------------------------------------------- draws of the policies


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


# ---------------------------------------------------------------- draws of the others


def test_random_crop_moves_evenly() -> None:
    images = torch.stack(torch.meshgrid(torch.arange(12), torch.arange(10), indexing="ij")).to(torch.uint8)
    images = torch.cat((images, images[:1])).expand(MANY, -1, -1, -1)
    cropped = RandomCrop(padding=3)(images, Draw(3, MANY))
    down, right = cropped[:, 0, 5, 5].int() - 5, cropped[:, 1, 5, 5].int() - 5
    assert_frequencies(torch.bincount((down + 3) * 7 + right + 3, minlength=49), torch.full((49,), 1 / 49))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_random_flip_frequency(p: float) -> None:
    images = torch.tensor([[0, 1]], dtype=torch.uint8).expand(MANY, 3, 1, 2)
    flipped = RandomHorizontalFlip(p=p)(images, Draw(4, MANY))[:, 0, 0, 0].float().mean()
    assert flipped == p if p in (0.0, 1.0) else abs(flipped - p) < 0.02


@pytest.mark.parametrize(
    ("scale", "ratio", "height", "width"),
    [((0.8, 1.0), (3 / 4, 4 / 3), 32, 32), ((0.08, 1.0), (0.3, 3.0), 24, 37), ((0.9, 1.0), (0.5, 2.0), 16, 16)],
)
def test_resized_crop_boxes_are_distributed_as_torchvisions(
    scale: tuple[float, float], ratio: tuple[float, float], height: int, width: int
) -> None:
    torch.manual_seed(0)
    theirs_transform = v2.RandomResizedCrop((height, width), scale=scale, ratio=ratio)
    drawn = [theirs_transform.make_params([torch.empty(3, height, width)]) for _ in range(2000)]
    boxes = RandomResizedCrop(scale=scale, ratio=ratio).boxes(Draw(5, MANY), height, width)
    top, left, h, w = boxes
    assert ((h > 0) & (w > 0) & (top >= 0) & (left >= 0) & (top + h <= height) & (left + w <= width)).all()
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn])
    for ours, reference in zip(boxes, theirs.unbind(1), strict=True):
        assert_same_distribution(ours.double(), reference.double())
    assert_same_distribution((h * w).double(), (theirs[:, 2] * theirs[:, 3]).double())
    assert_same_distribution(h / w, theirs[:, 2] / theirs[:, 3])


def test_boxes_are_log_uniform_in_their_aspect_ratio() -> None:
    """Small boxes in a large image: every first try fits, and rounding hardly matters."""
    expected = torch.linspace(-1.0, 1.5, MANY, dtype=torch.float64)
    ratio = (torch.e**-1.0, torch.e**1.5)
    _, _, h, w = RandomResizedCrop(scale=(0.04, 0.05), ratio=ratio).boxes(Draw(0, MANY), 4000, 4000)
    assert_same_distribution((w / h).double().log(), expected)
    _, _, h, w = RandomErasing(scale=(0.04, 0.05), ratio=ratio).boxes(Draw(0, MANY), 4000, 4000)
    assert_same_distribution((h / w).double().log(), expected)
    assert_same_distribution((h * w).double() / 4000**2, torch.linspace(0.04, 0.05, MANY, dtype=torch.float64))


@pytest.mark.parametrize(("height", "width", "ratio"), [(8, 40, (1.0, 1.0)), (40, 8, (1.0, 1.5)), (9, 50, (0.7, 1.3))])
def test_resized_crop_falls_back_to_the_central_box(height: int, width: int, ratio: tuple[float, float]) -> None:
    theirs = v2.RandomResizedCrop((height, width), scale=(0.95, 1.0), ratio=ratio)
    expected = theirs.make_params([torch.empty(3, height, width)])
    boxes = RandomResizedCrop(scale=(0.95, 1.0), ratio=ratio).boxes(Draw(6, 50), height, width)
    for ours, name in zip(boxes, ("top", "left", "height", "width"), strict=True):
        assert (ours == expected[name]).all()


@pytest.mark.parametrize(
    ("scale", "ratio", "height", "width"),
    [((0.02, 0.33), (0.3, 3.3), 32, 32), ((0.3, 1.0), (0.1, 2.0), 12, 20)],
)
def test_erasing_boxes_are_distributed_as_torchvisions(
    scale: tuple[float, float], ratio: tuple[float, float], height: int, width: int
) -> None:
    torch.manual_seed(0)
    transform = v2.RandomErasing(1.0, scale=scale, ratio=ratio)
    drawn = [transform.make_params([torch.empty(3, height, width)]) for _ in range(2000)]
    boxes = RandomErasing(p=1.0, scale=scale, ratio=ratio).boxes(Draw(7, MANY), height, width)
    missed = boxes[2] == 0
    assert abs(missed.float().mean() - sum(d["v"] is None for d in drawn) / 2000) < 0.02
    theirs = torch.tensor([[d["i"], d["j"], d["h"], d["w"]] for d in drawn if d["v"] is not None])
    for ours, reference in zip(boxes, theirs.unbind(1), strict=True):
        assert_same_distribution(ours[~missed].double(), reference.double())


@pytest.mark.parametrize("value", ["random", 0.5])
def test_erasing(value: str | float) -> None:
    images = torch.zeros(4000, 3, 8, 9)
    erased = RandomErasing(p=0.25, value=value)(images, Draw(8, 4000))
    assert not images.any(), "the input changed"
    touched = (erased != 0).any(1)
    assert abs(touched.flatten(1).any(1).float().mean() - 0.25) < 0.03
    assert torch.equal(touched.any(2).sum(1) * touched.any(1).sum(1), touched.sum(dim=(1, 2))), "not a box"
    pixels = erased.permute(0, 2, 3, 1)[touched]
    if value == 0.5:
        assert (pixels == 0.5).all()
    else:
        assert abs(pixels.mean()) < 0.03 and abs(pixels.std() - 1.0) < 0.03
        assert len(pixels.unique()) > 0.99 * pixels.numel(), "pixels or channels share their noise"


@pytest.mark.parametrize(("p", "touched"), [(0.0, 0), (1.0, 16)])
def test_erasing_none_or_all(p: float, touched: int) -> None:
    erased = RandomErasing(p=p, scale=(0.2, 0.3))(torch.zeros(16, 3, 32, 32), Draw(0, 16))
    assert erased.flatten(1).any(1).sum() == touched


def test_jitter_draws_every_order_and_the_whole_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stand-in for an op appends its digit to the base-4 number that an image starts from zero with."""
    factors: dict[int, list[Tensor]] = {0: [], 1: [], 2: [], 3: []}

    def stand_in(digit: int) -> Callable[[Tensor, Tensor], Tensor]:
        def op(images: Tensor, factor: Tensor) -> Tensor:
            factors[digit].append(factor)
            return images * 4 + digit

        return op

    for digit, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        monkeypatch.setattr(ops, name, stand_in(digit))
    images = torch.zeros(MANY, 3, 1, 1, dtype=torch.uint8)
    jitter = ColorJitter(brightness=0.4, contrast=(0.5, 2.0), saturation=1.5, hue=0.1)
    codes, counts = jitter(images, Draw(9, MANY))[:, 0, 0, 0].unique(return_counts=True)
    orders = [sorted((c >> 2 * k) % 4 for k in range(4)) for c in codes.tolist()]
    assert len(orders) == 24 and all(order == [0, 1, 2, 3] for order in orders)
    assert_frequencies(counts, torch.full((24,), 1 / 24))
    for digit, (low, high) in enumerate(((0.6, 1.4), (0.5, 2.0), (0.0, 2.5), (-0.1, 0.1))):
        drawn = torch.cat(factors[digit])
        assert len(drawn) == MANY
        assert_same_distribution(drawn, torch.linspace(low, high, MANY))


@pytest.mark.parametrize(
    ("jitter", "reference"),
    [
        (ColorJitter(brightness=(1.3, 1.3)), lambda i: V.adjust_brightness(i, 1.3)),
        (ColorJitter(contrast=(0.6, 0.6)), lambda i: V.adjust_contrast(i, 0.6)),
        (ColorJitter(saturation=(1.4, 1.4)), lambda i: V.adjust_saturation(i, 1.4)),
        (ColorJitter(hue=(0.1, 0.1)), lambda i: V.adjust_hue(i, 0.1)),
        (ColorJitter(brightness=0.0, contrast=0), lambda i: i),
    ],
)
def test_jitter_applies_torchvisions_ops(jitter: ColorJitter, reference: Callable[[Tensor], Tensor]) -> None:
    images = torch.cat((noise_images(4), smooth_images(4)))
    difference = jitter(images, Draw(0, 8)).int() - torch.stack([reference(i) for i in images]).int()
    assert difference.abs().max() <= 1


# ---------------------------------------------------------------- the whole pipeline

MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


def pipelines() -> dict[str, Augment]:
    jitter = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    flip = RandomHorizontalFlip()
    return {
        "run_192": Augment(
            crop=RandomCrop(), flip=flip, policy=RandAugment(num_ops=2, magnitude=10), erase=RandomErasing(p=0.5)
        ),
        "run_384": Augment(
            crop=RandomResizedCrop(scale=(0.8, 1.0)),
            flip=flip,
            jitter=jitter,
            policy=AutoAugment(),
            erase=RandomErasing(),
        ),
        "trivial": Augment(crop=RandomCrop(), flip=flip, policy=TrivialAugment(), erase=RandomErasing(value=0.0)),
    }


def run(augment: Augment, images: Tensor, draw: Draw) -> Tensor:
    labels = torch.arange(len(images), device=images.device)
    floats, targets = augment(images, labels, draw, normalize=Normalize(MEAN, STD), num_classes=100)
    assert floats.dtype == torch.float32 and floats.shape == images.shape and targets is labels
    return floats


@pytest.mark.parametrize("name", pipelines())
@pytest.mark.parametrize("height", [32, 20])
def test_shares_give_the_unsplit_batch(name: str, height: int) -> None:
    augment, images = pipelines()[name], noise_images(8, height, 32)
    before = images.clone()
    for seed in range(10):
        whole = run(augment, images, Draw(seed, 8))
        parts = [run(augment, images[share], Draw(seed, 8, share)) for share in (slice(0, 4), slice(4, 8))]
        assert torch.equal(torch.cat(parts), whole)
        strided = run(augment, images[1::3], Draw(seed, 8, slice(1, None, 3)))
        assert torch.equal(strided, whole[1::3])
        assert torch.equal(images, before), "the input changed"


@pytest.mark.parametrize("name", pipelines())
def test_same_seed_same_images_and_each_sample_its_own(name: str) -> None:
    augment, images = pipelines()[name], smooth_images(1).expand(64, -1, -1, -1)
    first = run(augment, images, Draw(1, 64))
    assert torch.equal(first, run(pickle.loads(pickle.dumps(augment)), images, Draw(1, 64)))
    assert not torch.equal(first, run(augment, images, Draw(2, 64)))
    assert len(first.flatten(1).unique(dim=0)) > 60


def test_order_is_policy_then_normalize_then_erase_then_mix() -> None:
    images, labels = noise_images(6), torch.arange(6)
    policy, erase, mix = RandAugment(), RandomErasing(p=1.0), Mix()
    normalize = Normalize(MEAN, STD)
    augment = Augment(policy=policy, erase=erase, mix=mix)
    actual, targets = augment(images, labels, Draw(3, 6), normalize=normalize, num_classes=7)
    draw = Draw(3, 6)
    expected, expected_targets = mix(erase(normalize(policy(images, draw)), draw), labels, 7, draw)
    assert torch.equal(actual, expected) and torch.equal(targets, expected_targets)
    assert targets.shape == (6, 7)


def test_nothing_but_normalize() -> None:
    images = torch.cat((noise_images(3), smooth_images(2)))
    expected = V.normalize(V.to_dtype(images, torch.float32, scale=True), list(MEAN), list(STD))
    torch.testing.assert_close(run(Augment(), images, Draw(0, 5)), expected, atol=2e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["trivial", "run_384"])
def test_cuda_agrees_with_cpu(name: str) -> None:
    """Without noise. A grey level more or less before an equalize or a posterize can become a few."""
    augment, images = pipelines()[name], smooth_images(256)
    augment.erase = RandomErasing(value=0.0)
    cpu = run(augment, images, Draw(1, 256))
    cuda = run(augment, images.cuda(), Draw(1, 256)).cpu()
    assert ((cpu - cuda).abs() > 2.5 / 255 / min(STD)).float().mean() < 0.01


# ---------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomCrop(padding=-1), "padding is -1"),
        (lambda: RandomResizedCrop(scale=(0.0, 1.0)), "scale"),
        (lambda: RandomResizedCrop(scale=(0.9, 0.8)), "scale"),
        (lambda: RandomResizedCrop(scale=(0.5, 1.2)), "scale"),
        (lambda: RandomResizedCrop(ratio=(-1.0, 2.0)), "ratio"),
        (lambda: RandomResizedCrop(ratio=(1.0, float("inf"))), "ratio"),
        (lambda: RandomHorizontalFlip(p=1.5), "p is 1.5"),
        (lambda: RandomHorizontalFlip(p=float("nan")), "p is nan"),
        (lambda: ColorJitter(brightness=-0.1), "brightness is -0.1"),
        (lambda: ColorJitter(contrast=(2.0, 1.0)), "contrast"),
        (lambda: ColorJitter(saturation=(-1.0, 1.0)), "saturation"),
        (lambda: ColorJitter(hue=0.6), "hue"),
        (lambda: AutoAugment(policy="cifar100"), "policy 'cifar100'.*cifar10"),
        (lambda: RandAugment(num_ops=0), "num_ops is 0"),
        (lambda: RandAugment(magnitude=31), "magnitude is 31.*30"),
        (lambda: RandAugment(magnitude=-1), "magnitude is -1"),
        (lambda: RandAugment(num_magnitude_bins=1), "num_magnitude_bins is 1"),
        (lambda: TrivialAugment(num_magnitude_bins=0), "num_magnitude_bins is 0"),
        (lambda: RandomErasing(p=-0.1), "p is -0.1"),
        (lambda: RandomErasing(scale=(-0.1, 0.3)), "scale"),
        (lambda: RandomErasing(ratio=(0.0, 1.0)), "ratio"),
        (lambda: RandomErasing(value="white"), "value is 'white'"),
        (lambda: Normalize((0.5,), (0.2, 0.2)), "mean has 1"),
        (lambda: Normalize((0.5,), (0.0,)), "std"),
        (lambda: run(Augment(), noise_images(4), Draw(0, 5)), "images has 4 samples and draw has 5"),
    ],
)
def test_bad_arguments_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
