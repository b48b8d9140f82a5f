"""A run directory gives its model back, and says what is wrong with it in one sentence."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hybrid_vit
from hybrid_vit.config.build import build, untrained
from hybrid_vit.data.decode import decode
from hybrid_vit.data.pictures import PictureFolder
from hybrid_vit.deploy.weights import load_weights, write_weights
from hybrid_vit.utils.files import write_json

DESCRIPTION = {
    "data": {"source": "digits"},
    "seed": 0,
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
    torch.manual_seed(0)
    write_json(tmp_path / "model.json", DESCRIPTION | {"model": spec})
    write_json(tmp_path / "summary.json", {"state": "done"})
    write_weights(tmp_path, build(spec).state_dict())
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


def test_preprocessing_is_that_of_training_for_every_kind_of_picture(run: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned
    random = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for name, mode in (("cat", "RGB"), ("dog", "RGBA"), ("eel", "L")):
        (tmp_path / "pictures" / name).mkdir()
        picture = Image.fromarray(random.integers(0, 256, (40, 70, 4), dtype=np.uint8), "RGBA").convert(mode)
        picture.save(tmp_path / "pictures" / name / "1.png", exif=exif)
    trained, pictures = hybrid_vit.load(run), PictureFolder(tmp_path / "pictures", 32)
    expected = trained.normalize(torch.stack([pictures[i][0] for i in range(3)]))
    assert trained.preprocess(pictures.paths).equal(expected)
    assert trained.preprocess([str(path) for path in pictures.paths]).equal(expected)
    assert trained.preprocess(tuple(map(Image.open, pictures.paths))).equal(expected)
    arrays = [np.asarray(decode(path)) for path in pictures.paths]
    assert trained.preprocess(arrays).equal(expected)
    assert trained.preprocess([torch.from_numpy(array.copy()).permute(2, 0, 1) for array in arrays]).equal(expected)
    for single in (pictures.paths[2], str(pictures.paths[2]), arrays[2], arrays[2][:, :, 0]):
        assert trained.preprocess(single).equal(expected[2:])
    own = torch.randint(256, (3, 32, 32), dtype=torch.uint8)  # of the size of the model: as it is
    assert trained.preprocess(own).equal(trained.normalize(own[None]))


def test_probabilities_are_those_at_the_temperature(run: Path) -> None:
    picture = Image.new("RGB", (32, 32), (200, 60, 0))
    logits = hybrid_vit.load(run)(hybrid_vit.load(run).preprocess(picture))
    write_json(run / "model.json", json.loads((run / "model.json").read_text()) | {"temperature": 2.5})
    expected = (logits / 2.5).softmax(1)[0].tolist()
    answer = hybrid_vit.load(run).predict(picture)
    assert [answer.probabilities[name] for name in "abc"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (7, "int"),
        ([None], "NoneType"),
        (np.zeros((4, 4, 3)), "ndarray of float64"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"ndarray of shape \(2, 4, 4, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"ndarray of shape \(4, 4, 4\)"),
        (np.zeros((0, 4), np.uint8), r"ndarray of shape \(0, 4\)"),
        (torch.zeros(3, 4, 4), "Tensor of torch.float32"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"Tensor of shape \(4, 4, 3\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), r"Tensor of shape \(2, 3, 4, 4\)"),
    ],
)
def test_what_is_no_picture(run: Path, wrong: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named} is not an image; give a path, a PIL image, "):
        hybrid_vit.load(run).preprocess(wrong)


def test_no_pictures_and_damaged_ones(run: Path, tmp_path: Path) -> None:
    trained = hybrid_vit.load(run)
    with pytest.raises(ValueError, match="there are no pictures to preprocess"):
        trained.preprocess([])
    with pytest.raises(ValueError, match=r"absent\.jpg cannot be read as an image"):
        trained.preprocess(tmp_path / "absent.jpg")


def test_loaded_for_speed_it_answers_the_same(run: Path) -> None:
    trained, fast = hybrid_vit.load(run), hybrid_vit.load(run, fast=True)
    images = torch.randn(64, 3, 32, 32)
    logits = fast(images)
    assert logits.dtype == torch.float32
    assert (logits.cpu() - trained(images)).norm() <= 0.02 * trained(images).norm()


def test_published_runs_load_by_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid_vit.utils.paths.PUBLISHED", run.parent)
    for name in (run.name, f"published/{run.name}"):
        assert hybrid_vit.load(name).class_names == ["a", "b", "c"]
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


@pytest.mark.parametrize("position", range(20))
def test_a_flipped_bit_in_the_weights_is_noticed(run: Path, position: int) -> None:
    path = run / "model.safetensors"
    before = hybrid_vit.load(run).net.state_dict()
    content = bytearray(path.read_bytes())
    content[len(content) * position // 20 + position] ^= 1 << position % 8
    path.write_bytes(content)
    try:
        after = hybrid_vit.load(run).net.state_dict()
    except ValueError as error:
        assert "model.safetensors" in str(error) and "\n" not in str(error)
    else:  # it was in the names within the header that nothing reads
        assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("content", [b"", b"half", b"PK\x03\x04" + bytes(100)])
def test_weights_that_are_no_weights(run: Path, content: bytes) -> None:
    (run / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged.*copy it again"):
        hybrid_vit.load(run)
    half = build(json.loads((run / "model.json").read_text())["model"])
    write_weights(run, half.state_dict())
    whole = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        hybrid_vit.load(run)


@pytest.mark.parametrize(
    "change",
    [
        *({"class_names": "abc"}, {"class_names": [1, 2, 3]}, {"mean": None}, {"mean": ["a", "b", "c"]}, {"model": []}),
        *({"image_size": "32"}, {"data": 3}),
    ],
)
def test_a_description_of_wrong_types(run: Path, change: dict) -> None:
    write_json(run / "model.json", json.loads((run / "model.json").read_text()) | change)
    with pytest.raises(ValueError, match=rf"model\.json is damaged.*\({next(iter(change))} is missing or not valid\)"):
        hybrid_vit.load(run)


@pytest.mark.parametrize(
    "target",
    [
        *(
            "os.system",
            "hybrid_vit.benchmarks.startup.imports_torch",
            "hybrid_vit.config.build.inspect.os.system",
        ),
        *("hybrid_vit.models.torch.load", "hybrid_vit.models.external.importlib.import_module", "hybrid_vit"),
    ],
)
def test_a_strangers_model_builds_only_models(run: Path, target: str) -> None:
    description = json.loads((run / "model.json").read_text())
    description["model"]["stem"] = {"_target_": target, "command": "touch attacked"}
    write_json(run / "model.json", description)
    with pytest.raises(ValueError, match=f"_target_ {target!r} is none of the models"):
        hybrid_vit.load(run)


@pytest.mark.parametrize(
    "arguments",
    [
        {"architecture": "hf-hub:stranger/model"},
        {"arguments": {"checkpoint_path": "stranger.pth"}},
        {"arguments": {"pretrained_cfg": {"url": "http://127.0.0.1:9/stranger.pth"}}},
        {"arguments": {"pretrained_cfg_overlay": {"file": "stranger.pth"}}},
    ],
)
def test_a_strangers_model_loads_no_other_files(run: Path, arguments: dict) -> None:
    description = json.loads((run / "model.json").read_text())
    timm = {"_target_": "hybrid_vit.models.timm_model", "architecture": "resnet18", "num_classes": 3}
    write_json(run / "model.json", description | {"model": timm | arguments | {"pretrained": True}})
    with pytest.raises(ValueError, match="would load files"):
        hybrid_vit.load(run)


def test_no_part_of_a_strangers_model_begins_with_weights_of_a_library() -> None:
    given = {"pretrained": True, "members": [{"stem": {"pretrained": True, "depth": 3}}]}
    assert untrained(given) == {"pretrained": False, "members": [{"stem": {"pretrained": False, "depth": 3}}]}


def test_build_model() -> None:
    model = hybrid_vit.build_model("hybrid_192", num_classes=10, depth=2, stem={"depth": 4})
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert len(model.blocks) == 2
    assert len(model.patch_embed) == 4
    with pytest.raises(ValueError, match="hybrid_192"):
        hybrid_vit.build_model("hybrid_129")
    with pytest.raises(ValueError, match="depth"):
        hybrid_vit.build_model("hybrid_192", dept=2)
    with pytest.raises(ValueError, match=r"model\.mlp_ratio=0\.0 must be positive"):
        hybrid_vit.build_model("hybrid_192", mlp_ratio=0.0)


def test_others_may_read_weights(run: Path) -> None:
    before = os.umask(0o022)
    try:
        write_weights(run, load_weights(run))
    finally:
        os.umask(before)
    assert (run / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_older_runs_have_their_names_in_one_form(run: Path) -> None:
    description = json.loads((run / "model.json").read_text())
    names = ["A\u0308pfel", *description["class_names"][1:]]
    write_json(run / "model.json", description | {"class_names": names})
    assert hybrid_vit.load(run).class_names[0] == "\u00c4pfel"
