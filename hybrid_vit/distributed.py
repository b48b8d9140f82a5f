"""Several processes, one batch: what has to be agreed on so that they compute what one process would.

Lightning starts the processes and averages the gradients. BatchNorm has to see the whole batch, and a process that
holds fewer images of it than the others has to count for less.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes together, on any device: (B, C, H, W) -> (B, C, H, W).

    torch's own `nn.SyncBatchNorm` does not run on a CPU.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        count, total = Sum.apply(x.new_tensor([x.numel() / x.shape[1]])), Sum.apply(x.sum((0, 2, 3)))
        mean = total / count
        centred = x - mean[:, None, None]
        var = Sum.apply(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = (var + self.eps).rsqrt() * self.weight
        return centred * scale[:, None, None] + self.bias[:, None, None]


class Sum(torch.autograd.Function):
    """The sum of a tensor over all processes, in all of them."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        total = grad.clone()
        dist.all_reduce(total)
        return total


def synchronised(net: nn.Module) -> nn.Module:
    """`net` with every BatchNorm2d made one over all processes, in place; the keys of its weights stay."""
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm2d
    return net


def share(images: int, device: torch.device) -> Tensor | float:
    """How much this process's mean over `images` counts in the mean over processes: 1 where all hold equally many."""
    if not dist.is_initialized():
        return 1.0
    total = torch.tensor(float(images), device=device)
    dist.all_reduce(total)
    return images * dist.get_world_size() / total
