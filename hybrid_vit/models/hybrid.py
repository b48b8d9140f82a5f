"""The hybrid: a convolutional stem computes the tokens, a transformer processes them, a pool and a head classify.

(B, 3, H, W) normalised image -> (B, num_classes) logits. Names and state-dict keys are timm's, so that the weights
of a timm ViT load into a `HybridViT` with a patch stem. H and W may be others than those that the stem was made for:
positions are interpolated.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hybrid_vit.models.encoder import NORMS, Encoder, Norm
from hybrid_vit.models.layers import PREVIOUS, Matcher
from hybrid_vit.models.layout import as_map, as_tokens
from hybrid_vit.models.positions import RelPosBias, resized, sincos_2d
from hybrid_vit.models.stem import Stem
from hybrid_vit.utils.errors import UserError

PosEmbed = Literal["learned", "sincos", "none"]
UNDECAYED = ("cls_token", "dist_token", "reg_token", "pos_embed", "relative_position_bias_table")


class ClsPool(nn.Module):
    """(B, 1 + N, D) -> (B, D): the class token, which the model prepends."""

    num_prefix_tokens = 1

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


class DistilledPool(nn.Module):
    """(B, 2 + N, D) -> (B, 2, D): the class token and the distillation token. Touvron et al. 2021 (2012.12877)."""

    num_prefix_tokens = 2

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2]


class MeanPool(nn.Module):
    """(B, N, D) -> (B, D): the mean token."""

    num_prefix_tokens = 0

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


class SequencePool(nn.Module):
    """(B, N, D) -> (B, D): the mean weighted by a learned attention over tokens. Hassani et al. 2021 (2104.05704)."""

    num_prefix_tokens = 0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention = nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.attention(x).softmax(dim=1).transpose(1, 2) @ x).squeeze(1)


class MaxMeanPool(nn.Module):
    """(B, N, D) -> (B, D): the largest value of each channel plus its mean."""

    num_prefix_tokens = 0

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=1) + x.mean(dim=1)


Pool = ClsPool | DistilledPool | MeanPool | SequencePool | MaxMeanPool


class HybridViT(nn.Module):
    """Stem, encoder, pool and head, composed: (B, 3, H, W) -> (B, num_classes).

    Args:
        stem: image -> (B, D, h, w); has `embed_dim`, and `grid`, the side that positions are learned for.
        encoder: (B, N, D) and (h, w) -> (B, N, D).
        pool: (B, N, D) -> (B, D), or with `head_dist` (B, 2, D); `num_prefix_tokens` is 0, 1 (class token) or 2 (and a
            distillation token). If it is not 0, only those tokens are read.
        head: (B, D) -> logits.
        head_dist: the same for the distillation token. With it, logits are (B, 2, num_classes) while training, and
            their mean otherwise.
        pos_embed: "learned" (trunc-normal), "sincos" (fixed, 2-D) or "none".
        reg_tokens: registers, after the class token and not pooled (Darcet et al. 2024, arXiv 2309.16588).
        norm: of the tokens after the encoder, "layer" or "rms".
        pos_drop_rate: dropout after the position embedding.
    """

    def __init__(
        self,
        *,
        stem: Stem,
        encoder: Encoder,
        pool: Pool,
        head: nn.Module,
        head_dist: nn.Module | None = None,
        pos_embed: PosEmbed = "learned",
        reg_tokens: int = 0,
        norm: Norm = "layer",
        pos_drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        dim, num_prefix = stem.embed_dim, pool.num_prefix_tokens + reg_tokens
        self.num_prefix_tokens = num_prefix
        self.patch_embed = stem
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if pool.num_prefix_tokens else None
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim)) if pool.num_prefix_tokens == 2 else None
        self.reg_token = nn.Parameter(torch.zeros(1, reg_tokens, dim)) if reg_tokens else None
        if pos_embed == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(1, num_prefix + stem.grid**2, dim))
        else:
            table = sincos_2d(stem.grid, dim, num_prefix) if pos_embed == "sincos" else None
            self.register_buffer("pos_embed", table)
        self.pos_drop = nn.Dropout(pos_drop_rate)
        self.blocks = encoder
        self.norm = NORMS[norm](dim)
        self.first_pooled = 0 if pool.num_prefix_tokens else reg_tokens
        self.pool = pool
        self.head = head
        self.head_dist = head_dist
        self.init_weights()

    def init_weights(self) -> None:
        """As published: xavier-uniform Linear, kaiming-normal Conv (fan-out), trunc-normal(0.02) tokens, positions.

        A part that has an `init_weights` of its own begins as that says.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, RelPosBias):
                nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
            if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if module is not self and hasattr(module, "init_weights"):
                module.init_weights()  # type: ignore[operator]
        for token in (self.cls_token, self.dist_token, self.reg_token, self.pos_embed):
            if isinstance(token, nn.Parameter):
                nn.init.trunc_normal_(token, std=0.02)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, D) normalised tokens, the class token (if any) first, then registers."""
        x = self.patch_embed(x)
        h, w = x.shape[2:]
        return self.norm(self.blocks(self.embed(x), (h, w)))

    def forward_intermediates(
        self, x: Tensor, indices: int | Sequence[int] | None = None, *, norm: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """What `forward_features` gives, and what blocks make of the cells, as maps (B, D, h, w) in the blocks' order.

        Args:
            x: (B, 3, H, W).
            indices: of the blocks, -1 for the last; a number for so many last ones; None for all.
            norm: whether maps are normalised, as the features are.

        Raises:
            UserError: there is no such block.
        """
        depth = len(self.blocks)
        given = range(-(depth if indices is None else indices), 0) if isinstance(indices, int | None) else indices
        if indices in range(-depth, 0) or any(not -depth <= index < depth for index in given):
            raise UserError(f"indices {indices} of {depth} blocks; use 0 to {depth - 1}, or -1 for the last, in a list")
        chosen = {index % depth for index in given}
        x = self.patch_embed(x)
        h, w = x.shape[2:]
        x, maps = self.embed(x), []
        for index, block in enumerate(self.blocks):
            x = block(x, (h, w))
            if index in chosen:
                cells = (self.norm(x) if norm else x)[:, -h * w :]
                maps.append(as_map(cells, (h, w)))
        return self.norm(x), maps

    def embed(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, N, D): the cells as tokens behind the class token and the registers, with positions."""
        (h, w), side = x.shape[2:], self.patch_embed.grid
        x = as_tokens(x)
        tokens = (self.cls_token, self.dist_token, self.reg_token)
        prefix = [token.expand(x.shape[0], -1, -1) for token in tokens if token is not None]
        if prefix:  # as in timm, each of them has an entry in pos_embed
            x = torch.cat([*prefix, x], dim=1)
        if self.pos_embed is not None:
            x = x + resized(self.pos_embed, (side, side), (h, w))
        return self.pos_drop(x)

    def forward_head(self, x: Tensor) -> Tensor:
        """(B, N, D) tokens -> (B, num_classes) logits."""
        x = self.pool(x[:, self.first_pooled :])
        if self.head_dist is None:
            return self.head(x)
        both = torch.stack([self.head(x[:, 0]), self.head_dist(x[:, 1])], dim=1)
        return both if self.training else both.mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def no_weight_decay(self) -> set[str]:
        """Names of tokens and positions, which an optimizer leaves as large as they are."""
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[2] in UNDECAYED}

    def group_matcher(self, coarse: bool = False) -> Matcher:
        """timm's patterns of layers by depth: the stages of the stem, then the blocks; what they leave is the head.

        Tokens and positions, which enter after the stem, count to its last stage.
        """
        return {
            "stem": [
                (r"patch_embed\.(?:groups\.)?(\d+)\.", None),
                (r"patch_embed\.", (-1,)),  # a projection or a whitening convolution, before any stage
                (r"(?:cls_token|dist_token|reg_token|pos_embed)$", (PREVIOUS,)),
            ],
            "blocks": [(r"blocks\.(\d+)\.", None), (r"(?:norm|pool)\.", (PREVIOUS,))],
        }


def hybrid_vit(
    *,
    stem: Stem,
    num_classes: int,
    embed_dim: int = 192,
    depth: int = 6,
    num_heads: int | None = None,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    norm: Norm = "layer",
    qk_norm: bool = False,
    init_values: float | None = None,
    mlp: Literal["linear", "conv"] = "linear",
    block: Literal["attention", "conv"] = "attention",
    rel_pos_bias: bool = False,
    reg_tokens: int = 0,
    pos_embed: PosEmbed = "learned",
    pool: Literal["cls", "distilled", "mean", "sequence", "maxmean"] = "cls",
    pos_drop_rate: float = 0.0,
    proj_drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> HybridViT:
    """Compose a `HybridViT` from a stem and the numbers of the paper's table; this is what `conf/model` describes.

    Raises:
        UserError: numbers that do not fit together, with the remedy.
    """
    if stem.embed_dim != embed_dim:
        raise UserError(f"stem.embed_dim {stem.embed_dim} is not model.embed_dim {embed_dim}; set both to one value")
    pools: dict[str, Callable[[], Pool]] = {
        "cls": ClsPool,
        "distilled": DistilledPool,
        "mean": MeanPool,
        "sequence": lambda: SequencePool(embed_dim),
        "maxmean": MaxMeanPool,
    }
    for name, choice, choices in (
        ("pool", pool, [*pools]),
        ("pos_embed", pos_embed, get_args(PosEmbed)),
        ("norm", norm, [*NORMS]),
        ("mlp", mlp, ["linear", "conv"]),
        ("block", block, ["attention", "conv"]),
    ):
        if choice not in choices:
            raise UserError(f"model.{name} {choice!r} is unknown; use one of {', '.join(choices)}")
    pooled = pools[pool]()
    return HybridViT(
        stem=stem,
        encoder=Encoder(
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            norm=norm,
            qk_norm=qk_norm,
            init_values=init_values,
            mlp=mlp,
            block=block,
            rel_pos_bias=rel_pos_bias,
            num_prefix_tokens=pooled.num_prefix_tokens + reg_tokens,
            grid=stem.grid,
            proj_drop_rate=proj_drop_rate,
            attn_drop_rate=attn_drop_rate,
            drop_path_rate=drop_path_rate,
        ),
        pool=pooled,
        head=nn.Linear(embed_dim, num_classes),
        head_dist=nn.Linear(embed_dim, num_classes) if pool == "distilled" else None,
        pos_embed=pos_embed,
        reg_tokens=reg_tokens,
        norm=norm,
        pos_drop_rate=pos_drop_rate,
    )
