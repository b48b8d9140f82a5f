"""Positions: the fixed embedding, and the relative bias against torchvision's Swin."""

import torch
from torchvision.models.swin_transformer import ShiftedWindowAttention

from hybrid_vit.models import PatchStem, RelPosBias, hybrid_vit


def test_sincos_positions_are_told_by_row_and_by_column() -> None:
    model = hybrid_vit(stem=PatchStem(embed_dim=32, grid=4), num_classes=3, embed_dim=32, depth=1, pos_embed="sincos")
    table = model.pos_embed
    assert torch.equal(table[0, 0], torch.zeros(32))
    cells = table[0, 1:].view(4, 4, 32)
    frequencies = [10000 ** (-i / 8) for i in range(8)]
    for row in range(4):
        for column in range(4):
            expected = [f(torch.tensor(place * w)) for place in (column, row) for f in (torch.sin, torch.cos)
                        for w in frequencies]  # fmt: skip
            torch.testing.assert_close(cells[row, column], torch.stack(expected))
    assert "pos_embed" in model.state_dict()


def test_the_relative_bias_is_swins_and_prefix_tokens_get_none() -> None:
    torch.manual_seed(0)
    theirs = ShiftedWindowAttention(12, [5, 5], [0, 0], num_heads=3)
    for num_prefix in (0, 2):
        ours = RelPosBias(5, 3, num_prefix_tokens=num_prefix)
        ours.load_state_dict({"relative_position_bias_table": theirs.relative_position_bias_table})
        bias = ours()
        assert bias.shape == (1, 3, num_prefix + 25, num_prefix + 25)
        assert torch.equal(bias[:, :, num_prefix:, num_prefix:], theirs.get_relative_position_bias())
        assert not bias[:, :, :num_prefix].any()
        assert not bias[:, :, :, :num_prefix].any()
