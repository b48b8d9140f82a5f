"""Evaluation: what a trained network scores, and how sure one may be of it."""

from hybrid_vit.evaluation.metrics import EVALUATORS, Confusion, Evaluator, Scores
from hybrid_vit.evaluation.scoring import count_macs, per_class, score

__all__ = ["EVALUATORS", "Confusion", "Evaluator", "Scores", "count_macs", "per_class", "score"]
