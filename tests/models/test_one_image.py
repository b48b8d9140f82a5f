"""Gradients of one image: those that it has in a batch, for every model and layout, and those of finite differences."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hybrid_vit.config.build import build
from hybrid_vit.config.compose import compose_config, resolve
from hybrid_vit.models import ConvMLP

SMALL = ("model=hybrid_tiny", "model.embed_dim=32", "model.depth=2", "model.num_heads=2")
STEMS = ("conv", "resnet", "mobile", "tokenizer", "patch", "whitened")
FORMS: dict[str, Sequence[str]] = {
    **{stem: (*SMALL, f"stem@model.stem={stem}") for stem in STEMS},
    **{f"{pool}, conv": (*SMALL, "model.mlp=conv", f"model.pool={pool}") for pool in ("cls", "mean", "sequence")},
    "distilled, registers": (*SMALL, "model.mlp=conv", "model.pool=distilled", "model.reg_tokens=2"),
    "wide_resnet": ("model=wrn_16_8", "model.width=1"),
    "resnet18": ("model=resnet18",),
    "efficientnet_b0": ("model=efficientnet_b0",),
    "cvt_13": ("model=cvt_13",),
}
SLOW = ("efficientnet_b0", "cvt_13")
NEEDS = {"resnet18": "timm", "efficientnet_b0": "timm", "cvt_13": "transformers"}


def scrambled(net: nn.Module) -> nn.Module:
    """In double precision, with norms that do something."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.double().eval()


def gradient(net: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    logits = net(x)
    return torch.autograd.grad((logits * torch.linspace(-1, 1, logits.shape[-1]).double()).sum(), x)[0]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=pytest.mark.slow) if form in SLOW else form for form in FORMS]
)
def test_an_image_alone_has_the_gradient_that_it_has_in_a_batch(form: str, channels_last: bool) -> None:
    pytest.importorskip(NEEDS.get(form, "torch"))
    torch.manual_seed(0)
    net = scrambled(build(resolve(compose_config(list(FORMS[form])))["model"] | {"num_classes": 7}))
    x = torch.randn(2, 3, 32, 32).double()
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    both = gradient(net, x)
    assert both.abs().max() > 0
    torch.testing.assert_close(torch.cat([gradient(net, x[:1]), gradient(net, x[1:])]), both, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("training", [False, True])
def test_the_gradient_of_one_image_is_that_of_finite_differences(prefix: int, training: bool) -> None:
    torch.manual_seed(0)
    mlp = scrambled(ConvMLP(4, 8, num_prefix_tokens=prefix)).train(training)
    assert torch.autograd.gradcheck(lambda x: mlp(x, (2, 8)), torch.randn(1, prefix + 16, 4).double().requires_grad_())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("stem", ["conv", "resnet", "mobile"])
def test_the_gradient_of_one_image_through_a_model_is_that_of_finite_differences(stem: str, training: bool) -> None:
    torch.manual_seed(0)
    rates = [f"model.{name}_rate=0" for name in ("pos_drop", "proj_drop", "attn_drop", "drop_path")]
    form = [*FORMS[stem], *rates, "model.embed_dim=8", "model.depth=1", "model.mlp=conv", "model.stem.channels=[4,4,8]"]
    spec = resolve(compose_config(form))["model"] | {"num_classes": 3}
    spec["stem"] |= {"img_size": 8, "grid": 4}
    net = scrambled(build(spec)).train(training)
    assert torch.autograd.gradcheck(net, torch.randn(1, 3, 8, 8).double().requires_grad_(), fast_mode=True)


def test_torch_still_needs_the_layout() -> None:
    """torch 2.14.1, CPU. When this fails, `models/layout.py` may say it in any way and CvT needs no hook."""
    torch.manual_seed(0)
    norm = scrambled(nn.BatchNorm2d(4))

    def by_transpose(x: Tensor) -> Tensor:
        return norm(x.transpose(1, 2).unflatten(2, (2, 2)))

    x, factor = torch.randn(1, 4, 4).double().requires_grad_(), torch.randn(1, 4, 2, 2).double()
    (found,) = torch.autograd.grad((by_transpose(x) * factor).sum(), x)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    right = (factor * scale[:, None, None]).flatten(2).transpose(1, 2)
    assert not torch.allclose(found, right), f"torch {torch.__version__} is fixed"
