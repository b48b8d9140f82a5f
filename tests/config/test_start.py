"""What a configuration takes from the run that it starts from, and what the command line still decides."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_vit.config.compose import compose_config, format_experiment, look_in, resolve
from hybrid_vit.utils.files import write_json
from hybrid_vit.utils.paths import PUBLISHED

FAST = json.loads((PUBLISHED / "fast_4m" / "model.json").read_text())
FAST["model"]["stem"].setdefault("depths", None)  # a key that is newer than the run


def spec_of(*settings: str) -> dict:
    return resolve(compose_config([*settings]))


def test_the_model_mean_and_std_are_those_of_the_source() -> None:
    spec = spec_of("data=cifar10", "init_from=fast_4m", "data.image_size=64")
    assert spec["model"] == FAST["model"] | {"num_classes": 10}
    assert spec["model"]["stem"]["img_size"] == 32  # its grid is that of its own images
    assert (spec["data"]["mean"], spec["data"]["std"]) == (FAST["mean"], FAST["std"])
    assert spec["data"]["image_size"] == 64 and spec["name"] == "fast_4m"
    alone = spec_of("data=cifar10")
    assert alone["model"]["embed_dim"] == 192 and alone["data"]["mean"] != FAST["mean"]


def test_what_the_command_line_sets_is_left() -> None:
    spec = spec_of("init_from=fast_4m", "model.drop_path_rate=0.2", "data.mean=[0.5,0.5,0.5]", "name=mine")
    assert spec["model"] == FAST["model"] | {"drop_path_rate": 0.2}
    assert spec["data"]["mean"] == [0.5, 0.5, 0.5] and spec["data"]["std"] == FAST["std"]
    assert spec["name"] == "mine"
    assert spec_of("init_from=fast_4m", "model=hybrid_tiny")["model"] == spec_of("model=hybrid_tiny")["model"]
    stem = spec_of("model=hybrid_tiny", "stem@model.stem=patch", "init_from=fast_4m")["model"]["stem"]
    assert stem["_target_"].endswith("PatchStem")
    with pytest.raises(ValueError, match=r"model\.dept is not a key; did you mean model\.depth\?"):
        spec_of("init_from=fast_4m", "model.dept=3")
    with pytest.raises(ValueError, match=r"'x' is not a whole number"):
        spec_of("init_from=fast_4m", "model.stem.grid=x")


def test_an_experiment_or_a_sweep_may_name_the_source() -> None:
    spec = spec_of("experiment=finetune", "data=cifar10")
    assert spec["init_from"] == "fast_4m" and spec["model"]["embed_dim"] == FAST["model"]["embed_dim"]
    assert spec_of("experiment=finetune", "init_from=quickstart")["model"]["embed_dim"] == 64
    assert spec_of("experiment=finetune", "init_from=null")["model"]["embed_dim"] == 192


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A folder for experiments, as --config-dir adds it."""
    (tmp_path / "experiment").mkdir()
    look_in(str(tmp_path))
    yield tmp_path / "experiment"
    look_in(None)


def test_what_a_file_sets_beside_its_source_is_left(mine: Path) -> None:
    head = "# @package _global_\n"
    own = "model: {drop_path_rate: 0.2}\ndata: {mean: [0.5, 0.5, 0.5]}\n"
    (mine / "a.yaml").write_text(f"{head}init_from: fast_4m\n{own}")
    (mine / "b.yaml").write_text(f"{head}defaults:\n  - override /model: hybrid_tiny\ninit_from: fast_4m\n{own}")
    spec = spec_of("experiment=a")
    assert spec["model"] == FAST["model"] | {"drop_path_rate": 0.2}
    assert (spec["data"]["mean"], spec["data"]["std"]) == ([0.5] * 3, FAST["std"])
    assert spec_of("experiment=b")["model"] == spec_of("model=hybrid_tiny", "model.drop_path_rate=0.2")["model"]
    (mine.parent / "sweep").mkdir()
    (mine.parent / "sweep" / "c.yaml").write_text(f"{head}model: {{drop_path_rate: 0.4}}\n")
    (mine.parent / "sweep" / "d.yaml").write_text(f"{head}init_from: quickstart\n")
    assert spec_of("experiment=a", "sweep=c")["model"]["drop_path_rate"] == 0.4
    source = json.loads((PUBLISHED / "quickstart" / "model.json").read_text())
    assert spec_of("experiment=b", "sweep=d")["model"]["embed_dim"] == source["model"]["embed_dim"]
    assert spec_of("experiment=a", "init_from=record_4m")["model"]["embed_dim"] == 352  # the command line comes last


@pytest.mark.parametrize(
    "settings",
    [
        ["init_from=fast_4m", "optim.lr=0.01"],
        ["init_from=fast_4m", "model.drop_path_rate=0.1", "data.mean=[0.5,0.5,0.5]"],
        ["init_from=quickstart", "model=hybrid_tiny", "transfer=scratch", "model.depth=2"],
        ["experiment=finetune_4m", "model.drop_path_rate=0.3"],
        ["stem@model.stem=resnet", "model=hybrid_tiny", "model.embed_dim=64"],
    ],
)
def test_a_configuration_comes_back_from_its_file(mine: Path, settings: list[str]) -> None:
    cfg = compose_config(settings)
    (mine / "found.yaml").write_text(format_experiment(cfg, "# found"))
    assert spec_of("experiment=found") == resolve(cfg)


def test_a_library_loads_no_weights_of_its_own(tmp_path: Path) -> None:
    model = {"_target_": "hybrid_vit.models.timm_model", "architecture": "resnet18", "pretrained": True}
    write_json(tmp_path / "model.json", {"model": model, "mean": [0.5] * 3, "std": [0.5] * 3})
    assert spec_of(f"init_from={tmp_path}")["model"]["pretrained"] is False


def test_an_ensemble_is_no_source(tmp_path: Path) -> None:
    write_json(tmp_path / "model.json", FAST | {"model": {"_target_": "hybrid_vit.models.Ensemble", "members": []}})
    with pytest.raises(ValueError, match="is an ensemble, which is not trained further; give one of its members"):
        spec_of(f"init_from={tmp_path}")


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"_target_": "os.system", "command": "x"}},
        {"model": FAST["model"] | {"unheard_of": 1}},
        {"model": FAST["model"] | {"depth": "deep"}},
        {"model": FAST["model"] | {"norm": "${oc.env:HOME}"}},
        {"model": None},
        {"mean": "grey"},
        {"std": None, "model": {}},
    ],
)
def test_a_damaged_or_hostile_description_is_a_sentence(tmp_path: Path, change: dict) -> None:
    write_json(tmp_path / "model.json", FAST | change)
    said = r"model\.json (is damaged or of another version|refers to what is outside)"
    with pytest.raises(ValueError, match=said) as caught:
        spec_of(f"init_from={tmp_path}")
    assert "\n" not in str(caught.value)
