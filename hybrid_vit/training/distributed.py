"""Several processes, one batch: what has to be agreed on so that they compute what one process would.

Lightning starts the processes and averages the gradients. BatchNorm has to see the whole batch, and a process that
holds fewer images of it than the others has to count for less.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hybrid_vit.utils.errors import UserError


class SyncBatchNorm(_BatchNorm):
    """BatchNorm over the batches of all processes together: (B, C, ...) -> the same shape and type.

    For a CPU and an Apple GPU, where `nn.SyncBatchNorm` does not run. Statistics are at least fp32, whatever the type.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.ndim >= 2

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        each, places = [0, *range(2, x.ndim)], (-1, *[1] * (x.ndim - 2))
        whole = x.to(torch.promote_types(x.dtype, torch.float32))
        sums = Sum.apply(torch.cat([whole.sum(each), whole.new_tensor([x.numel() / x.shape[1]])]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = whole - mean.view(places)
        var = Sum.apply(centred.square().sum(each)) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), momentum)
        scale = (var + self.eps).rsqrt()
        y = centred * (scale if self.weight is None else scale * self.weight).view(places)
        return (y if self.bias is None else y + self.bias.view(places)).to(x.dtype)


class Activated(_BatchNorm):
    """What timm's `BatchNormAct2d` adds to a BatchNorm: dropout and an activation follow it."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


class SyncBatchNormAct(Activated, SyncBatchNorm):
    """`BatchNormAct2d` over all processes, on a CPU or an Apple GPU."""


class CudaSyncBatchNormAct(Activated, nn.SyncBatchNorm):
    """`BatchNormAct2d` over all processes, on CUDA."""


class Sum(torch.autograd.Function):
    """The sum of a tensor over all processes, in all of them."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return added(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return added(grad)


# From the name of a class (timm takes seconds to import) to its form over several processes: on CUDA, elsewhere.
SYNCHRONISED: dict[str, tuple[type[_BatchNorm], type[_BatchNorm]]] = {
    "torch.nn.modules.batchnorm.BatchNorm1d": (nn.SyncBatchNorm, SyncBatchNorm),
    "torch.nn.modules.batchnorm.BatchNorm2d": (nn.SyncBatchNorm, SyncBatchNorm),
    "torch.nn.modules.batchnorm.BatchNorm3d": (nn.SyncBatchNorm, SyncBatchNorm),
    "timm.layers.norm_act.BatchNormAct2d": (CudaSyncBatchNormAct, SyncBatchNormAct),
}


def synchronised(net: nn.Module, *, cuda: bool = False) -> nn.Module:
    """`net` with every BatchNorm made one over all processes, in place; the keys of its weights stay.

    Raises:
        UserError: a subclass of BatchNorm whose form over several processes is not known.
    """
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm):
            kind = f"{type(module).__module__}.{type(module).__qualname__}"
            if kind not in SYNCHRONISED:
                raise UserError(
                    f"{name} is a {kind}, whose statistics cannot be shared by several processes; "
                    "use trainer.devices=1, or another model"
                )
            # What nn.SyncBatchNorm's constructor sets: all processes.
            module.process_group = None  # type: ignore[assignment]
            module.__class__ = SYNCHRONISED[kind][0 if cuda else 1]
    return net


def summed(count: int, device: torch.device) -> Tensor | int:
    """The sum of `count` over all processes, on `device` where there are several."""
    return added(torch.tensor(count, device=device)) if dist.is_initialized() else count


def added(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    total = values.clone()
    if dist.is_initialized():
        dist.all_reduce(total)
    return total


def share(images: int, total: Tensor | int) -> Tensor | float:
    """How much a mean over `images` of the `total` of all processes counts in the mean over processes.

    It is 1 where all hold equally many.
    """
    return images * dist.get_world_size() / total if dist.is_initialized() else 1.0
