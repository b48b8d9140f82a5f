"""Layers by depth: those of the hybrids by name, those of every model as timm groups them."""

import pytest
import torch
from torch import nn

import hybrid_vit
from hybrid_vit.config.compose import options
from hybrid_vit.models import ConvStem
from hybrid_vit.models import hybrid_vit as hybrid
from hybrid_vit.models.layers import layers
from hybrid_vit.training.optim import param_groups


def test_the_layers_of_the_published_model() -> None:
    net = hybrid_vit.build_model("hybrid_fast")
    found = layers(net)
    parts = [{name.rpartition(".")[0] for name in names} for names in found]
    group = ("halving.0", "halving.2", "residual.0", "residual.1")
    assert parts[0] == {"patch_embed.white"}
    for i in range(3):
        assert parts[1 + i] - {""} == {f"patch_embed.groups.{i}.{part}" for part in group}
    assert found[3][-1] == "pos_embed"  # positions enter with what the stem gives
    assert {part.split(".")[0] for part in parts[4]} == {"blocks", "norm"}
    assert found[5:] == [["head.weight", "head.bias"]]


def test_the_layers_of_a_hybrid_with_all_its_tokens() -> None:
    stem = ConvStem(embed_dim=32, depth=3)
    net = hybrid(stem=stem, num_classes=5, embed_dim=32, depth=12, pool="distilled", reg_tokens=2)
    found = layers(net)
    assert len(found) == 3 + 12 + 1
    assert {*found[2]} >= {"cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed.2.0.weight"}
    assert [names[0].split(".")[1] for names in found[3:15]] == [str(i) for i in range(12)]  # 10 after 9
    assert {*found[-1]} == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    pooled = layers(hybrid(stem=stem, num_classes=5, embed_dim=32, depth=1, pool="sequence"))
    assert "pool.attention.weight" in pooled[-2]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # timm's own, while it is imported
@pytest.mark.parametrize("name", options("model"))
def test_of_every_model_the_outputs_the_layers_and_what_decays(name: str) -> None:
    timm_models = pytest.importorskip("timm.models")
    try:
        net = hybrid_vit.build_model(name, num_classes=7)
    except ModuleNotFoundError as error:
        pytest.skip(f"{name} is of a library of the extra 'baselines': {error}")
    assert net.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)

    still = ("cls_token", "dist_token", "reg_token", "pos_embed", "relative_position_bias_table")
    expected = {n for n, p in net.named_parameters() if p.ndim > 1 and n.rpartition(".")[2] not in still}
    names = {id(parameter): n for n, parameter in net.named_parameters()}
    decay, _ = param_groups(net, 0.05, decay_all=False)
    assert {names[id(parameter)] for parameter in decay["params"]} == expected

    found = layers(net)
    assert found == [*timm_models.group_parameters(net, net.group_matcher()).values()]
    assert sorted(name for names in found for name in names) == sorted(name for name, _ in net.named_parameters())
    assert len(found) > 3
    classifier = {"head", "head_dist", "fc", "classifier"}
    assert all(classifier & {*name.split(".")} for name in found[-1])
    assert not any(classifier & {*name.split(".")} for names in found[:-1] for name in names)


def test_a_network_that_does_not_say_its_layers() -> None:
    with pytest.raises(ValueError, match=r"layers of Linear is not known, as it has no group_matcher\(\)"):
        layers(nn.Linear(1, 1))
