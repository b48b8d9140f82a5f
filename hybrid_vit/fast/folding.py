"""BatchNorm folded into the convolution before it: a network -> its function in eval mode, with fewer operations."""

from copy import deepcopy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(net: nn.Module) -> nn.Module:
    """A copy of `net` in eval mode in which no convolution is followed by a BatchNorm of its own."""
    net = deepcopy(net).eval()
    for layers in net.modules():
        if isinstance(layers, nn.Sequential):
            for i, (conv, norm) in enumerate(pairwise([*layers])):
                # Not a subclass: timm's BatchNormAct2d has an activation in it.
                if isinstance(conv, nn.Conv2d) and type(norm) is nn.BatchNorm2d:
                    layers[i], layers[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return net
