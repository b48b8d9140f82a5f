"""Models: the hybrid its parts, others' models. A part joins by one class, one YAML in `conf/`, one row in its test."""

from hybrid_vit.models.baselines import CvT, timm_model
from hybrid_vit.models.encoder import MLP, Attention, AttentionPath, Block, Encoder
from hybrid_vit.models.folding import folded
from hybrid_vit.models.hybrid import HybridViT, hybrid_vit, record_attention, set_attention, set_shards
from hybrid_vit.models.stem import ConvStem, PatchStem
from hybrid_vit.models.wide_resnet import WideResNet

__all__ = [
    "MLP",
    "Attention",
    "AttentionPath",
    "Block",
    "ConvStem",
    "CvT",
    "Encoder",
    "HybridViT",
    "PatchStem",
    "WideResNet",
    "folded",
    "hybrid_vit",
    "record_attention",
    "set_attention",
    "set_shards",
    "timm_model",
]
