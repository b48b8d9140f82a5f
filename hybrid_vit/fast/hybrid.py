"""The forward pass of a hybrid on a machine: in shards of the batch, and in its last block only what the pool reads.

Logits and gradients stay the same.
"""

import torch
from torch import Tensor, nn

from hybrid_vit.fast.attention import FastAttention
from hybrid_vit.fast.dropout import set_dropout
from hybrid_vit.fast.shards import sharded
from hybrid_vit.models.encoder import Attention, Block
from hybrid_vit.models.hybrid import HybridViT
from hybrid_vit.models.mlp import MLP


class FastHybridViT(HybridViT):
    """As `HybridViT`, (B, 3, H, W) -> (B, num_classes).

    Attributes:
        shards: parts of the batch, at most, that are read side by side on a CPU.
    """

    shards: int = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        one = self.shards == 1 or torch.compiler.is_exporting()  # a graph is for any batch, and has no threads
        if one or looks_at_the_batch(*(part for name, part in self.named_children() if name != "patch_embed")):
            return self.read(x)
        # BatchNorm in the stem looks at the whole batch; from there on every sample is by itself.
        after_stem = [param for name, param in self.named_parameters() if not name.startswith("patch_embed.")]
        return sharded(self.read, x, after_stem, self.shards)

    def read(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, num_classes) logits."""
        *blocks, last = self.blocks
        h, w = x.shape[2:]
        x = self.embed(x)
        for block in blocks:
            x = block(x, (h, w))
        first = self.pool.num_prefix_tokens
        # An MLP takes each token by itself, so those that the head does not read need none.
        if first and type(last) is Block and type(last.attn) is FastAttention and type(last.mlp) is MLP:
            x = x[:, :first] + last.drop_path(last.ls1(last.attn(last.norm1(x), (h, w), first)))
            x = x + last.drop_path(last.ls2(last.mlp(last.norm2(x), (h, w))))
        else:
            x = last(x, (h, w))
        return self.forward_head(self.norm(x))


def looks_at_the_batch(*nets: nn.Module) -> bool:
    """Whether what `nets` compute for a sample depends on the others now: a BatchNorm is training in them."""
    modules = (module for net in nets for module in net.modules())
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training for module in modules)


def set_hybrid(net: nn.Module, shards: int = 1) -> None:
    """Make every `HybridViT` in `net` read its tokens in up to `shards` parts of the batch, side by side on a CPU.

    Its last block computes only the tokens that the pool reads. With a class token it then costs about a quarter.
    """
    for module in net.modules():
        if type(module) in (HybridViT, FastHybridViT):  # another class has a forward of its own
            module.__class__ = FastHybridViT
            assert isinstance(module, FastHybridViT)
            module.shards = shards
            if isinstance(last := module.blocks[-1], Block) and type(last.attn) is Attention:
                last.attn.__class__ = FastAttention
            set_dropout(module)  # what a shard drops does not depend on the threads
