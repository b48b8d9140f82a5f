"""Every file in `conf/`: it composes, has no open values, and describes parts that can be built."""

import pytest
import torch

from hybrid_vit.augment import Augment
from hybrid_vit.config import CONF, choices, composed, grouped, options, plain
from hybrid_vit.runs import build

GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
KEYS = {key.split("@")[0]: key for key in choices(grouped("train"))}
FILES = [(group, option) for group in GROUPS for option in options(group)]


def spec_of(group: str, option: str) -> dict:
    """A group that nothing is chosen in by default, such as an ablation, is added."""
    root = ["data.root=/pictures"] if option == "folder" else []
    return plain(composed([f"{KEYS.get(group, f'+{group}')}={option}", *root]))


def values(tree: object) -> list:
    if isinstance(tree, dict | list):
        return [leaf for item in (tree.values() if isinstance(tree, dict) else tree) for leaf in values(item)]
    return [tree]


def test_there_are_files() -> None:
    assert {"model", "stem", "data", "augment", "optim", "accelerator", "logger", "experiment"} <= set(GROUPS)
    assert len(FILES) >= 20


@pytest.mark.parametrize(("group", "option"), FILES, ids=lambda name: name)
def test_it_composes(group: str, option: str) -> None:
    spec = spec_of(group, option)
    assert spec != plain(composed([])) or grouped("train").hydra.runtime.choices.get(KEYS.get(group)) == option
    assert not [value for value in values(spec) if isinstance(value, str) and ("${" in value or value == "???")]


@pytest.mark.parametrize("option", options("augment"))
def test_augmentation_builds(option: str) -> None:
    parts = build(spec_of("augment", option)["augment"])
    augment = Augment(**parts)
    assert {name: part is not None for name, part in vars(augment).items()} == {
        name: part is not None for name, part in parts.items()
    }


@pytest.mark.parametrize("name", options("model"))
def test_model_builds(name: str) -> None:
    net = build(plain(composed([f"model={name}", "model.num_classes=7"]))["model"]).eval()
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


@pytest.mark.parametrize("name", options("stem"))
def test_stem_builds(name: str) -> None:
    spec = plain(composed(["model=hybrid_tiny", f"stem@model.stem={name}", "model.depth=1"]))["model"]
    assert build(spec).patch_embed.embed_dim == 96


@pytest.mark.parametrize(("name", "count"), [("hybrid_192", 3_035_812), ("hybrid_384", 14_770_084)])
def test_published_size(name: str, count: int) -> None:
    net = build(plain(composed([f"model={name}"]))["model"])
    assert sum(parameter.numel() for parameter in net.parameters()) == count


def test_the_document_is_the_default() -> None:
    plainly, document = plain(composed(["model=hybrid_192"])), plain(composed(["experiment=document_192"]))
    assert document["name"] == "document_192"
    assert {**plainly, "name": "document_192"} == document
