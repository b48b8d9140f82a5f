"""Models: the hybrid and its parts. A part joins by one class, one YAML in `conf/` and one row in its test."""

from hybrid_vit.models.encoder import Attention, AttentionPath, Block, Encoder
from hybrid_vit.models.folding import folded
from hybrid_vit.models.hybrid import HybridViT, hybrid_vit, record_attention, set_attention, set_shards, set_trimmed
from hybrid_vit.models.mlp import MLP, ConvMLP
from hybrid_vit.models.packed import packed
from hybrid_vit.models.positions import RelPosBias
from hybrid_vit.models.stem import ConvStem, MobileStem, PatchStem, ResNetStem, TokenizerStem

__all__ = [
    "MLP",
    "Attention",
    "AttentionPath",
    "Block",
    "ConvMLP",
    "ConvStem",
    "Encoder",
    "HybridViT",
    "MobileStem",
    "PatchStem",
    "RelPosBias",
    "ResNetStem",
    "TokenizerStem",
    "folded",
    "hybrid_vit",
    "packed",
    "record_attention",
    "set_attention",
    "set_shards",
    "set_trimmed",
]
