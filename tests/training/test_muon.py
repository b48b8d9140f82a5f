"""Muon: the orthogonal factor, one step against its formula, which weights it takes, AdamW for the others."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hybrid_vit import build_model
from hybrid_vit.training.muon import orthogonalised
from hybrid_vit.training.optim import is_matrix, muon


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_singular_values_become_about_one_and_directions_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalised(matrix, steps=6) @ v.T
    values = found.diagonal()
    assert values.min() > 0.5 and values.max() < 1.5
    torch.testing.assert_close(found, torch.diag(values), atol=1e-5, rtol=0)
    assert orthogonalised(torch.zeros(shape)).isfinite().all()


def test_two_steps_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 8, 3, bias=False))
    weight, momentum, lr = net[0].weight, torch.zeros(8, 36), 0.05
    optimizer, expected = muon(net, lr=lr, weight_decay=0.0, momentum=0.6), weight.detach().flatten(1).clone()
    for _ in range(2):
        gradient = torch.randn(8, 4, 3, 3)
        weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.6 * momentum + gradient.flatten(1)
        expected = expected * 8**0.5 / expected.norm() - lr * orthogonalised(gradient.flatten(1) + 0.6 * momentum)
        # where bf16 is fast an update is accurate to three digits; it is about 8e-3
        torch.testing.assert_close(weight.detach().flatten(1), expected, atol=1e-3, rtol=0)


def test_a_tall_matrix_moves_as_far_for_its_norm_as_a_wide_one() -> None:
    torch.manual_seed(0)
    moved = []
    for layer in (nn.Linear(64, 16, bias=False), nn.Linear(16, 64, bias=False)):
        with torch.no_grad():
            layer.weight.mul_(len(layer.weight) ** 0.5 / layer.weight.norm())
        before = layer.weight.detach().clone()
        optimizer = muon(nn.Sequential(layer), lr=0.1, weight_decay=0.0, ns_steps=6)
        layer.weight.grad = torch.randn_like(before)
        optimizer.step()
        moved.append(((layer.weight - before).norm() / before.norm()).item())
    assert moved[1] == pytest.approx(moved[0], rel=0.15)


def test_it_takes_what_mixes_hidden_channels_and_nothing_else() -> None:
    net = build_model("hybrid_fast")
    taken = {name for name, weight in net.named_parameters() if is_matrix(name, weight)}
    block = [f"{part}.weight" for part in ("attn.qkv", "attn.proj", "mlp.fc1.0", "mlp.fc2.0")]
    groups = [f"patch_embed.groups.{i}.{part}.0.weight" for i in (0, 1, 2) for part in ("halving", "residual")]
    assert taken == {*groups, *(f"blocks.0.{name}" for name in block)}
    optimizer = muon(net, lr=0.1, weight_decay=0.01)
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, net.parameters()))
    assert [group["orthogonal"] for group in optimizer.param_groups] == [True, False, False]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 2e-3, 2e-3]


def test_the_rest_is_adamws() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizer = muon(ours, lr=0.1, weight_decay=0.5, adamw_lr=0.01)
    reference = torch.optim.AdamW(
        [theirs[0].bias, *theirs[1].parameters()], lr=0.01, betas=(0.9, 0.95), weight_decay=0.0
    )
    for _ in range(3):
        for net in (ours, theirs):
            for i, parameter in enumerate(net.parameters()):
                parameter.grad = torch.full_like(parameter, 0.3 + i)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours[0].bias, theirs[0].bias)
    torch.testing.assert_close(ours[1].state_dict(), theirs[1].state_dict())
    assert not torch.equal(ours[0].weight, theirs[0].weight)


def test_it_continues_from_its_state() -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(32, 8), torch.arange(32) % 4
    nets = [nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)) for _ in range(2)]
    optimizers = [muon(net, lr=0.2, weight_decay=0.1) for net in nets]

    def train(i: int, steps: int) -> float:
        for _ in range(steps):
            optimizers[i].zero_grad()
            loss = F.cross_entropy(nets[i](x), labels)
            loss.backward()
            optimizers[i].step()
        return loss.item()

    first = train(0, 5)
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers[1].load_state_dict(deepcopy(optimizers[0].state_dict()))
    last = train(0, 30)
    assert train(1, 30) == last < 0.8 * first
