"""Models: the hybrid, its parts, others' models. One joins by a class, a YAML in `conf/` and a row in a test."""

from hybrid_vit.models.baselines import CvT, timm_model
from hybrid_vit.models.depthwise import set_strided_depthwise
from hybrid_vit.models.encoder import Attention, AttentionPath, Block, Encoder
from hybrid_vit.models.folding import folded
from hybrid_vit.models.hybrid import HybridViT, hybrid_vit, record_attention, set_attention, set_shards, set_trimmed
from hybrid_vit.models.mlp import MLP, ConvMLP
from hybrid_vit.models.packed import packed
from hybrid_vit.models.positions import RelPosBias
from hybrid_vit.models.stem import ConvStem, MobileStem, PatchStem, ResNetStem, TokenizerStem
from hybrid_vit.models.wide_resnet import WideResNet

__all__ = [
    "MLP",
    "Attention",
    "AttentionPath",
    "Block",
    "ConvMLP",
    "ConvStem",
    "CvT",
    "Encoder",
    "HybridViT",
    "MobileStem",
    "PatchStem",
    "RelPosBias",
    "ResNetStem",
    "TokenizerStem",
    "WideResNet",
    "folded",
    "hybrid_vit",
    "packed",
    "record_attention",
    "set_attention",
    "set_shards",
    "set_strided_depthwise",
    "set_trimmed",
    "timm_model",
]
