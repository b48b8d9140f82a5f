"""What others run: the published model in plain PyTorch, timm's and vit-pytorch's, torchvision's transforms on PIL.

(B, 3, 32, 32) -> (B, num_classes), of the same size as ours. The plain model has our keys, so that weights can be
exchanged and results compared.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import transforms as T
from torchvision.ops import StochasticDepth

LABELS = {
    "document": "as published (Chaudhary 2025): eager fp32, attention written out",
    "fused": "eager fp32, fused attention",
    "timm": "timm's VisionTransformer of the same size",
    "vit_pytorch": "vit-pytorch's ViT of the same size",
}


@dataclass(frozen=True)
class Size:
    """A row of the published table."""

    channels: tuple[int, int, int]
    strides: tuple[int, int, int]
    depth: int
    qkv_bias: bool
    heads: int = 6

    @property
    def dim(self) -> int:
        return self.channels[-1]

    @property
    def stride(self) -> int:
        return math.prod(self.strides)


SIZES = {
    "hybrid_192": Size(channels=(64, 128, 192), strides=(1, 2, 1), depth=6, qkv_bias=True),
    "hybrid_384": Size(channels=(64, 128, 384), strides=(1, 2, 2), depth=8, qkv_bias=False),
}

CLASSES = 100


def peer(name: str, model: str, rate: float = 0.1) -> nn.Module:
    """The peer `name` of the size of `model`, with dropout and stochastic depth of `rate`.

    Raises:
        ModuleNotFoundError: the package of that peer is not installed.
    """
    size = SIZES[model]
    if name in ("document", "fused"):
        return Plain(size, rate=rate, fused=name == "fused")
    if name == "timm":
        from timm.models.vision_transformer import VisionTransformer

        return VisionTransformer(
            img_size=32,
            patch_size=size.stride,
            num_classes=CLASSES,
            embed_dim=size.dim,
            depth=size.depth,
            num_heads=size.heads,
            qkv_bias=size.qkv_bias,
            pos_drop_rate=rate,
            proj_drop_rate=rate,
            drop_path_rate=rate,
        )
    assert name == "vit_pytorch"
    from vit_pytorch import ViT

    return ViT(
        image_size=32,
        patch_size=size.stride,
        num_classes=CLASSES,
        dim=size.dim,
        depth=size.depth,
        heads=size.heads,
        dim_head=size.dim // size.heads,
        mlp_dim=4 * size.dim,
        dropout=rate,
        emb_dropout=rate,
    )


class Plain(nn.Module):
    """The published hybrid, as Chaudhary (2025) describes it."""

    def __init__(self, size: Size, *, rate: float, fused: bool) -> None:
        super().__init__()
        self.patch_embed = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
                )
                for before, after, stride in zip((3, *size.channels), size.channels, size.strides, strict=False)
            )
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (32 // size.stride) ** 2, size.dim))
        self.pos_drop = nn.Dropout(rate)
        self.blocks = nn.Sequential(
            *(
                PlainBlock(size, rate=rate, drop_path=rate * i / (size.depth - 1), fused=fused)
                for i in range(size.depth)
            )
        )
        self.norm = nn.LayerNorm(size.dim, eps=1e-6)
        self.head = nn.Linear(size.dim, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(self.pos_drop(x)))[:, 0])


class PlainBlock(nn.Module):
    def __init__(self, size: Size, *, rate: float, drop_path: float, fused: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.dim, eps=1e-6)
        self.attn = PlainAttention(size, rate=rate, fused=fused)
        self.norm2 = nn.LayerNorm(size.dim, eps=1e-6)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(size.dim, 4 * size.dim),
                act=nn.GELU(),
                drop1=nn.Dropout(rate),
                fc2=nn.Linear(4 * size.dim, size.dim),
                drop2=nn.Dropout(rate),
            )
        )
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PlainAttention(nn.Module):
    def __init__(self, size: Size, *, rate: float, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = size.heads, fused
        self.qkv = nn.Linear(size.dim, 3 * size.dim, bias=size.qkv_bias)
        self.proj = nn.Linear(size.dim, size.dim)
        self.proj_drop = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        B, N, D = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(B, N, D)))


def pil_transforms(recipe: str) -> T.Compose:
    """A recipe of `conf/augment` ("document" or "run_192") in torchvision's transforms: PIL image -> (3, 32, 32)."""
    geometry = {
        "document": [
            T.RandomResizedCrop(32, scale=(0.8, 1.0)),
            T.RandomHorizontalFlip(),
            T.ColorJitter(0.4, 0.4, 0.4, 0.1),
            T.AutoAugment(T.AutoAugmentPolicy.CIFAR10),
        ],
        "run_192": [T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), T.RandAugment(2, 10)],
    }[recipe]
    ending = [T.ToTensor(), T.Normalize((0.5,) * 3, (0.25,) * 3), T.RandomErasing(0.25, value="random")]
    return T.Compose([*geometry, *ending])
