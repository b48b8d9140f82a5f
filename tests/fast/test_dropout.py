"""Dropout and stochastic depth: frequencies, independence, scaling and gradient, and where they are the identity."""

import pytest
import torch

from hybrid_vit.fast import dropout
from hybrid_vit.fast.dropout import DropPath, FastDropout, draw_dropped, drawing_from, hashed_mask

RATES = [0.001, 0.01, 0.1, 0.25, 0.5, 0.9, 0.999]
MASKS = ["drawn", "hashed"]


def draw_mask(shape: torch.Size, p: float, how: str = "drawn") -> torch.Tensor:
    """True where an element is kept."""
    if how == "hashed":
        return hashed_mask(shape, p)
    places = draw_dropped(shape.numel(), p)
    assert (places.diff() > 0).all()
    mask = torch.ones(shape.numel(), dtype=torch.bool)
    mask[places] = False
    return mask.view(shape)


@pytest.mark.parametrize("how", MASKS)
@pytest.mark.parametrize("p", RATES)
def test_keep_rate_lies_within_binomial_bounds(p: float, how: str) -> None:
    torch.manual_seed(0)
    n = 2**20
    kept = int(draw_mask(torch.Size([n]), p, how).sum())
    assert abs(kept - n * (1 - p)) < 4.5 * (n * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("how", MASKS)
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_neighbours_are_independent(p: float, how: str) -> None:
    """Chi-square of the 256 joint patterns of eight neighbours."""
    torch.manual_seed(1)
    eights = draw_mask(torch.Size([2**17, 8]), p, how).long()
    counts = (eights << torch.arange(8)).sum(1).bincount(minlength=256).double()
    ones = torch.tensor([number.bit_count() for number in range(256)])
    expected = len(eights) * (1 - p) ** ones.double() * p ** (8 - ones).double()
    # Patterns too rare for the chi-square approximation are counted as one.
    rare = expected < 5
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]]) if rare.any() else counts
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]]) if rare.any() else expected
    freedom = len(expected) - 1
    chi = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi - freedom) < 4.5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("how", MASKS)
def test_every_place_is_drawn_anew_each_time(how: str) -> None:
    torch.manual_seed(2)
    masks = torch.stack([draw_mask(torch.Size([64]), 0.3, how) for _ in range(4000)]).double()
    assert (masks.mean(0) - 0.7).abs().max() < 5 * (0.3 * 0.7 / 4000) ** 0.5
    off_diagonal = masks.T.corrcoef() - torch.eye(64, dtype=torch.float64)
    assert off_diagonal.abs().max() < 5 / 4000**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (2, 8), (0, 4)])
def test_kept_elements_are_scaled_and_the_gradient_is_the_same_mask(dtype: torch.dtype, shape: tuple) -> None:
    torch.manual_seed(3)
    x = (torch.rand(shape, dtype=dtype) + 0.5).requires_grad_()
    y = FastDropout(0.25)(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    torch.manual_seed(3)
    torch.rand(shape, dtype=dtype)
    mask = draw_mask(x.shape, 0.25)
    scale = torch.tensor(1 / 0.75, dtype=torch.float64)
    tolerance = {"rtol": 2e-2 if dtype == torch.bfloat16 else 1e-6, "atol": 0}
    torch.testing.assert_close(y, (x.detach().double() * mask * scale).to(dtype), **tolerance)
    upstream = torch.rand(shape, dtype=dtype) + 0.5
    y.backward(upstream)
    torch.testing.assert_close(x.grad, (upstream.double() * mask * scale).to(dtype), **tolerance)


def test_the_mean_is_preserved() -> None:
    torch.manual_seed(4)
    n, p = 2**18, 0.3
    mean = float(FastDropout(p)(torch.ones(n)).mean())
    assert abs(mean - 1) < 4.5 * (p / (1 - p) / n) ** 0.5


def test_a_tensor_that_is_not_contiguous() -> None:
    torch.manual_seed(5)
    base = torch.arange(1.0, 25.0).view(4, 6)
    x = base.T[::2].detach().requires_grad_()
    assert not x.is_contiguous()
    y = FastDropout(0.5)(x)
    kept = y != 0
    assert kept.any()
    assert not kept.all()
    assert torch.equal(y[kept], 2 * x[kept])
    (y * torch.arange(12.0).view(3, 4)).sum().backward()
    assert torch.equal(x.grad, 2.0 * kept * torch.arange(12.0).view(3, 4))


def test_the_input_is_left_as_it_was() -> None:
    x = torch.ones(100)
    FastDropout(0.5)(x)
    assert torch.equal(x, torch.ones(100))


def test_p_0_and_eval_are_the_identity_and_p_1_is_zero() -> None:
    x = torch.randn(50)
    assert torch.equal(FastDropout(0.0)(x), x)
    assert torch.equal(FastDropout(0.7).eval()(x), x)
    assert torch.equal(FastDropout(1.0)(x), torch.zeros(50))
    assert torch.equal(DropPath(1.0, "row")(x), torch.zeros(50))


@pytest.mark.parametrize("how", MASKS)
def test_rates_next_to_0_and_1(how: str) -> None:
    torch.manual_seed(6)
    assert draw_mask(torch.Size([2**16]), 1 - 1e-7, how).sum() < 12
    assert draw_mask(torch.Size([2**16]), 1e-9, how).all()


def test_gaps_that_end_too_early_are_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too few of them each time, as happens by chance once in a billion times, the rate is still met."""
    monkeypatch.setattr(dropout.math, "ceil", lambda enough: int(enough) // 3)
    torch.manual_seed(7)
    n, p = 2**18, 0.2
    kept = int(draw_mask(torch.Size([n]), p).sum())
    assert abs(kept - n * (1 - p)) < 4.5 * (n * p * (1 - p)) ** 0.5


def test_the_seed_determines_the_mask() -> None:
    x = torch.ones(1000)
    drop = FastDropout(0.5)
    torch.manual_seed(7)
    first, second = drop(x), drop(x)
    torch.manual_seed(7)
    assert torch.equal(drop(x), first)
    assert not torch.equal(first, second)


def test_a_thread_can_draw_from_its_own_generator() -> None:
    modules, x = (FastDropout(0.5), DropPath(0.5, "row")), torch.ones(1000, 2)
    torch.manual_seed(0)
    expected = [module(x) for module in modules]
    state = torch.get_rng_state()
    with drawing_from(torch.Generator().manual_seed(0)):
        assert all(torch.equal(module(x), y) for module, y in zip(modules, expected, strict=True))
    assert torch.equal(torch.get_rng_state(), state), "drawn from torch's own as well"
    assert not torch.equal(modules[0](x), expected[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # tracing asks tensors for things that they warn about
def test_compiled() -> None:
    drop = FastDropout(0.5)
    compiled = torch.compile(lambda x: drop(x * 2) + 1)
    x = torch.ones(4096, requires_grad=True)
    torch.manual_seed(8)
    y = compiled(x)
    y.sum().backward()
    kept = y > 1
    assert 0.4 < kept.float().mean() < 0.6
    assert torch.equal(y.detach(), 1 + 4.0 * kept)
    assert torch.equal(x.grad, 4.0 * kept)
