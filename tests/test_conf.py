"""Every file in `conf/`: it composes, has no open values, and describes parts that can be built."""

import functools
from typing import Any

import pytest
from torch import nn
from torchvision.ops import StochasticDepth

from hybrid_vit.augment import Augment
from hybrid_vit.config.build import build
from hybrid_vit.config.compose import choices, compose_config, compose_groups, options, resolve
from hybrid_vit.config.validation import check_together, check_values
from hybrid_vit.evaluation.scoring import count_macs
from hybrid_vit.fast import set_attention
from hybrid_vit.utils.limits import warmup
from hybrid_vit.utils.paths import CONF

GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
KEYS = {key.split("@")[0]: key for key in choices(compose_groups("train"))}
FILES = [(group, option) for group in GROUPS for option in options(group)]


def spec_of(group: str, option: str) -> dict:
    """A group that nothing is chosen in by default, such as an ablation, is added; a search is not of training."""
    if group == "search":
        return resolve(compose_config([f"search={option}"], "search"))
    root = ["data.root=/pictures"] if option in ("folder", "medmnist") else []
    return resolve(compose_config([f"{KEYS.get(group, f'+{group}')}={option}", *root]))


def values(tree: object) -> list:
    if isinstance(tree, dict | list):
        return [leaf for item in (tree.values() if isinstance(tree, dict) else tree) for leaf in values(item)]
    return [tree]


def test_there_are_files() -> None:
    assert {"model", "stem", "data", "augment", "optim", "accelerator", "logger", "experiment", "search"} <= set(GROUPS)
    assert len(FILES) >= 20


@functools.cache
def default() -> Any:
    return resolve(compose_config([]))


@pytest.mark.parametrize(("group", "option"), FILES, ids=lambda name: name)
def test_it_composes(group: str, option: str) -> None:
    spec = spec_of(group, option)
    assert spec != default() or compose_groups("train").hydra.runtime.choices.get(KEYS.get(group)) == option
    assert not [value for value in values(spec) if isinstance(value, str) and ("${" in value or value == "???")]


@pytest.mark.parametrize("option", options("augment"))
def test_augmentation_builds(option: str) -> None:
    parts = build(spec_of("augment", option)["augment"])
    augment = Augment(**parts)
    assert {name: part is not None for name, part in vars(augment).items()} == {
        name: part is not None for name, part in parts.items()
    }


@pytest.mark.parametrize("experiment", options("experiment"))
def test_an_experiment_takes_another_augmentation(experiment: str) -> None:
    for option in ("none", "document"):  # with and without each step
        chosen = resolve(compose_config([f"experiment={experiment}", f"augment={option}"]))["augment"]
        Augment(**build(chosen))
        assert chosen == spec_of("augment", option)["augment"]


@pytest.mark.parametrize("name", options("stem"))
def test_stem_builds(name: str) -> None:
    spec = resolve(compose_config(["model=hybrid_tiny", f"stem@model.stem={name}", "model.depth=1"]))["model"]
    assert build(spec).patch_embed.embed_dim == 96


@pytest.mark.parametrize(
    ("name", "count"),
    [("hybrid_192", 3_035_812), ("hybrid_384", 14_770_084), ("hybrid_fast", 3_315_740), ("cct_7_3x1", 3_783_269)],
)
def test_published_size(name: str, count: int) -> None:
    net = build(resolve(compose_config([f"model={name}"]))["model"])
    assert sum(parameter.numel() for parameter in net.parameters()) == count


def test_cct_is_the_papers() -> None:
    net = build(resolve(compose_config(["model=cct_7_3x1", "model.num_classes=10"]))["model"])
    shapes = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
    assert shapes.pop("patch_embed.0.0.weight") == (256, 3, 3, 3)
    assert shapes.pop("pos_embed") == (1, 256, 256)
    assert shapes.pop("pool.attention.weight") == (1, 256)
    assert shapes.pop("head.weight") == (10, 256)
    for block in range(7):
        assert shapes.pop(f"blocks.{block}.attn.qkv.weight") == (768, 256)
        assert shapes.pop(f"blocks.{block}.attn.proj.weight") == (256, 256)
        assert shapes.pop(f"blocks.{block}.mlp.fc1.weight") == (512, 256)
        assert shapes.pop(f"blocks.{block}.mlp.fc2.weight") == (256, 512)
    assert all(len(shape) == 1 for shape in shapes.values())
    assert not [name for name in shapes if name.endswith("qkv.bias")]
    assert net.blocks[0].attn.num_heads == 4
    assert sum(parameter.numel() for parameter in net.parameters()) == 3_760_139
    rates = {
        name: layer.p
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Dropout | StochasticDepth) and layer.p
    }
    attention = {f"blocks.{block}.attn.attn_drop": 0.1 for block in range(7)}
    assert rates == pytest.approx(attention | {f"blocks.{block}.drop_path": block / 60 for block in range(1, 7)})
    set_attention(net, "explicit")
    products = 7 * 2 * 256**3  # queries by keys, weights by values: the paper's 0.947 G leave them out
    assert count_macs(net, 32) - products == pytest.approx(0.947e9, rel=0.005)


def test_the_pure_vit_is_the_hybrid_with_patches() -> None:
    vit, hybrid = (resolve(compose_config([f"model={name}"]))["model"] for name in ("vit_192", "hybrid_192"))
    assert vit.pop("stem")["_target_"].endswith("PatchStem")
    assert hybrid.pop("stem")["grid"] == 16
    assert vit == hybrid


@pytest.mark.parametrize(
    ("name", "epochs", "warm_up"),
    [("run_192", 200, 5), ("run_384", 201, 5), ("document_192", 200, 5), ("quickstart", 20, 2)],
)
def test_the_schedules_of_the_published_recipes(name: str, epochs: int, warm_up: float) -> None:
    spec = resolve(compose_config([f"experiment={name}"]))
    assert (spec["epochs"], warmup(spec["optim"]["warmup_epochs"], spec["epochs"])) == (epochs, warm_up)
    short = resolve(compose_config([f"experiment={name}", "epochs=1"]))
    check_together(short)
    assert warmup(short["optim"]["warmup_epochs"], 1) == 0.1


@pytest.mark.parametrize("name", options("experiment"))
def test_every_recipe_passes_the_checks(name: str) -> None:
    spec = resolve(compose_config([f"experiment={name}"]))
    check_values(spec)
    check_together(spec)


def test_the_document_is_the_default() -> None:
    plainly, document = (
        resolve(compose_config(["model=hybrid_192"])),
        resolve(compose_config(["experiment=document_192"])),
    )
    assert document["name"] == "document_192"
    assert {**plainly, "name": "document_192"} == document
