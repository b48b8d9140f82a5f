"""Models: the hybrid, its parts, others' models. CONTRIBUTING.md says what a new one needs besides its class."""

from hybrid_vit.models.encoder import Attention, Block, ConvBlock, Encoder
from hybrid_vit.models.ensemble import Ensemble, mirrored
from hybrid_vit.models.external import CvT, timm_model
from hybrid_vit.models.hybrid import HybridViT, hybrid_vit
from hybrid_vit.models.mlp import MLP, ConvMLP
from hybrid_vit.models.positions import RelPosBias
from hybrid_vit.models.stem import ConvStem, MobileStem, PatchStem, ResNetStem, TokenizerStem
from hybrid_vit.models.whitened_stem import ConvGroup, WhitenedStem, WhiteningConv
from hybrid_vit.models.wide_resnet import WideResNet

__all__ = [
    "MLP",
    "Attention",
    "Block",
    "ConvBlock",
    "ConvGroup",
    "ConvMLP",
    "ConvStem",
    "CvT",
    "Encoder",
    "Ensemble",
    "HybridViT",
    "MobileStem",
    "PatchStem",
    "RelPosBias",
    "ResNetStem",
    "TokenizerStem",
    "WhitenedStem",
    "WhiteningConv",
    "WideResNet",
    "hybrid_vit",
    "mirrored",
    "timm_model",
]
