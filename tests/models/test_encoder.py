"""The encoder: heads, norms, stochastic depth."""

import pytest
import torch

from hybrid_vit.models import Encoder


@pytest.mark.parametrize(("embed_dim", "num_heads", "expected"), [(192, None, 6), (96, None, 3), (192, 4, 4)])
def test_heads_are_derived_or_given(embed_dim: int, num_heads: int | None, expected: int) -> None:
    encoder = Encoder(embed_dim=embed_dim, depth=1, num_heads=num_heads)
    assert encoder[0].attn.num_heads == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"embed_dim": 200, "num_heads": 6},
            r"embed_dim 200 .* num_heads 6; use model.num_heads=5 or 8, or leave it out",
        ),
        ({"embed_dim": 4, "num_heads": 6}, r"embed_dim 4 .* num_heads 6; use model.num_heads=4, or leave it out"),
        ({"embed_dim": 200}, r"embed_dim 200 .* 32; use 192 or 224, or give model\.num_heads"),
        ({"embed_dim": 8}, r"embed_dim 8 .*; use 32 or 64, or give model\.num_heads"),
        ({"embed_dim": 192, "num_heads": 0}, r"num_heads 0;"),
        ({"embed_dim": 32, "depth": 0}, r"model\.depth 0 must be 1 or more"),
        (
            {"embed_dim": 32, "block": "conv", "num_prefix_tokens": 1},
            r"block=conv has no place for a class token",
        ),
    ],
)
def test_what_does_not_fit_is_a_sentence_with_the_remedy(arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Encoder(**{"depth": 1, **arguments})


def test_convolution_blocks_have_no_heads() -> None:
    assert Encoder(embed_dim=100, depth=1, block="conv")(torch.randn(2, 6, 100), (2, 3)).shape == (2, 6, 100)


def test_drop_path_rises_linearly_to_its_rate() -> None:
    encoder = Encoder(embed_dim=32, depth=6, drop_path_rate=0.1)
    assert [block.drop_path.p for block in encoder] == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1])
    assert Encoder(embed_dim=32, depth=1, drop_path_rate=0.1)[0].drop_path.p == 0.1  # its last block


def test_whole_samples_are_dropped_branch_by_branch_and_scaled() -> None:
    torch.manual_seed(0)
    block = Encoder(embed_dim=32, depth=2, drop_path_rate=0.4)[1]
    x = torch.randn(1, 5, 32).expand(4000, -1, -1)
    with torch.no_grad():
        one = x[:1]
        attn = block.attn(block.norm1(one), (1, 5))
        outcomes = {}
        for keep_attn in (0, 1):
            after = one + keep_attn * attn / 0.6
            for keep_mlp in (0, 1):
                outcomes[keep_attn, keep_mlp] = after + keep_mlp * block.mlp(block.norm2(after), (1, 5)) / 0.6
        y = block(x, (1, 5))
    found = 0
    for (keep_attn, keep_mlp), outcome in outcomes.items():
        count = int(torch.isclose(y, outcome, atol=1e-4).all(dim=(1, 2)).sum())
        probability = (0.6 if keep_attn else 0.4) * (0.6 if keep_mlp else 0.4)
        assert abs(count - 4000 * probability) < 4.5 * (4000 * probability * (1 - probability)) ** 0.5
        found += count
    assert found == 4000


def test_no_sample_is_dropped_in_eval() -> None:
    torch.manual_seed(0)
    encoder = Encoder(embed_dim=32, depth=3, drop_path_rate=0.9, proj_drop_rate=0.5).eval()
    still = Encoder(embed_dim=32, depth=3).eval()
    still.load_state_dict(encoder.state_dict())
    x = torch.randn(2, 4, 32)
    assert torch.equal(encoder(x, (2, 2)), still(x, (2, 2)))
