"""Calibration: do the probabilities of a network come true? Probabilities -> error; logits -> temperature.

Guo et al. 2017 (arXiv 1706.04599).
"""

import math

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

BINS = 15  # as in the paper


def calibration_error(probability: Tensor, hit: Tensor) -> float:
    """The mean difference between probability and accuracy over bins of equal width, weighted by images, in per cent.

    Args:
        probability: (N,) in [0, 1], of the predicted class.
        hit: (N,), 1 where the prediction is right, else 0.
    """
    bins = (probability * BINS).ceil().long().clamp(1, BINS) - 1
    surplus = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, (probability - hit).double())
    return 100 * float(surplus.abs().sum()) / len(probability)


ENOUGH = 100  # images for a temperature


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T for which softmax(logits / T) has the smallest cross entropy; between 1/20 and 20.

    1 for fewer than `ENOUGH` images, or if all predictions are right: then no probability would be too high.

    Args:
        logits: (N, C) of images that the network was not trained on.
        labels: (N,) int64.
    """
    logits, labels = logits.cpu().double(), labels.cpu()  # an Apple GPU has no float64
    if len(labels) < ENOUGH or bool((logits.argmax(1) == labels).all()):
        return 1.0
    found = minimize_scalar(
        lambda log: float(F.cross_entropy(logits / math.exp(log), labels)),
        bounds=(-math.log(20), math.log(20)),
        method="bounded",
    )
    return math.exp(found.x)
