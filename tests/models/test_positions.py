"""Positions: the fixed embedding, the relative bias against torchvision's Swin, and both on other grids."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.swin_transformer import ShiftedWindowAttention

from hybrid_vit.models import PatchStem, RelPosBias, hybrid_vit
from hybrid_vit.models.positions import resized


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
        bias = ours((5, 5))
        assert bias.shape == (1, 3, num_prefix + 25, num_prefix + 25)
        assert torch.equal(bias[:, :, num_prefix:, num_prefix:], theirs.get_relative_position_bias())
        assert not bias[:, :, :num_prefix].any()
        assert not bias[:, :, :, :num_prefix].any()


def by_pillow(table: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(h, w, D) -> (rows, columns, D), each channel as a picture of floats."""
    channels = [Image.fromarray(channel.numpy()) for channel in table.permute(2, 0, 1).contiguous()]
    bicubic = [np.asarray(channel.resize((columns, rows), Image.Resampling.BICUBIC)) for channel in channels]
    return torch.from_numpy(np.stack(bicubic, axis=2))


@pytest.mark.parametrize("grid", [(5, 7), (2, 3), (4, 9), (1, 4), (8, 2)])
def test_positions_of_another_grid_are_interpolated_and_the_prefix_stays(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    table = torch.randn(1, 3 + 4 * 4, 6)
    found = resized(table, (4, 4), grid)
    assert torch.equal(found[:, :3], table[:, :3])
    expected = by_pillow(table[0, 3:].view(4, 4, 6), *grid).flatten(0, 1)
    torch.testing.assert_close(found[0, 3:], expected, rtol=1e-4, atol=1e-5)
    assert resized(table, (4, 4), (4, 4)) is table
    assert torch.equal(
        resized(table.bfloat16(), (4, 4), grid), resized(table.bfloat16().float(), (4, 4), grid).bfloat16()
    )


@pytest.mark.parametrize("grid", [(5, 7), (2, 3), (4, 9), (6, 1)])
def test_the_relative_bias_of_another_grid_is_that_of_the_interpolated_table(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = RelPosBias(4, 3, num_prefix_tokens=2)
    torch.nn.init.normal_(ours.relative_position_bias_table)
    h, w = grid
    table = by_pillow(ours.relative_position_bias_table.detach().view(7, 7, 3), 2 * h - 1, 2 * w - 1)
    bias = ours(grid)[0]
    assert bias.shape == (3, 2 + h * w, 2 + h * w)
    assert not bias[:, :2].any() and not bias[:, :, :2].any()
    for query in range(h * w):
        for key in range(h * w):
            down, right = query // w - key // w, query % w - key % w
            expected = table[down + h - 1, right + w - 1]
            torch.testing.assert_close(bias[:, 2 + query, 2 + key], expected, rtol=1e-4, atol=1e-5)
