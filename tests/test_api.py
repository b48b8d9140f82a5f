"""What one does from Python: train, load, predict, build."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import no_pictures

import hybrid_vit
from hybrid_vit.cli.overview import look
from hybrid_vit.config.compose import compose_config, resolve
from hybrid_vit.deploy.trained import Trained
from hybrid_vit.studies.report.records import collect

SMALL = {
    "model": "hybrid_tiny",
    "model.depth": 1,
    "model.embed_dim": 32,
    "data": "digits",
    "augment": "none",
    "epochs": 1,
    "batch_size": 256,
    "logger": "none",
    "accelerator": "cpu",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that was trained from Python, in a folder whose name Hydra's grammar would split."""
    directory = tmp_path_factory.mktemp("a run, with = and spaces")
    with no_pictures():
        return hybrid_vit.fit(**SMALL, optim={"lr": 1e-3}, hydra={"run": {"dir": directory / "run"}})


def test_fit_is_the_command(run: Trained) -> None:
    assert run.summary["state"] == "done"
    assert run.summary["name"] == "hybrid_tiny"
    assert {path.name for path in run.directory.iterdir()} >= {
        "metrics.csv",
        "model.safetensors",
        "summary.json",
        ".hydra",
    }
    assert "images: " in (run.directory / "train.log").read_text()  # a line of the log at the beginning
    found, left_out = collect([run.directory], "test_top1")
    assert len(found) == 1 and not left_out
    assert (look(run.directory).state, look(run.directory).share) == ("done", 1.0)
    assert "lr: 0.001" in (run.directory / ".hydra" / "config.yaml").read_text()
    with pytest.raises(ValueError, match=f"is done: its scores are in .*{run.directory.name}"):
        hybrid_vit.fit(resume=run.directory)
    with pytest.raises(ValueError, match="holds a run already"):
        hybrid_vit.fit(**SMALL, hydra={"run": {"dir": run.directory}})


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"data\.num_classes"):
            hybrid_vit.fit(**SMALL, **{"data.num_classes": 7}, resume=None, name="Müll", hydra={"run": {"dir": "here"}})
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"modle": "hybrid_tiny"}, "did you mean model"),
        ({"model": "hybrid_huge"}, "model=hybrid_huge does not exist"),
        ({"model": {"dept": 3}}, "did you mean model.depth"),
        ({"epochs": -1}, "epochs=-1 must be positive"),
        ({"distill": {"kind": "soft"}}, "distill.kind=soft has no effect without distill.teacher; set that, too"),
        ({"early_stopping.monitor": "val_top1"}, "val_top1 has no effect without early_stopping.patience"),
        ({"trainer": {"devices": 2, "strategy": "ddp"}}, "trains in one process; for several use the command line"),
    ],
)
def test_a_wrong_setting_is_a_sentence(settings: dict, sentence: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        hybrid_vit.fit(**{**SMALL, **settings})
    assert not list(tmp_path.iterdir())


def test_predict_takes_a_picture_of_any_kind(run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(array).save(path)
    pictures = [path, str(path), array, Image.fromarray(array), torch.from_numpy(array).permute(2, 0, 1)]
    expected = (run(run.preprocess(path)) / run.temperature).softmax(dim=1)[0]
    several = run.predict(pictures, batch_size=2)
    assert len(several) == 5
    for found in [run.predict(picture) for picture in pictures] + several:
        assert [*found.probabilities.values()] == sorted(found.probabilities.values(), reverse=True)
        assert found.probabilities.keys() == {*run.class_names}
        assert sum(found.probabilities.values()) == pytest.approx(1, abs=1e-5)
        by_name = torch.tensor([found.probabilities[name] for name in run.class_names])
        torch.testing.assert_close(by_name, expected.detach())
        assert found.label == run.class_names[int(expected.argmax())]
        assert found.probability == found.probabilities[found.label]
    assert run.predict([]) == []
    with pytest.raises(ValueError, match=r"nothing\.png"):
        run.predict("nothing.png")
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        run.predict(pictures, batch_size=0)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run.predict("~/picture.png") == run.predict(path)


def test_a_run_directory_may_be_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=r"max_time.*; continue with hybrid_vit\.fit\(resume='.*/runs/a'\)$"):
        hybrid_vit.fit(**SMALL, **{"trainer.max_time": "0.001s"}, hydra={"run": {"dir": "~/runs/a"}})
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_importing_has_no_side_effects() -> None:
    code = "import sys, hybrid_vit; assert not {'torch', 'wandb', 'hydra', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_texts_stay_texts() -> None:
    given = {"name": "1.50", "tags": ["naïve", "2.0"], "title": "a, b = c", "model": "hybrid_tiny", "seed": 3}
    spec = resolve(compose_config(hybrid_vit._settings("", {key: given[key] for key in given if key != "title"})))
    assert (spec["name"], spec["tags"], spec["seed"]) == ("1.50", ["naïve", "2.0"], 3)
    assert spec["model"]["embed_dim"] == 96
    numbers = {"seed": np.int64(3), "lr": np.float64(0.5), "betas": [np.float32(0.5)], "paths": [Path("a")]}
    assert hybrid_vit._settings("data.", {"mean": np.ones(3, np.float32), "std": torch.ones(3)}) == [
        *("data.mean=[1.0, 1.0, 1.0]", "data.std=[1.0, 1.0, 1.0]"),
    ]
    assert hybrid_vit._settings("", numbers) == ["seed=3", "lr=0.5", "betas=[0.5]", 'paths=["a"]']


def test_a_model_is_built_with_another_stem() -> None:
    net = hybrid_vit.build_model("hybrid_tiny", num_classes=5, **{"stem@model.stem": "patch"})
    assert type(net.patch_embed).__name__ == "PatchStem"
    larger = hybrid_vit.build_model("hybrid_tiny", num_classes=5, **{"data.image_size": 64, "stem.grid": 16})
    assert larger.patch_embed.grid == 16 and larger(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
