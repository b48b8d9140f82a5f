"""Attention: two paths that agree with the model's own, which one is taken."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hybrid_vit
from hybrid_vit.fast import set_attention
from hybrid_vit.fast.accelerator import choose
from hybrid_vit.models import Attention, RelPosBias
from hybrid_vit.models.encoder import NORMS


def taken(monkeypatch: pytest.MonkeyPatch, attention: Attention, x: torch.Tensor) -> str:
    """Which path a forward takes."""
    calls: list[str] = []
    fused = F.scaled_dot_product_attention

    def spy(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append("fused")
        return fused(*args, **kwargs)

    monkeypatch.setattr("hybrid_vit.fast.attention.scaled_dot_product_attention", spy)
    attention(x, (1, x.shape[1]))
    return calls[0] if calls else "explicit"


def with_positions() -> Attention:
    rel_pos = RelPosBias(4, 3, num_prefix_tokens=1)
    torch.nn.init.normal_(rel_pos.relative_position_bias_table)
    return Attention(48, 3, rel_pos=rel_pos)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Attention(48, 3),
        lambda: Attention(48, 3, qkv_bias=False),
        lambda: Attention(48, 3, qk_norm=NORMS["layer"]),
        with_positions,
    ],
    ids=["plain", "no bias", "qk norm", "relative positions"],
)
def test_both_paths_equal_the_model_in_values_and_gradients(make: Callable[[], Attention]) -> None:
    torch.manual_seed(0)
    attention = make()
    x = torch.randn(2, 17, 48)
    upstream = torch.randn(2, 17, 48)
    results = {}
    for path in ("plain", "fused", "explicit"):
        if path != "plain":
            set_attention(attention, path)  # type: ignore[arg-type]
        attention.zero_grad()
        leaf = x.clone().requires_grad_()
        y = attention(leaf, (4, 4))
        y.backward(upstream)
        results[path] = [y.detach(), leaf.grad, *(p.grad.clone() for p in attention.parameters())]
    for plain, fused, explicit in zip(*results.values(), strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(explicit, plain, rtol=1e-5, atol=1e-5)


def test_explicit_equals_attention_head_by_head() -> None:
    torch.manual_seed(0)
    rel_pos = RelPosBias(2, 2, num_prefix_tokens=1)
    attention = Attention(12, 2, qk_norm=NORMS["rms"], rel_pos=rel_pos)
    for parameter in (rel_pos.relative_position_bias_table, attention.q_norm.weight, attention.k_norm.weight):
        torch.nn.init.normal_(parameter)
    set_attention(attention, "explicit")
    x = torch.randn(1, 5, 12)
    q, k, v = (x[0] @ attention.qkv.weight.T + attention.qkv.bias).split(12, dim=1)
    heads = []
    for h in range(2):
        cut = slice(6 * h, 6 * h + 6)
        query, key = attention.q_norm(q[:, cut]), attention.k_norm(k[:, cut])
        scores = (query @ key.T / 6**0.5 + rel_pos((2, 2))[0, h]).exp()
        heads.append(scores / scores.sum(1, keepdim=True) @ v[:, cut])
    expected = torch.cat(heads, 1) @ attention.proj.weight.T + attention.proj.bias
    torch.testing.assert_close(attention(x, (2, 2))[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", ["fused", "explicit"])
@pytest.mark.parametrize("qk_norm", [None, *NORMS.values()])
def test_the_path_is_the_one_that_was_set(monkeypatch: pytest.MonkeyPatch, path: Any, qk_norm: Any) -> None:
    attention = Attention(16, 2, qk_norm=qk_norm)
    set_attention(attention, path)
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            assert taken(monkeypatch, attention, torch.randn(1, 4, 16)) == path


@pytest.mark.parametrize("name", ["deit_tiny", "nest_tiny"])
def test_attention_of_timm_is_made_explicit(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    torch.manual_seed(0)
    net = hybrid_vit.build_model(name).eval()
    x = torch.randn(1, 3, 32, 32)
    before = net(x)
    set_attention(net, "explicit")
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)
    torch.testing.assert_close(net(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_attention_dropout_acts_in_training_only(device: str) -> None:
    torch.manual_seed(0)
    attention = Attention(16, 2, attn_drop=0.5).to(device)
    set_attention(attention, "fused")  # on a CPU it is written out nevertheless
    x = torch.randn(2, 6, 16, device=device)
    assert not torch.equal(attention(x, (1, 5)), attention(x, (1, 5)))
    attention.eval()
    assert torch.equal(attention(x, (2, 2)), attention(x, (2, 2)))


class Doubled(nn.Module):
    """A variant, as one would write it for an experiment."""

    def forward(self, *inputs: Any) -> torch.Tensor:
        return 2 * super().forward(*inputs)


@pytest.mark.parametrize("part", ["", "blocks.3", "blocks.3.attn", "blocks.3.mlp"])
def test_another_class_keeps_its_forward(part: str) -> None:
    torch.manual_seed(0)
    net = hybrid_vit.build_model("hybrid_tiny", num_classes=3, pool="cls").eval()
    module = net.get_submodule(part)
    module.__class__ = type("Variant", (Doubled, type(module)), {})
    x = torch.randn(2, 3, 32, 32)
    before = net(x)
    choose("cpu", precision="32-true").tune(net)
    torch.testing.assert_close(net(x), before, rtol=1e-4, atol=1e-5)
