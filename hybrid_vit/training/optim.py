"""Optimizers and the learning-rate schedule: a network -> an optimizer, a step -> a learning-rate factor.

AdamW: Loshchilov and Hutter 2019 (arXiv 1711.05101). Cosine with linear warm-up: Loshchilov and Hutter 2017
(arXiv 1608.03983), Goyal et al. 2017 (arXiv 1706.02677).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from hybrid_vit.models.layers import CLASSIFIERS
from hybrid_vit.training.muon import Muon
from hybrid_vit.utils.limits import check_schedule


def param_groups(net: nn.Module, weight_decay: float, decay_all: bool) -> list[dict]:
    """Two groups: matrices and kernels decay; norms, biases, tokens and positions do not, unless `decay_all`.

    Tokens and positions are what `net.no_weight_decay()` names, of our models and of timm's.
    """
    named: set[str] = getattr(net, "no_weight_decay", set)()
    decay: list[nn.Parameter] = []
    keep: list[nn.Parameter] = []
    for name, param in net.named_parameters():
        decays = decay_all or (param.ndim > 1 and name not in named)
        (decay if decays else keep).append(param)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(
    net: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
    decay_all: bool = False,
) -> AdamW:
    """AdamW, fused: one pass over memory a step."""
    return AdamW(param_groups(net, weight_decay, decay_all), lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)


def sgd(
    net: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    momentum: float = 0.9,
    nesterov: bool = True,
    decay_all: bool = False,
) -> SGD:
    """SGD with momentum, fused; without momentum there is none of Nesterov."""
    groups = param_groups(net, weight_decay, decay_all)
    return SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0, fused=True)


def muon(
    net: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    adamw_lr: float = 2e-3,
    momentum: float = 0.6,
    ns_steps: int = 3,
    betas: Sequence[float] = (0.9, 0.95),
    eps: float = 1e-8,
    decay_all: bool = False,
) -> Muon:
    """Muon for matrices and kernels; AdamW with `adamw_lr` for the classifier, depthwise kernels and everything else.

    Args:
        weight_decay: of AdamW's parameters; Muon's keep their norm.
    """
    matrices = [weight for name, weight in net.named_parameters() if is_matrix(name, weight)]
    orthogonal = {id(weight) for weight in matrices}
    rest = [
        group | {"params": left, "lr": adamw_lr, "orthogonal": False}
        for group in param_groups(net, weight_decay, decay_all)
        if (left := [weight for weight in group["params"] if id(weight) not in orthogonal])
    ]
    groups = [{"params": matrices, "lr": lr, "weight_decay": 0.0, "orthogonal": True}] if matrices else []
    return Muon([*groups, *rest], momentum=momentum, ns_steps=ns_steps, lr=lr, betas=(betas[0], betas[1]), eps=eps)


def is_matrix(name: str, weight: nn.Parameter) -> bool:
    """Whether Muon orthogonalises a weight: that of a layer between hidden channels, which mixes them."""
    layer, _, kind = name.rpartition(".")
    if kind != "weight" or layer.rpartition(".")[2] in CLASSIFIERS or not weight.requires_grad:
        return False
    return weight.ndim > 1 and min(weight.shape[:2]) > 3  # more than colours, or the one channel of a depthwise kernel


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adamw": adamw, "sgd": sgd, "muon": muon}


# What is left of the decay when a share of it is over.
SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "linear": lambda progress: 1 - progress,
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, then a half cosine or a line down to `min_lr`; t and all lengths are in epochs.

    Args:
        epochs: length of the whole schedule.
        warmup_epochs: factor(t) = t / warmup_epochs until the cosine begins there, (t + 1) / warmup_epochs per epoch.
        min_lr: learning rate at the end, in units of `lr`'s own.
        shape: one of SHAPES.
        interval: whether the rate moves with every optimizer step or once an epoch.

    Raises:
        UserError: a warm-up that does not end before the schedule does, or a last rate above the first.
    """

    lr: float
    epochs: float
    warmup_epochs: float = 0.0
    min_lr: float = 0.0
    shape: str = "cosine"
    interval: Literal["step", "epoch"] = "step"

    def __post_init__(self) -> None:
        check_schedule(lr=self.lr, epochs=self.epochs, warmup_epochs=self.warmup_epochs, min_lr=self.min_lr)

    def factor(self, t: float) -> float:
        """Learning rate at epoch t (a fraction of one counts), as a multiple of `lr`."""
        if t < self.warmup_epochs:
            return min(1.0, (t + (self.interval == "epoch")) / self.warmup_epochs)
        progress = min(1.0, (t - self.warmup_epochs) / (self.epochs - self.warmup_epochs))
        floor = self.min_lr / self.lr
        return floor + (1 - floor) * SHAPES[self.shape](progress)
