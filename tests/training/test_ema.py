"""The average of the weights: its formula by hand, its warm-up, its buffers, and what it survives."""

import pytest
import torch
from torch import nn

from hybrid_vit.training.ema import EMA


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def move(net: nn.Module) -> None:
    with torch.no_grad():
        for tensor in (*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())):
            tensor.add_(torch.randn_like(tensor))
        net[1].num_batches_tracked.add_(1)


@pytest.mark.parametrize(("decay", "warmup"), [(0.9999, True), (0.25, True), (0.9, False), (0.0, True)])
def test_updates_follow_the_formula(decay: float, warmup: bool) -> None:
    torch.manual_seed(0)
    net = small_net().double()
    ema = EMA(net, decay=decay, warmup=warmup)
    expected = [parameter.detach().clone() for parameter in net.parameters()]
    for n in range(25):
        move(net)
        ema.update(net)
        d = min(decay, (1 + n) / (10 + n)) if warmup else decay
        expected = [d * average + (1 - d) * p.detach() for average, p in zip(expected, net.parameters(), strict=True)]
        for average, by_hand in zip(ema.net.parameters(), expected, strict=True):
            torch.testing.assert_close(average, by_hand, rtol=1e-13, atol=1e-13)
    assert ema.num_updates == 25


def test_buffers_are_those_of_the_network() -> None:
    torch.manual_seed(0)
    net = small_net()
    ema = EMA(net)
    for _ in range(3):
        move(net)
        ema.update(net)
    assert ema.net[1].num_batches_tracked == 3
    for average, current in zip(ema.net.buffers(), net.buffers(), strict=True):
        assert torch.equal(average, current)
        assert average.data_ptr() != current.data_ptr()


def test_the_network_itself_is_left_as_it_was() -> None:
    net = small_net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    ema = EMA(net)
    ema.update(net)
    with torch.no_grad():
        ema.net[0].weight.zero_()
    assert all(torch.equal(net.state_dict()[key], before[key]) for key in before)
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_it_stays_in_eval_mode_and_is_called_like_the_network() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    parent = nn.ModuleDict({"net": net, "ema": EMA(net)}).train()
    x = torch.randn(5, 3)
    assert parent["net"].training
    assert not any(module.training for module in parent["ema"].modules())
    assert torch.equal(parent["ema"](x), parent["ema"](x))
    assert torch.equal(parent["ema"](x), net.eval()(x))
    parent["ema"].train(True)
    assert not parent["ema"].net[1].training


def test_it_has_no_gradient() -> None:
    net = small_net()
    ema = EMA(net)
    ema.update(net)
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    assert not ema(torch.randn(2, 3)).requires_grad
    net(torch.randn(2, 3)).sum().backward()
    ema.update(net)
    assert all(parameter.grad is None for parameter in ema.parameters())


def test_a_restored_average_continues_as_if_never_saved() -> None:
    torch.manual_seed(0)
    net = small_net()
    ema = EMA(net, decay=0.9)
    for _ in range(4):
        move(net)
        ema.update(net)
    restored = EMA(small_net(), decay=0.9)
    restored.load_state_dict(ema.state_dict())
    for _ in range(4):
        move(net)
        ema.update(net)
        restored.update(net)
    assert restored.num_updates == 8
    assert all(torch.equal(restored.state_dict()[key], value) for key, value in ema.state_dict().items())


def test_a_restored_average_within_a_parent() -> None:
    net = nn.Linear(1, 1)
    parent = nn.ModuleDict({"ema": EMA(net)})
    for _ in range(7):
        parent["ema"].update(net)
    other = nn.ModuleDict({"ema": EMA(net)})
    other.load_state_dict(parent.state_dict())
    nn.init.zeros_(net.weight)
    before = other["ema"].net.weight.item()
    other["ema"].update(net)
    assert other["ema"].net.weight.item() == pytest.approx(before * 8 / 17)
