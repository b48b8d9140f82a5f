"""Attention rollout against its formula, for our models and those of timm."""

import pytest
import timm
import torch
from torch import Tensor, nn

import hybrid_vit
from hybrid_vit.explanation import AttentionRecorder, attention_map, rollout
from hybrid_vit.models import Attention


def random_maps(layers: int, tokens: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, tokens, tokens, generator=generator).softmax(dim=-1) for _ in range(layers)]


def test_rollout_is_the_product_of_half_attention_half_identity() -> None:
    maps = random_maps(3, 5)
    for sample in range(2):
        first, second, third = (0.5 * m[sample].sum(0) / 3 + 0.5 * torch.eye(5) for m in maps)
        torch.testing.assert_close(rollout(maps)[sample], third @ second @ first)
    torch.testing.assert_close(rollout(maps).sum(dim=2), torch.ones(2, 5))


@pytest.mark.parametrize("overrides", [{}, {"pool": "mean"}, {"rel_pos_bias": True}, {"qk_norm": True}])
def test_recorded_weights_are_those_of_the_formula(overrides: dict[str, object]) -> None:
    net = hybrid_vit.build_model("hybrid_tiny", depth=2, **overrides).eval()
    expected: list[Tensor] = []

    def by_hand(layer: Attention, args: tuple[Tensor, tuple[int, int]]) -> None:
        x, grid = args
        q, k, _ = layer.qkv(x).unflatten(-1, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = layer.q_norm(q), layer.k_norm(k)
        scores = torch.einsum("bhid,bhjd->bhij", q, k) / q.shape[-1] ** 0.5
        expected.append((scores if layer.rel_pos is None else scores + layer.rel_pos(grid)).softmax(dim=-1))

    images = torch.randn(2, 3, 32, 32)
    for block in net.blocks:
        block.attn.register_forward_pre_hook(by_hand)
    with torch.no_grad():
        with AttentionRecorder() as recorder:
            logits = net(images)
        assert torch.equal(logits, net(images))
    found = recorder.maps
    assert len(found) == 2
    torch.testing.assert_close(found, expected[:2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "readers"),
    [
        ({"pool": "cls"}, slice(0, 1)),
        ({"pool": "distilled", "reg_tokens": 2}, slice(0, 2)),
        ({"pool": "mean"}, slice(0, None)),
        ({"pool": "maxmean", "reg_tokens": 3}, slice(3, None)),
    ],
)
def test_the_map_is_what_reaches_the_tokens_that_are_read(overrides: dict[str, object], readers: slice) -> None:
    net = hybrid_vit.build_model("hybrid_tiny", depth=2, **overrides).eval()
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad(), AttentionRecorder() as recorder:
        net(images)
    maps = recorder.maps
    h, w = net.patch_embed(images).shape[2:]
    expected = rollout(maps)[:, readers, -h * w :].mean(dim=1)
    expected = (expected / expected.sum(dim=1, keepdim=True)).view(2, h, w)
    found = attention_map(net, images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(dim=(1, 2)), torch.ones(2))


def test_models_of_timm() -> None:
    net = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, patch_size=8, depth=2).eval()
    assert attention_map(net, torch.randn(1, 3, 32, 32)).shape == (1, 4, 4)


def test_a_class_token_that_nothing_reads_is_not_followed() -> None:
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, global_pool="avg").eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad(), AttentionRecorder() as recorder:
        net(images)
    cells = rollout(recorder.maps)[:, net.num_prefix_tokens :].mean(dim=1)[:, net.num_prefix_tokens :]
    torch.testing.assert_close(attention_map(net, images).flatten(1), cells / cells.sum())


@pytest.mark.parametrize("name", ["wrn_16_8", "swin_micro", "convnext_atto"])
def test_a_model_without_global_attention_is_a_sentence(name: str) -> None:
    net = hybrid_vit.build_model(name, num_classes=10).eval()
    with pytest.raises(ValueError, match="no attention rollout"):
        attention_map(net, torch.randn(1, 3, 32, 32))


def test_attention_of_the_class_token_alone_is_none_of_all_cells() -> None:
    class ClassAttention(nn.Module):
        num_prefix_tokens = 1

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)[:, None]
            tokens = torch.cat([tokens[:, :, :1], tokens], dim=2)
            return nn.functional.scaled_dot_product_attention(tokens[:, :, :1], tokens, tokens)

    with pytest.raises(ValueError, match="no attention rollout"):
        attention_map(ClassAttention(), torch.randn(1, 3, 8, 8))


def test_windows_are_no_global_attention() -> None:
    class Windowed(nn.Module):
        num_prefix_tokens = 0

        def forward(self, x: Tensor) -> Tensor:
            q = x.flatten(2).transpose(1, 2).unflatten(1, (4, -1)).flatten(0, 1)[:, None]
            return nn.functional.scaled_dot_product_attention(q, q, q)

    with pytest.raises(ValueError, match="no attention rollout"):
        attention_map(Windowed(), torch.randn(1, 3, 8, 8))
