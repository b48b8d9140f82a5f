"""Transfer: which layers of a trained network learn, and how fast.

Learning rates by layer: Clark et al. 2020 (arXiv 2003.10555), Bao et al. 2022 (arXiv 2106.08254).
"""

from torch import nn
from torch.optim import Optimizer

from hybrid_vit.models.layers import layers
from hybrid_vit.utils.errors import UserError


def freeze(net: nn.Module, unfrozen: int) -> None:
    """Let the classifier and the last `unfrozen` layers before it learn, and nothing else.

    Raises:
        UserError: there are fewer layers.
    """
    *body, _ = layers(net)
    if unfrozen > len(body):
        raise UserError(
            f"unfreeze={unfrozen} is more than the {len(body)} layers before the classifier of this model; "
            f"use 1 to {len(body)}, or transfer=full"
        )
    for names in body[: len(body) - unfrozen]:
        for name in names:
            net.get_parameter(name).requires_grad_(False)


def train_unfrozen(net: nn.Module) -> None:
    """Train mode for the parts that learn as a whole, eval mode for the rest.

    So a frozen part drops nothing, and the statistics of its BatchNorm stay.
    """
    net.eval()
    net.training = True  # its own forward pass, as that of a distillation token, is one of training
    for module in net.modules():
        learns = [parameter.requires_grad for parameter in module.parameters()]
        if learns and all(learns):
            module.train()
    if isinstance(dropout := getattr(net, "head_drop", None), nn.Module):  # timm's, of the classifier
        dropout.train()


def decay_rates(optimizer: Optimizer, net: nn.Module, layer_decay: float) -> None:
    """Multiply the rates of the k-th layer before the classifier by layer_decay^k, in groups of their own."""
    factors = {
        net.get_parameter(name): layer_decay**k for k, names in enumerate(reversed(layers(net))) for name in names
    }
    groups = []
    for group in optimizer.param_groups:
        for factor in dict.fromkeys(factors.values()):  # the last layer's first: its rate is the one that is logged
            if parameters := [weight for weight in group["params"] if factors[weight] == factor]:
                groups.append(group | {"params": parameters, "lr": group["lr"] * factor})
    optimizer.param_groups = groups
