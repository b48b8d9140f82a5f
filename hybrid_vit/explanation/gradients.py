"""Integrated gradients: an image and a class -> what each pixel adds to the logit of that class.

Sundararajan et al. 2017 (arXiv 1703.01365). It needs nothing but gradients, so it is defined for every network, at the
resolution of the image. What the pixels add sums to logit(image) - logit(baseline).
"""

import torch
from torch import Tensor, nn


def integrated_gradients(net: nn.Module, images: Tensor, targets: Tensor, *, steps: int = 32) -> Tensor:
    """(image - baseline) times the mean gradient along the line from the baseline to the image; (B, 3, H, W).

    The baseline is 0: of normalised images, the colour `data.mean`. The integral is a sum over the middles of
    `steps` equal parts of that line.

    Args:
        net: (B, 3, H, W) -> (B, classes) logits, in eval mode; `steps` times as many images go through it at once.
        images: (B, 3, H, W), normalised.
        targets: (B,) int64 classes.
    """
    shares = ((torch.arange(steps, device=images.device) + 0.5) / steps).view(-1, 1, 1, 1, 1)
    points = (shares * images.detach()).flatten(0, 1).requires_grad_()  # (steps * B, 3, H, W)
    logits = net(points).gather(1, targets.repeat(steps)[:, None])
    (gradients,) = torch.autograd.grad(logits.sum(), points)
    return images * gradients.unflatten(0, (steps, -1)).mean(dim=0)
