"""Evaluation: what a trained network scores, and how sure one may be of it."""

from hybrid_vit.evaluation.calibration import fit_temperature
from hybrid_vit.evaluation.metrics import EVALUATORS, Calibration, Confusion, Evaluator, Scores
from hybrid_vit.evaluation.scoring import count_macs, forgotten, logits_of, per_class, score

__all__ = [
    "EVALUATORS",
    "Calibration",
    "Confusion",
    "Evaluator",
    "Scores",
    "count_macs",
    "fit_temperature",
    "forgotten",
    "logits_of",
    "per_class",
    "score",
]
