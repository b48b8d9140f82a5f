"""Shards: the results, gradients and random numbers of a batch that was computed in parts, and of a trimmed model."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from hybrid_vit.fast import set_attention, set_hybrid
from hybrid_vit.fast.shards import sharded
from hybrid_vit.models import ConvStem, HybridViT, hybrid_vit


def model(dropout: float = 0.0, **choices) -> HybridViT:
    torch.manual_seed(0)
    rates = dict.fromkeys(("pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"), dropout)
    stem = ConvStem(embed_dim=32, img_size=16, grid=4, channels=[8, 16, 32])
    return hybrid_vit(stem=stem, num_classes=5, embed_dim=32, depth=2, **{**rates, **choices})


def step(net: HybridViT, x: Tensor, shards: int, seed: int = 1) -> list[Tensor]:
    """Logits, and the gradients of their squares with respect to images and parameters; 0 shards: as the class says."""
    net = deepcopy(net)
    if shards:
        set_hybrid(net, shards)
    torch.manual_seed(seed)
    x = x.clone().requires_grad_()
    logits = net(x)
    logits.square().sum().backward()
    return [logits.detach(), x.grad, *(param.grad for param in net.parameters() if param.requires_grad)]


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"pool": "sequence"},
        {"pool": "mean", "pos_embed": "sincos"},
        {"rel_pos_bias": True, "reg_tokens": 2, "qk_norm": True},
        {"mlp": "conv"},
    ],
)
@pytest.mark.parametrize(("size", "shards"), [(32, 4), (33, 4), (20, 3), (16, 9), (4, 4)])
def test_logits_gradients_and_statistics_are_those_of_the_whole_batch(choices: dict, size: int, shards: int) -> None:
    net, x = model(**choices).double(), torch.randn(size, 3, 16, 16, dtype=torch.float64)
    for whole, parts in zip(step(net, x, 0), step(net, x, shards), strict=True):
        torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_a_trimmed_model_gives_the_same(pool: str, shards: int) -> None:
    """Only what the pool reads leaves the last block; logits and all gradients stay."""
    net, x = model(pool=pool).double(), torch.randn(16, 3, 16, 16, dtype=torch.float64)
    whole = step(net, x, 0)
    left: list[int] = []
    net.blocks[-1].mlp.register_forward_hook(lambda module, args, output: left.append(output.shape[1]))
    for full, trimmed in zip(whole, step(net, x, shards), strict=True):
        torch.testing.assert_close(trimmed, full)
    assert set(left) == {1 if pool == "cls" else 16}


def test_frozen_parameters_get_no_gradient() -> None:
    net, x = model(), torch.randn(16, 3, 16, 16)
    net.blocks[0].requires_grad_(False)
    net.patch_embed.requires_grad_(False)
    for whole, parts in zip(step(net, x, 1), step(net, x, 2), strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


@pytest.fixture
def four_threads() -> Iterator[None]:
    """As on a machine of a user; elsewhere in the tests there is one."""
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


def test_what_is_dropped_follows_the_seed_and_not_the_threads(four_threads: None) -> None:
    net, x = model(dropout=0.3), torch.randn(64, 3, 16, 16)
    set_attention(net, "fused")
    first = step(net, x, 8)
    for _ in range(5):
        for again, before in zip(step(net, x, 8), first, strict=True):
            torch.testing.assert_close(again, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    assert not torch.equal(step(net, x, 8, seed=2)[0], first[0])


def test_every_shard_drops_something_else() -> None:
    net = model(dropout=0.3)
    set_hybrid(net, 4)
    logits = net(torch.randn(1, 3, 16, 16).expand(32, -1, -1, -1)).detach()
    assert len({tuple(row) for row in logits.tolist()}) == 32


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_without_gradients(mode) -> None:
    net, x = model().eval(), torch.randn(32, 3, 16, 16)
    with mode():
        whole = net(x)
        set_hybrid(net, 4)
        parts = net(x)
    assert not parts.requires_grad
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


def test_small_batches_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid_vit.fast.shards.SMALLEST", 8)
    sizes: list[int] = []

    def double(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return 2 * x

    for size in (1, 15, 16, 31, 32):
        sharded(double, torch.ones(size, 1), [], shards=4)
    assert sizes == [1, 15, 8, 8, 16, 15, 8, 8, 8, 8]


def test_batchnorm_after_the_stem_keeps_the_batch_whole_while_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []

    def spy(function, x: Tensor, parameters, shards: int) -> Tensor:
        called.append(net.training)
        return sharded(function, x, parameters, shards)

    monkeypatch.setattr("hybrid_vit.fast.hybrid.sharded", spy)
    normed = model()
    normed.head = nn.Sequential(nn.BatchNorm1d(32), normed.head)
    for net, times in ((model(), [True, False]), (model(mlp="conv"), [False]), (normed, [False])):
        set_hybrid(net, 2)
        called.clear()
        net(torch.randn(16, 3, 16, 16))
        net.eval()(torch.randn(16, 3, 16, 16))
        assert called == times


def test_autocast_holds_in_every_shard() -> None:
    net, x = model(), torch.randn(32, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        whole, parts = step(net, x, 1), step(net, x, 4)
    assert parts[0].dtype == torch.bfloat16
    for one, other in zip(whole, parts, strict=True):
        assert (other.float() - one.float()).norm() <= 0.02 * one.float().norm()
    assert not torch.equal(parts[0].float(), step(net, x, 4)[0])


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_an_error_in_a_shard_is_an_error_and_the_threads_are_as_they_were(where: str, four_threads: None) -> None:
    def fail(grad: Tensor) -> None:
        raise RuntimeError("stop")

    def function(x: Tensor) -> Tensor:
        y = x * 2
        if where == "forward":
            raise RuntimeError("stop")
        y.register_hook(fail)
        return y * 2

    threads = torch.get_num_threads()
    x = torch.ones(32, 1, requires_grad=True)
    with pytest.raises(RuntimeError, match="stop"):
        sharded(function, x, [], shards=2).sum().backward()
    assert torch.get_num_threads() == threads


def test_a_frozen_network_has_the_gradient_of_the_images() -> None:
    net = model().eval().requires_grad_(False)
    x = torch.randn(6, 3, 16, 16)
    (_, plain), (_, parts) = step(net, x, 0), step(net, x, 3)
    torch.testing.assert_close(parts, plain)
