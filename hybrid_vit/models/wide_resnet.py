"""Wide ResNet: (B, 3, H, W) image -> (B, num_classes) logits. Zagoruyko and Komodakis 2016 (arXiv 1605.07146).

BatchNorm and ReLU come before each convolution (He et al. 2016, arXiv 1603.05027).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hybrid_vit.models.layers import PREVIOUS, Matcher
from hybrid_vit.utils.errors import UserError


class WideBlock(nn.Module):
    """Two convolutions 3x3 and a shortcut: (B, before, H, W) -> (B, after, H / stride, W / stride)."""

    def __init__(self, before: int, after: int, stride: int, *, drop: float = 0.0) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.drop = nn.Dropout(drop)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        if self.shortcut is not None:
            x = self.shortcut(y)
        return x + self.conv2(self.drop(F.relu(self.bn2(self.conv1(y)))))


class WideResNet(nn.Module):
    """WRN-depth-width: three stages of 16, 32 and 64 times `width` channels at full, half and quarter resolution.

    Args:
        depth: convolutions, 6 n + 4.
        drop_rate: dropout within each block.

    Raises:
        UserError: a depth that is not 6 n + 4.
    """

    def __init__(self, *, num_classes: int, depth: int = 16, width: int = 8, drop_rate: float = 0.0) -> None:
        super().__init__()
        n, rest = divmod(depth - 4, 6)
        if n < 1 or rest or width < 1:
            raise UserError(
                f"model.depth {depth} must be 6 n + 4 and model.width {width} positive; use e.g. depth 16 and width 8"
            )
        channels = [16, 16 * width, 32 * width, 64 * width]
        self.conv = nn.Conv2d(3, channels[0], 3, 1, 1, bias=False)
        self.stages = nn.Sequential(
            *(
                WideBlock(after if i else before, after, 1 if i else stride, drop=drop_rate)
                for before, after, stride in zip(channels, channels[1:], (1, 2, 2), strict=False)
                for i in range(n)
            )
        )
        self.bn = nn.BatchNorm2d(channels[-1])
        self.head = nn.Linear(channels[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stages(self.conv(x))))
        return self.head(x.mean(dim=(2, 3)))

    def group_matcher(self, coarse: bool = False) -> Matcher:
        """timm's patterns of layers by depth: the first convolution, then the blocks; what they leave is the head."""
        return {"stem": r"conv\.", "blocks": [(r"stages\.(\d+)\.", None), (r"bn\.", (PREVIOUS,))]}
