"""Explanations of one answer: a network (any `nn.Module` in eval mode) and images enter, maps or neighbours leave.

attention.py   attention rollout: which cells of the grid the attention follows
gradients.py   integrated gradients: which pixels the logit of a class comes from
neighbours.py  the images whose features are the most alike
"""

from hybrid_vit.explanation.attention import AttentionRecorder, attention_map, rollout
from hybrid_vit.explanation.gradients import integrated_gradients
from hybrid_vit.explanation.neighbours import nearest, penultimate

__all__ = [
    "AttentionRecorder",
    "attention_map",
    "integrated_gradients",
    "nearest",
    "penultimate",
    "rollout",
]
