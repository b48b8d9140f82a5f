"""Whole runs on small data: what they leave behind, and how they fail."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from small_runs import TINY, assert_same_run, rows, run, summary

import hybrid_vit
from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.training.callbacks import LAST, PREVIOUS
from hybrid_vit.training.parts import make_data
from hybrid_vit.training.run import train
from hybrid_vit.training.task import Classification

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_run_directory(whole: Path) -> None:
    there = {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()}
    assert there == {
        *("metrics.csv", "model.json", "model.safetensors", "summary.json", "per_class.csv"),
        *("augmented.png", "confusion.png", "learning_curve.png"),
        *(f"checkpoints/{name}" for name in (LAST, PREVIOUS)),
    }
    content = summary(whole)
    assert content["steps"] == 3 * 5
    assert content["images"] == {"train": 252, "val": 180, "test": 359}
    assert content["parameters"] == sum(value.numel() for value in hybrid_vit.load(whole).parameters())
    assert content["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert [row["epoch"] for row in rows(whole)] == ["0", "1", "2"]
    assert float(rows(whole)[-1]["lr"]) == 0
    assert content["scores"]["val_top1"] == pytest.approx(float(rows(whole)[-1]["val_top1"]), abs=1e-4)


def test_learns(tmp_path: Path) -> None:
    run(tmp_path, "epochs=8", "data.fraction=1", "batch_size=64", "augment=none", "optim.lr=3e-3", "ema.decay=0.9")
    assert summary(tmp_path)["scores"]["test_top1"] > 80


def test_training_in_a_thread(whole: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run, tmp_path).result()
    assert_same_run(whole, tmp_path)


def test_a_run_that_diverges_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(weights|loss) became (nan|inf).*smaller optim\.lr"):
        run(tmp_path, "optim.lr=1e9", "steps=2", "optim.warmup_epochs=0")
    content = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert content["state"] == "failed"


def test_a_loss_that_only_validation_shows_fails_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(task: Classification, batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        images, labels = batch
        task.eval_scores[0].update(task.scored(images) * float("inf"), labels)

    monkeypatch.setattr(Classification, "validation_step", overflowing)
    with pytest.raises(ValueError, match="the val_loss became nan"):
        run(tmp_path)


def test_a_callback_may_end_a_training(tmp_path: Path) -> None:
    class Ends(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *arguments) -> None:
            trainer.should_stop = trainer.should_stop or trainer.global_step == 7

    before = signal.getsignal(signal.SIGTERM)
    train(as_train(resolve(compose_config(TINY))), tmp_path, callbacks=[Ends()])
    assert signal.getsignal(signal.SIGTERM) == before
    content = summary(tmp_path)
    assert (content["state"], content["stopped_early"]) == ("done", "a callback ended it")
    assert 7 <= content["steps"] < 15 and "test_top1" in content["scores"]


def test_a_training_that_ends_early_without_a_reason_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid_vit.training.run.pl.Trainer.fit", lambda trainer, *what, **how: None)
    monkeypatch.setattr("hybrid_vit.training.run.pl.Trainer.global_step", 7)
    with pytest.raises(RuntimeError, match="7 of 15 steps, and nothing asked it to"):
        run(tmp_path)
    assert summary(tmp_path)["state"] == "failed"


def test_published_protocol_looks_at_the_test_set_under_a_name_that_says_so(tmp_path: Path) -> None:
    run(tmp_path, "data.val_size=0", "data.monitor_test=true", "score=raw", "epochs=2")
    content = summary(tmp_path)
    assert content["images"] == {"train": 288, "test": 359}
    assert "test set looked at every epoch" in content["protocol"]
    assert float(rows(tmp_path)[-1]["published_test_top1"]) == pytest.approx(content["scores"]["test_top1"], abs=1e-4)


def test_the_scored_weights_are_the_averaged_ones(whole: Path) -> None:
    checkpoint = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    weights = load_file(whole / "model.safetensors")
    assert all(torch.equal(value, checkpoint[f"ema.net.{key}"]) for key, value in weights.items())
    assert any(not torch.equal(value, checkpoint[f"net.{key}"]) for key, value in weights.items())


def test_averages_of_other_decays_are_scored_on_the_validation_images(tmp_path: Path) -> None:
    run(tmp_path, "ema.decay=0.9", "ema.compared=[0.9,0.3]")
    content = summary(tmp_path)
    assert content["compared"].keys() == {"0.9", "0.3"}
    assert content["compared"]["0.9"] == pytest.approx(content["scores"]["val_top1"], abs=1e-4)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for key in load_file(tmp_path / "model.safetensors"):
        assert torch.equal(saved[f"compared.0.net.{key}"], saved[f"ema.net.{key}"])
    assert not torch.equal(saved["compared.1.net.head.weight"], saved["ema.net.head.weight"])
    with pytest.raises(ValueError, match=r"ema\.compared needs validation images"):
        run(tmp_path / "none", "ema.compared=[0.9]", "data.val_size=0")


@pytest.mark.parametrize("mix", [False, True])
def test_streams_a_folder_of_pictures(picture_root: Path, tmp_path: Path, mix: bool) -> None:
    augment = "augment=cct" if mix else "augment=document"
    folder = ("data=folder", f"data.root={picture_root}", "data.fraction=1", "batch_size=8", "data.val_size=9")
    run(tmp_path, *folder, augment, "epochs=2")
    trained = hybrid_vit.load(tmp_path)
    assert trained.class_names == ["cat", "dog", "eel"]
    assert len(rows(tmp_path)) == 2


@pytest.mark.gpu
def test_trains_on_a_gpu(tmp_path: Path) -> None:
    whole = ("data.fraction=1", "batch_size=256")
    run(tmp_path, *whole, "accelerator=gpu", "accelerator.compile=false", "epochs=8", "augment=none", "optim.lr=3e-3")
    assert summary(tmp_path)["scores"]["test_top1"] > 60


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs an Apple GPU")
def test_trains_on_an_apple_gpu(tmp_path: Path) -> None:
    run(tmp_path, "accelerator=mps")
    assert summary(tmp_path)["state"] == "done"


def test_callbacks_by_name_and_as_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Steps(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *arguments) -> None:
            seen.append([type(callback).__name__ for callback in trainer.callbacks])

    monkeypatch.chdir(tmp_path)
    settings = dict(text.split("=") for text in [*TINY, "steps=6"])
    del settings["epochs"]
    hybrid_vit.fit(callbacks=[Steps(), "Timer"], **settings | {"hydra.run.dir": tmp_path / "run"})
    assert len(seen) == 6 and {"Steps", "Timer"} <= {*seen[0]}


def test_classes_of_few_images_are_named(picture_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = ["data=folder", f"data.root={picture_root}", "data.val_size=0", "batch_size=8"]
    data = make_data(as_train(resolve(compose_config([*TINY, *settings]))))
    assert sum(data.class_sizes.values()) == data.sizes["train"] and set(data.class_sizes) == {"cat", "dog", "eel"}
    few = {name: size for name, size in data.class_sizes.items() if size < 20}
    assert "eel" in few and f"{len(few)} of 3 classes have fewer than 20 training images" in caplog.text
    assert all(f"{name} ({size})" in caplog.text for name, size in few.items())
