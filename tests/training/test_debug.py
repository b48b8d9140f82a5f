"""Each file in conf/debug, as a run."""

import json
from pathlib import Path

import pytest
from small_runs import rows, summary

from hybrid_vit.config.compose import as_train, compose_config, options, resolve
from hybrid_vit.config.validation import check_together, check_values
from hybrid_vit.training.run import train

pytestmark = pytest.mark.usefixtures("without_pictures")


SIZE = ["model.embed_dim=32", "model.depth=1", "model.stem.depth=2", "model.stem.grid=8"]


def debugged(directory: Path, *settings: str) -> dict:
    """The summary of a run with `debug=`; those settings of the other tests that it sets are left to it."""
    directory.mkdir(exist_ok=True)
    train(as_train(resolve(compose_config(["data=digits", "accelerator=cpu", *SIZE, *settings]))), directory)
    return summary(directory)


def test_debug_fast(tmp_path: Path) -> None:
    content = debugged(tmp_path, "debug=fast")
    assert (content["state"], content["steps"], content["images"]["test"]) == ("done", 2, 50)
    assert content["limited"] == {"val_batches": 1, "test_batches": 1}


def test_debug_overfit_learns_its_images(tmp_path: Path) -> None:
    assert debugged(tmp_path, "debug=overfit", "optim.lr=3e-3", "data.val_size=0")["images"]["train"] == 14
    last = rows(tmp_path)[-1]
    assert float(last["train_top1"]) == 100 and float(last["train_loss"]) < 0.1
    model = json.loads((tmp_path / "model.json").read_text())["model"]
    assert {model[key] for key in model if "drop" in key} == {0.0}


def test_debug_limit(tmp_path: Path) -> None:
    content = debugged(tmp_path, "debug=limit", "epochs=1", "batch_size=32", "logger=none")
    assert content["steps"] == 4  # of 40 batches
    assert content["limited"] == {"train_batches": 0.1}  # the others have one batch


def test_debug_profiler(tmp_path: Path) -> None:
    assert resolve(compose_config(["debug=profiler"]))["steps"] == 50
    content = debugged(tmp_path, "debug=profiler", "batch_size=16", "steps=4")
    assert content["limited"] == {"val_batches": 1, "test_batches": 1}
    assert "optimizer_step" in (tmp_path / "fit-profile.txt").read_text()


def test_debug_wins_over_an_experiment() -> None:
    spec = resolve(compose_config(["experiment=run_192", "debug=overfit"]))
    assert spec["augment"] == resolve(compose_config(["augment=none"]))["augment"]
    assert (spec["epochs"], spec["name"]) == (60, "run_192")


@pytest.mark.parametrize("choice", [f"{group}={name}" for group in ("experiment", "sweep") for name in options(group)])
def test_every_experiment_and_sweep_can_be_debugged(choice: str) -> None:
    for debug in options("debug"):
        spec = resolve(compose_config([choice, f"debug={debug}"]))
        check_values(spec)
        check_together(spec)
