"""What makes a network fast on a machine, applied from outside; results stay the same.

`set_*` change a network in place and keep its keys; `folded` and `packed` are for inference.
"""

from hybrid_vit.fast.attention import AttentionPath, set_attention
from hybrid_vit.fast.depthwise import set_strided_depthwise
from hybrid_vit.fast.dropout import set_dropout
from hybrid_vit.fast.folding import folded
from hybrid_vit.fast.hybrid import set_hybrid
from hybrid_vit.fast.packed import packed
from hybrid_vit.fast.pooled import set_pooled
from hybrid_vit.fast.winograd import set_winograd

__all__ = [
    "AttentionPath",
    "folded",
    "packed",
    "set_attention",
    "set_dropout",
    "set_hybrid",
    "set_pooled",
    "set_strided_depthwise",
    "set_winograd",
]
