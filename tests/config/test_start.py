"""What a configuration takes from the run that it starts from, and what the command line still decides."""

import json
from pathlib import Path

import pytest

from hybrid_vit.config.compose import compose_config, resolve
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
