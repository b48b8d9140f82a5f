"""A run directory gives its model back, and says what is wrong with it in one sentence."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import hybrid_vit
from hybrid_vit import runs
from hybrid_vit.utils.files import write_json

DESCRIPTION = {
    "class_names": ["a", "b", "c"],
    "image_size": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a small trained model."""
    stem = {"_target_": "hybrid_vit.models.ConvStem", "embed_dim": 32, "depth": 2, "grid": 8}
    spec = {"_target_": "hybrid_vit.models.hybrid_vit", "stem": stem, "num_classes": 3, "embed_dim": 32, "depth": 1}
    write_json(tmp_path / "model.json", DESCRIPTION | {"model": spec})
    write_json(tmp_path / "summary.json", {"state": "done"})
    runs.save_weights(tmp_path, runs.build(spec))
    return tmp_path


def test_load_gives_the_same_logits_preprocessing_and_names(run: Path) -> None:
    trained, again = hybrid_vit.load(run), hybrid_vit.load(str(run))
    assert not trained.training
    picture = Image.new("RGB", (48, 64), (255, 0, 0))
    images = trained.preprocess([picture, picture.resize((32, 32))])
    assert images.shape == (2, 3, 32, 32)
    assert images[1, :, 5, 5].tolist() == pytest.approx([2, -2, -2])  # (1 - 0.5) / 0.25
    assert torch.equal(trained(images), again(images))
    assert trained.class_names == ["a", "b", "c"]


def test_loaded_for_speed_it_answers_the_same(run: Path) -> None:
    trained, fast = hybrid_vit.load(run), hybrid_vit.load(run, fast=True)
    images = torch.randn(64, 3, 32, 32)
    logits = fast(images)
    assert logits.dtype == torch.float32
    assert (logits.cpu() - trained(images)).norm() <= 0.02 * trained(images).norm()


def test_published_runs_load_by_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PUBLISHED", run.parent)
    assert hybrid_vit.load(run.name).class_names == ["a", "b", "c"]
    with pytest.raises(ValueError, match=rf"nowhere is not a run directory.*{run.name}"):
        hybrid_vit.load("nowhere")


def test_weights_of_another_model(run: Path) -> None:
    description = json.loads((run / "model.json").read_text())
    description["model"]["depth"] = 2
    write_json(run / "model.json", description)
    with pytest.raises(ValueError, match=r"model\.safetensors holds the weights of another model"):
        hybrid_vit.load(run)


def test_a_run_without_weights_and_damaged_files(run: Path) -> None:
    (run / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors.*resume="):
        hybrid_vit.load(run)
    (run / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"model\.json cannot be read"):
        hybrid_vit.load(run)


def test_only_own_parts_are_built() -> None:
    with pytest.raises(ValueError, match="not part of hybrid_vit"):
        runs.build({"_target_": "os.system", "command": "true"})


def test_build_model() -> None:
    model = hybrid_vit.build_model("hybrid_192", num_classes=10, depth=2, stem={"depth": 4})
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert len(model.blocks) == 2
    assert len(model.patch_embed) == 4
    with pytest.raises(ValueError, match="hybrid_192"):
        hybrid_vit.build_model("hybrid_129")
    with pytest.raises(ValueError, match="depth"):
        hybrid_vit.build_model("hybrid_192", dept=2)
