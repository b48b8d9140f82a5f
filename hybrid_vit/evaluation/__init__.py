"""Evaluation: what a trained network scores, and how sure one may be of it."""

from hybrid_vit.evaluation.metrics import Scores

__all__ = ["Scores"]
