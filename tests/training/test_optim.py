"""Optimizers: what decays. The schedule: the rates that the published runs logged. Errors that name the key."""

import pytest
import torch
from torch import nn

from hybrid_vit.models import ConvStem, hybrid_vit
from hybrid_vit.training.optim import OPTIMIZERS, Schedule, adamw, param_groups, sgd
from hybrid_vit.utils.limits import warmup


def small_model() -> nn.Module:
    stem, options = ConvStem(embed_dim=32, depth=2), {"reg_tokens": 2, "rel_pos_bias": True, "init_values": 0.1}
    return hybrid_vit(stem=stem, num_classes=5, embed_dim=32, depth=1, pool="cls", **options)


def test_matrices_and_kernels_decay_and_nothing_else() -> None:
    model = small_model()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay, keep = param_groups(model, 0.05, decay_all=False)
    assert (decay["weight_decay"], keep["weight_decay"]) == (0.05, 0.0)
    assert {names[id(p)] for p in decay["params"]} == {
        "patch_embed.0.0.weight",
        "patch_embed.1.0.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.0.attn.proj.weight",
        "blocks.0.mlp.fc1.weight",
        "blocks.0.mlp.fc2.weight",
        "head.weight",
    }
    kept = {names[id(p)] for p in keep["params"]}
    assert {"cls_token", "pos_embed", "norm.weight", "head.bias", "patch_embed.0.1.weight"} < kept
    assert {"reg_token", "blocks.0.ls1.gamma", "blocks.0.attn.rel_pos.relative_position_bias_table"} < kept
    assert len(decay["params"]) + len(keep["params"]) == len(names)


def test_the_published_recipe_decays_everything() -> None:
    model = small_model()
    (group,) = param_groups(model, 0.05, decay_all=True)
    assert group["weight_decay"] == 0.05
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_a_group_without_parameters_is_left_out() -> None:
    assert [g["weight_decay"] for g in param_groups(nn.Linear(2, 2, bias=False), 0.1, False)] == [0.1]
    assert [g["weight_decay"] for g in param_groups(nn.LayerNorm(2), 0.1, False)] == [0.0]


@pytest.mark.parametrize("decay_all", [False, True])
def test_adamw_steps_as_its_paper_says(decay_all: bool) -> None:
    torch.manual_seed(0)
    net = nn.Linear(3, 2).double()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    gradients = [torch.randn_like(parameter) for parameter in before]
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        parameter.grad = gradient
    adamw(net, lr=0.01, weight_decay=0.5, decay_all=decay_all).step()
    for parameter, start, gradient in zip(net.parameters(), before, gradients, strict=True):
        shrink = 1 - 0.01 * 0.5 if decay_all or start.ndim > 1 else 1
        torch.testing.assert_close(parameter.detach(), start * shrink - 0.01 * gradient / (gradient.abs() + 1e-8))


def test_sgd_steps_with_nesterov_momentum() -> None:
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(net.weight)
    optimizer = sgd(net, lr=0.1, weight_decay=0.2, momentum=0.5)
    weight, velocity = 1.0, 0.0
    for gradient in (1.0, -2.0, 0.5):
        net.weight.grad = torch.full_like(net.weight, gradient)
        optimizer.step()
        full = gradient + 0.2 * weight
        velocity = 0.5 * velocity + full
        weight -= 0.1 * (full + 0.5 * velocity)
        assert net.weight.item() == pytest.approx(weight, rel=1e-12)


def test_sgd_without_momentum() -> None:
    assert sgd(nn.Linear(2, 2), lr=0.1, weight_decay=0.0, momentum=0.0).defaults["nesterov"] is False


def test_optimizers_are_known_by_name_and_fused() -> None:
    assert set(OPTIMIZERS) == {"adamw", "sgd", "muon"}
    for make in OPTIMIZERS.values():
        assert make(small_model(), lr=0.1, weight_decay=0.0).defaults["fused"] is True


RUN_192 = Schedule(lr=4e-4, epochs=200, warmup_epochs=5)
RUN_384 = Schedule(lr=3e-4, epochs=201, warmup_epochs=5, min_lr=1e-5, interval="epoch")

# Learning rate after so many epochs, from the logs of the published runs.
LOGGED_192 = {
    1: 8e-05,
    2: 0.00016,
    5: 0.0004,
    9: 0.0003995848546268761,
    10: 0.00039935146162684205,
    11: 0.00039906632694352976,
    25: 0.0003897072883894291,
    100: 0.00020805318802188304,
    200: 0.0,
}
LOGGED_384 = {
    1: 0.00018,
    2: 0.00024,
    3: 0.0003,
    4: 0.0003,
    5: 0.0003,
    9: 0.00029969901960448514,
    10: 0.00029952980967946045,
    25: 0.00029253778408233616,
    100: 0.0001608385613158652,
    200: 1e-05,
}


@pytest.mark.parametrize(("epoch", "lr"), LOGGED_192.items())
def test_the_published_rate_per_step(epoch: int, lr: float) -> None:
    steps = 391 * epoch
    assert RUN_192.lr * RUN_192.factor(steps / 391) == pytest.approx(lr, rel=1e-9, abs=1e-18)


@pytest.mark.parametrize(("epoch", "lr"), LOGGED_384.items())
def test_the_published_rate_per_epoch(epoch: int, lr: float) -> None:
    """Its log begins with its second epoch, and its cosine an epoch later than ours."""
    assert RUN_384.lr * RUN_384.factor(epoch + 1) == pytest.approx(lr, rel=0.01)


def test_warm_up_starts_at_zero_per_step_and_one_step_up_per_epoch() -> None:
    assert [RUN_192.factor(t) for t in (0, 1 / 391, 2.5)] == pytest.approx([0, 1 / 391 / 5, 0.5])
    per_epoch = Schedule(lr=1.0, epochs=10, warmup_epochs=4, interval="epoch")
    assert [per_epoch.factor(t) for t in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_a_schedule_never_leaves_its_bounds_and_falls_after_warm_up() -> None:
    for schedule in (RUN_192, RUN_384, Schedule(lr=1.0, epochs=3)):
        rates = [schedule.factor(schedule.epochs * i / 1000) for i in range(1001)]
        peak = rates.index(max(rates))
        assert max(rates) == pytest.approx(1)
        assert rates[: peak + 1] == sorted(rates[: peak + 1])
        assert rates[peak:] == sorted(rates[peak:], reverse=True)
        floor = schedule.min_lr / schedule.lr
        assert rates[-1] == pytest.approx(floor, abs=1e-15)
        assert schedule.factor(schedule.epochs + 7) == pytest.approx(floor, abs=1e-15)


def test_a_linear_schedule_falls_in_a_line() -> None:
    schedule = Schedule(lr=1.0, epochs=10, warmup_epochs=2, shape="linear")
    assert [schedule.factor(t) for t in (0, 1, 2, 4, 6, 10, 12)] == pytest.approx([0, 0.5, 1, 0.75, 0.5, 0, 0])


@pytest.mark.parametrize(
    ("given", "epochs", "expected"),
    [(None, 200, 5), (None, 201, 5), (None, 50, 5), (None, 20, 2), (None, 6, 0.6), (None, 0.1, 0.01), (3, 6, 3)],
)
def test_the_warm_up_is_five_epochs_or_a_tenth_of_a_shorter_run_or_as_given(
    given: float | None, epochs: float, expected: float
) -> None:
    assert warmup(given, epochs) == pytest.approx(expected, rel=1e-15)
    assert warmup(None, 8, share=0.25) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"warmup_epochs": 5, "epochs": 5},
            r"optim\.warmup_epochs 5 .* less than the 5 epochs of the run; leave it out for the share",
        ),
        ({"warmup_epochs": -1}, r"optim\.warmup_epochs -1 must be at least 0"),
        ({"min_lr": 0.2}, r"optim\.min_lr 0\.2 must lie between 0 and optim\.lr 0\.1"),
        ({"min_lr": -0.1}, r"optim\.min_lr -0\.1 must lie"),
    ],
)
def test_a_schedule_that_cannot_be_is_a_sentence(arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Schedule(**{"lr": 0.1, "epochs": 10, **arguments})
