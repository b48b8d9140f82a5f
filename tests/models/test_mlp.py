"""The depthwise MLP against DHVT's equations."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybrid_vit.models import ConvMLP


def plain_daff(mlp: ConvMLP, x: Tensor, h: int, w: int) -> Tensor:
    """Lu et al. 2022, eq. 5 to 10, cell by cell where it can be."""

    def norm(layers: Any, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, layers[1].weight, layers[1].bias, training=True)

    n = mlp.num_prefix_tokens
    cells = x[:, n:] @ mlp.fc1[0].weight[:, :, 0, 0].T
    image = cells.reshape(len(x), h, w, -1).permute(0, 3, 1, 2)
    image = F.gelu(norm(mlp.fc1, image))
    around = F.pad(image, (1, 1, 1, 1))
    kernel = mlp.conv[0].weight
    convolved = sum(
        around[:, :, i : i + h, j : j + w] * kernel[:, 0, i, j, None, None] for i in range(3) for j in range(3)
    )
    image = image + F.gelu(norm(mlp.conv, convolved))
    image = norm(mlp.fc2, torch.einsum("bchw,dc->bdhw", image, mlp.fc2[0].weight[:, :, 0, 0]))
    cells = image.reshape(len(x), -1, h * w).permute(0, 2, 1)
    if not n:
        return cells
    compress, _, excite = mlp.recalibration
    return torch.cat([x[:, :n] * excite(F.gelu(compress(cells.sum(1, keepdim=True) / (h * w)))), cells], 1)


@pytest.mark.parametrize("num_prefix_tokens", [0, 1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("grid", [(5, 5), (3, 7)])
def test_the_depthwise_mlp_is_dhvts(num_prefix_tokens: int, grid: tuple[int, int], channels_last: bool) -> None:
    torch.manual_seed(0)
    mlp = ConvMLP(8, 24, num_prefix_tokens=num_prefix_tokens)
    for parameter in mlp.parameters():
        nn.init.normal_(parameter, std=0.5)
    if channels_last:
        mlp.to(memory_format=torch.channels_last)
    x = torch.randn(4, num_prefix_tokens + grid[0] * grid[1], 8)
    torch.testing.assert_close(mlp(x, grid), plain_daff(mlp, x, *grid), rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_and_only_there() -> None:
    torch.manual_seed(0)
    mlp, x = ConvMLP(8, 16, drop=0.5), torch.randn(2, 9, 8)
    assert 0.3 < float((mlp(x, (3, 3)) == 0).float().mean()) < 0.7
    assert torch.equal(mlp.eval()(x, (3, 3)), mlp(x, (3, 3)))
