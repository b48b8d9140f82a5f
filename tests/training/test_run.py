"""Whole runs on small data: what they leave behind, and that an interrupted one is the one that never was."""

import csv
import errno
import json
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from commands import main
from lightning.pytorch import Callback
from safetensors.torch import load_file
from stopping import OneEpoch

import hybrid_vit
from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.config.saved import load_run_config
from hybrid_vit.config.schema import Data
from hybrid_vit.training.budget import Clock
from hybrid_vit.training.callbacks import BEST, LAST, PREVIOUS, Keeper, Stopped, latest
from hybrid_vit.training.console import show
from hybrid_vit.training.length import Epoch
from hybrid_vit.training.parts import make_data
from hybrid_vit.training.run import Run, train
from hybrid_vit.training.task import Classification

TINY = [
    *("data=digits", "augment=document", "logger=none", "accelerator=cpu", "epochs=3"),
    *("data.fraction=0.2", "batch_size=51"),  # 252 images, the last batch of 48
    *("model.embed_dim=32", "model.depth=1", "model.stem.depth=2", "model.stem.grid=8", "optim.warmup_epochs=1"),
]
TIMES = ("seconds", "images_per_second")

pytestmark = pytest.mark.usefixtures("without_pictures")  # `whole` has them: it is made before


def run(directory: Path, *overrides: str, resume: bool = False, callbacks: Sequence[Callback] = ()) -> float:
    directory.mkdir(exist_ok=True)
    checkpoint = latest(directory / "checkpoints") if resume else None
    return train(
        as_train(resolve(compose_config([*TINY, *overrides]))), directory, checkpoint=checkpoint, callbacks=callbacks
    )


def rows(directory: Path) -> list[dict[str, str]]:
    """metrics.csv without what the clock decides."""
    with (directory / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text())


def assert_same_run(a: Path, b: Path) -> None:
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert rows(a) == rows(b)
    assert summary(a)["scores"] == summary(b)["scores"]
    assert (summary(a)["state"], summary(b)["state"]) == ("done", "done")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    directory = tmp_path_factory.mktemp("whole")
    run(directory)
    return directory


def test_run_directory(whole: Path) -> None:
    there = {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()}
    assert there == {
        *("metrics.csv", "model.json", "model.safetensors", "summary.json", "per_class.csv"),
        *("augmented.png", "confusion.png", "learning_curve.png"),
        *(f"checkpoints/{name}" for name in (LAST, PREVIOUS, BEST)),
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


def interrupted_by(number: signal.Signals) -> Callable[[Classification], None]:
    def interrupt(task: Classification) -> None:
        if task.global_step == 7:  # the third step of the second epoch
            signal.raise_signal(number)

    return interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_and_resume_continues(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    step, interrupt = Classification.training_step, interrupted_by(number)

    def training_step(task: Classification, batch, batch_idx: int):
        interrupt(task)
        return step(task, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", training_step)
    with pytest.raises(Stopped, match=number.name):
        run(tmp_path)
    monkeypatch.undo()
    assert summary(tmp_path)["state"] == "stopped"
    assert [row["epoch"] for row in rows(tmp_path)] == ["0"]
    torch.manual_seed(time.time_ns() % 1000)  # nothing may depend on what the process drew before
    run(tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_taken(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Path(shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints"))
    last, previous = checkpoints / LAST, checkpoints / PREVIOUS
    assert latest(checkpoints) == last
    content = last.read_bytes()
    before = torch.load(last, weights_only=True)["state_dict"]
    noticed = 0
    for part in range(20):
        position = len(content) * part // 20 + part
        last.write_bytes(content[:position] + bytes([content[position] ^ 1 << part % 8]) + content[position + 1 :])
        found = latest(checkpoints)
        if found == previous:
            noticed += 1
        else:  # a bit of the archive's padding
            after = torch.load(last, weights_only=True)["state_dict"]
            assert all(torch.equal(before[key], after[key]) for key in before)
    assert noticed > 10
    assert f"{last} cannot be used (it is damaged, its checksum differs), so the run continues from" in caplog.text


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("kind", ["empty", "half", "text", "foreign", "list", "attack", "old attack"])
def test_what_is_no_checkpoint_is_one_sentence_and_not_executed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoints" / LAST
    path.parent.mkdir()
    match kind:
        case "empty":
            path.touch()
        case "half":
            content = (whole / "checkpoints" / LAST).read_bytes()
            path.write_bytes(content[: len(content) // 2])
        case "text":
            path.write_text("state")
        case "foreign":
            torch.save({"model": {}}, path)
        case "list":
            torch.save([1], path)
        case "attack":
            torch.save({"state_dict": Attack()}, path)
        case "old attack":
            path.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be used \(it is .*\); copy a whole one there, or delete"):
        latest(path.parent)
    assert not (tmp_path / "attacked").exists()


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's writer reports a full disk as a RuntimeError; so does this file, which every Linux has."""
    with pytest.raises(Stopped):
        run(tmp_path, "trainer.max_time=0.001s")
    before = (tmp_path / "checkpoints" / LAST).read_bytes()
    monkeypatch.setattr(torch, "save", lambda state, path, save=torch.save: save(state, "/dev/full"))
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, resume=True)
    monkeypatch.undo()
    assert summary(tmp_path)["state"] == "failed" and "No space left" in summary(tmp_path)["reason"]
    assert (tmp_path / "checkpoints" / LAST).read_bytes() == before
    assert not list(tmp_path.rglob("*.partial"))
    run(tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def test_on_a_full_disk_the_summary_says_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fit(self: Run, callbacks: object) -> None:
        monkeypatch.setattr("os.fsync", full)  # from now on no new file can be written
        full()

    monkeypatch.setattr(Run, "fit", fit)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path)
    assert summary(tmp_path)["state"] == "failed" and "No space left" in summary(tmp_path)["reason"]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_summary_of_the_wrong_type_is_one_sentence(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "summary.json").write_text('{"state": 5, "steps": "x"}')
    with pytest.raises(ValueError, match=r"summary\.json cannot be read .it has no number of steps.; start a new run"):
        run(tmp_path, resume=True)
    (tmp_path / "summary.json").write_text("")
    with pytest.raises(ValueError, match=r"summary\.json cannot be read .*; copy it again from where the run was made"):
        hybrid_vit.load(tmp_path)


def test_weights_are_kept_when_scoring_fails(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def truncated(*arguments, **options):
        raise ValueError("a.png cannot be read")

    monkeypatch.setattr("hybrid_vit.training.run.score", truncated)
    with pytest.raises(ValueError, match=r"a\.png"):
        run(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    monkeypatch.undo()
    run(tmp_path, resume=True)  # only scores
    assert_same_run(whole, tmp_path)


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


def test_a_training_that_ends_early_without_a_reason_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ends(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, *arguments) -> None:
            trainer.should_stop = True

    with pytest.raises(RuntimeError, match="of 15 steps, and nothing asked it to"):
        train(as_train(resolve(compose_config(TINY))), tmp_path, callbacks=[Ends()])
    assert summary(tmp_path)["state"] == "failed"


FOLDER = ["data=folder", "data.num_workers=0", "data.fraction=1", "batch_size=16", "optim.warmup_epochs=0.1"]


def grown(root: Path) -> None:
    for name in ("cat", "dog", "eel"):
        for i in range(20):
            shutil.copy(root / name / "0.png", root / name / f"new{i}.png")


def swapped(root: Path) -> None:
    (root / "cat").rename(root / "other")
    (root / "dog").rename(root / "cat")
    (root / "other").rename(root / "dog")


def renamed(root: Path) -> None:
    (root / "cat").rename(root / "lion")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (grown, r"\d+ more training images"),
        (swapped, "(more|fewer|other) training images"),
        (renamed, "other classes .without cat; with lion."),
    ],
)
def test_a_run_continues_on_its_own_data_only(
    picture_root: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    root = shutil.copytree(picture_root, tmp_path / "pictures")
    settings = [*FOLDER, f"data.root={root}"]
    with pytest.raises(Stopped):
        run(tmp_path / "run", *settings, "trainer.max_time=0.001s")
    before = (tmp_path / "run" / "model.json").read_bytes()
    change(root)
    with pytest.raises(ValueError, match=f"the data has changed since .*run began: .*{said}.*; bring that data back"):
        run(tmp_path / "run", *settings, resume=True)
    assert (tmp_path / "run" / "model.json").read_bytes() == before
    shutil.rmtree(root)
    shutil.copytree(picture_root, root)
    run(tmp_path / "run", *settings, resume=True)
    assert summary(tmp_path / "run")["state"] == "done"


def test_a_last_batch_that_is_too_small_for_all_processes_is_no_step() -> None:
    """81 training images in batches of 20: one is left, and two processes put it into the batch before it."""
    alone, together = (
        make_data(
            as_train(
                resolve(compose_config([*TINY, "data.val_size=0", "data.fraction=1", f"trainer.devices={devices}"]))
            )
        )
        for devices in (1, 4)
    )
    assert alone.sizes["train"] == 1438
    alone.batch_size = together.batch_size = 719 - 1
    assert (alone.steps_per_epoch, together.steps_per_epoch) == (3, 2)


def test_pretrained_weights_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr("hybrid_vit.models.external.load_timm", lambda *arguments: fetched.append(arguments))
    shared = [text for text in TINY if not text.startswith("model.")]
    config = as_train(
        resolve(compose_config([*shared, "augment=none", "model=convnext_atto", "model.pretrained=true"]))
    )
    config.model["arguments"] |= {"depths": [1] * 4, "dims": [8] * 4}
    with pytest.raises(Stopped):
        train(config, tmp_path, callbacks=[OneEpoch()])
    train(config, tmp_path, checkpoint=latest(tmp_path / "checkpoints"))  # the weights come from the checkpoint
    hybrid_vit.load(tmp_path)  # and from the run
    assert len(fetched) == 1
    assert summary(tmp_path)["pretrained"]
    assert not json.loads((tmp_path / "model.json").read_text())["model"]["pretrained"]


def test_max_time_stops_and_resume_continues(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="one epoch"):
        run(tmp_path, callbacks=[OneEpoch()])
    with pytest.raises(Stopped, match="max_time"):
        run(tmp_path, "trainer.max_time=0.001s", resume=True)
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    run(tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


KILLED_IN_THE_SECOND_EPOCH = """
import os, signal
from hybrid_vit.training.task import Classification
from hybrid_vit.train import main

step = Classification.training_step

def training_step(task, batch, batch_idx):
    if task.global_step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(task, batch, batch_idx)

Classification.training_step = training_step
main()
"""


def test_sigkill_in_mid_epoch_and_resume_continues(whole: Path, tmp_path: Path) -> None:
    """A process that is killed has no last word: what counts is the last checkpoint by time."""
    killed = tmp_path / "killed"
    settings = [*TINY, "checkpoint_minutes=1e-9", f"hydra.run.dir={killed}"]
    command = [sys.executable, "-c", KILLED_IN_THE_SECOND_EPOCH, *settings]
    ended = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=tmp_path, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert summary(killed)["state"] == "running"
    assert torch.load(killed / "checkpoints" / LAST, weights_only=True)["global_step"] == 7
    assert main(f"resume={killed}") == 0
    assert_same_run(whole, killed)


def test_steps_repeat_a_budget_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many steps fit depends on the machine, so that is fixed here; what is measured before is measured."""
    monkeypatch.setattr("hybrid_vit.training.parts.affordable", lambda *what: (8, 0.0))
    run(tmp_path / "budget", "budget=12s", "optim.warmup_epochs=null")
    content = summary(tmp_path / "budget")
    assert (content["budget"], content["steps"]) == ("12s", 8)
    run(tmp_path / "steps", "steps=8", "optim.warmup_epochs=null")
    assert_same_run(tmp_path / "budget", tmp_path / "steps")


def test_a_budget_is_turned_into_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "fit", lambda self, callbacks: stop())
    with pytest.raises(Stopped):
        run(tmp_path, "budget=2m")
    assert summary(tmp_path)["steps"] > 0


def test_a_budget_too_short_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"budget is too short.*try budget="):
        run(tmp_path, "budget=0.1s")


@pytest.mark.parametrize("length", ["epochs=2", "steps=10"])
def test_the_warm_up_is_a_tenth_of_a_short_run_however_its_length_is_given(
    length: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two epochs of five steps."""
    seen = []
    monkeypatch.setattr(Run, "fit", lambda self, callbacks: seen.append(self.task) or stop())
    caplog.set_level("INFO")
    with pytest.raises(Stopped):
        run(tmp_path, length, "optim.warmup_epochs=null")
    assert (seen[0].schedule.epochs, seen[0].schedule.warmup_epochs) == pytest.approx((2, 0.2))
    assert "warm-up of 5 epochs shortened to 0.2, a tenth of 2" in caplog.text


def stop() -> None:
    raise Stopped("here")


def test_the_bar_shows_epoch_and_loss_from_the_first_step_and_scoring_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Screen:
        disable = False

        def __init__(self, *, total: int, desc: str = "training", initial: int = 0, **options: Any) -> None:
            self.desc, self.total, self.n, self.shown = desc, total, initial, []
            bars.append(self)

        def update(self, n: int = 1) -> None:
            self.n += n

        def set_postfix(self, refresh: bool, **values: str) -> None:
            self.shown.append((self.n, values))

        def close(self) -> None:
            self.closed = True

    bars: list[Screen] = []
    monkeypatch.setattr("hybrid_vit.training.progress.tqdm", Screen)
    run(tmp_path, "epochs=2", "data.eval_batch_size=60", "trainer.log_every_n_steps=2")
    whole, *scorings = bars
    assert (whole.desc, whole.n, whole.total, whole.closed) == ("training", 10, 10, True)
    assert [(n, values["epoch"], "val_top1" in values) for n, values in whole.shown] == [
        *((0, "1 of 2", False), (2, "1 of 2", False), (4, "1 of 2", False)),
        *((5, "2 of 2", True), (7, "2 of 2", True), (9, "2 of 2", True)),
    ]
    assert all(float(values["loss"]) > 0 for _, values in whole.shown)
    assert [(bar.desc, bar.n, bar.total, bar.closed) for bar in scorings] == 2 * [("validation", 3, 3, True)]


def test_what_to_do_next_is_about_the_same_data(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    scores = {"test_top1": 50.0}
    summary = {"scores": scores, "parameters": 1, "steps": 2, "epochs": 1.0, "seconds": 1, "images_per_second": 1}
    for source, same in [
        ({"source": "digits", "root": None}, "train model="),
        ({"source": "cifar10", "root": "data"}, "train data=cifar10 model="),
        ({"source": "folder", "root": "my pictures"}, "train data=folder 'data.root=my pictures' model="),
        ({"source": "digits", "root": None}, "evaluate 'run=a run'"),
    ]:
        show(summary | {"device": "cpu"}, Path("a run"), Data(**source))
        assert same in caplog.records[-1].getMessage()


def test_steps_end_in_mid_epoch(tmp_path: Path) -> None:
    run(tmp_path, "steps=8")
    assert summary(tmp_path)["scores"].keys() >= {"val_top1", "test_top1"}
    assert [(row["step"], row["images"]) for row in rows(tmp_path)] == [("5", "252"), ("8", "153")]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Classification.training_step

    def training_step(task: Classification, batch, batch_idx: int):
        return step(task, batch, batch_idx) * (float("nan") if task.global_step >= 8 else 1)

    monkeypatch.setattr(Classification, "training_step", training_step)
    with pytest.raises(
        ValueError, match=r"the train_loss became nan.*last good checkpoint is .*last\.ckpt; try a smaller"
    ):
        run(tmp_path, "trainer.log_every_n_steps=4")  # those of the last two are not looked at
    assert summary(tmp_path)["state"] == "failed"
    weights = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of the step that spoils the weights is still finite."""
    step = Classification.training_step

    def training_step(task: Classification, batch, batch_idx: int):
        loss = step(task, batch, batch_idx)
        if task.global_step == 9:  # the last of the second epoch
            loss = loss + (sum(p.sum() for p in task.net.parameters()) * 0).sqrt()  # 0, with a gradient of nan
        return loss

    monkeypatch.setattr(Classification, "training_step", training_step)
    with pytest.raises(ValueError, match=r"the (val_loss|weights) became nan.*last good checkpoint is .*last\.ckpt"):
        run(tmp_path)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 5
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())


def test_a_checkpoint_of_another_model_is_one_sentence(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, callbacks=[OneEpoch()])
    with pytest.raises(ValueError, match=r"last\.ckpt holds the weights of another model"):
        run(tmp_path, "model.depth=2", resume=True)


def test_published_protocol_looks_at_the_test_set_under_a_name_that_says_so(tmp_path: Path) -> None:
    run(tmp_path, "data.val_size=0", "data.monitor_test=true", "score=raw", "epochs=2")
    content = summary(tmp_path)
    assert content["images"] == {"train": 288, "test": 359}
    assert "test set looked at every epoch" in content["protocol"]
    assert float(rows(tmp_path)[-1]["published_test_top1"]) == pytest.approx(content["scores"]["test_top1"], abs=1e-4)
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()  # nothing is selected on the test set


def test_the_scored_weights_are_the_averaged_ones(whole: Path) -> None:
    checkpoint = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    load_run_config = load_file(whole / "model.safetensors")
    assert all(torch.equal(value, checkpoint[f"ema.net.{key}"]) for key, value in load_run_config.items())
    assert any(not torch.equal(value, checkpoint[f"net.{key}"]) for key, value in load_run_config.items())


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


def test_a_clock_ends_the_run_and_moves_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes a second of a clock of 40: 40 steps, whatever was estimated. Stopped in between, it goes on."""
    now = [0.0]
    monkeypatch.setattr("hybrid_vit.training.budget.Clock.elapsed", property(lambda clock: now[0] - clock._began))
    monkeypatch.setattr("hybrid_vit.training.run.fix_steps", lambda *arguments: (7, made(Clock(40), now)))
    rates = []

    class Tick(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *arguments) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])
            now[0] += 1

    settings = ["budget=1m", "budget_by=clock", "optim.warmup_epochs=0", "optim.lr=1"]
    with pytest.raises(Stopped, match="one epoch"):
        run(tmp_path, *settings, callbacks=[Tick(), OneEpoch()])
    assert len(rates) == 5
    monkeypatch.setattr(Clock, "load_state_dict", lambda clock, state: made(clock, now, state))
    run(tmp_path, *settings, resume=True, callbacks=[Tick()])
    content = summary(tmp_path)
    assert (content["state"], content["steps"], content["epochs"], content["budget_by"]) == ("done", 40, 8, "clock")
    assert rates == pytest.approx([(1 + math.cos(math.pi * n / 40)) / 2 for n in range(40)])
    assert content["scores"]["val_top1"] == pytest.approx(float(rows(tmp_path)[-1]["val_top1"]), abs=1e-4)
    run(tmp_path, *settings, resume=True, callbacks=[Tick()])  # over: it is only scored again
    assert len(rates) == 40


def made(clock: Clock, now: list[float], state: dict[str, float] | None = None) -> Clock:
    """The clock, as the time of the test goes, which does not pause."""
    clock._began, clock.seconds = 0.0 if state else now[0], 40
    return clock


# No BatchNorm, no dropout, no augmentation: what a step computes does not depend on how its images are batched.
EXACT = [
    *("stem@model.stem=patch", "model.proj_drop_rate=0", "model.pos_drop_rate=0", "model.drop_path_rate=0"),
    *("augment=none", "optim=sgd", "optim.lr=0.1", "optim.warmup_epochs=0", "epochs=2", "data.fraction=1"),
]


def test_batches_gathered_into_a_step_are_one_batch(tmp_path: Path) -> None:
    """1258 images: five steps an epoch, the last one of another size, and of fewer batches."""
    plain_stem = [text for text in TINY if "stem.depth" not in text]
    ends = {}
    for name, settings in {
        "one": ["batch_size=300"],
        "gathered": ["batch_size=100", "trainer.accumulate_grad_batches=3", "checkpoint_minutes=1e-9"],
    }.items():
        directory = tmp_path / name
        directory.mkdir()
        train(as_train(resolve(compose_config([*plain_stem, *EXACT, *settings]))), directory)
        ends[name] = load_file(directory / "model.safetensors")
    for key, value in ends["one"].items():
        torch.testing.assert_close(ends["gathered"][key], value, rtol=0, atol=1e-6)
    one, gathered = rows(tmp_path / "one"), rows(tmp_path / "gathered")
    assert summary(tmp_path / "gathered")["steps"] == summary(tmp_path / "one")["steps"] == 2 * 5
    for a, b in zip(one, gathered, strict=True):
        assert {key: float(b[key]) for key in b} == pytest.approx({key: float(a[key]) for key in a}, rel=1e-5, abs=1e-6)


def test_nothing_is_kept_within_a_step(tmp_path: Path) -> None:
    """20 batches in steps of 3: the run is stopped in its second batch, and stops after the first step."""
    settings = ["data.fraction=1", "batch_size=64", "trainer.accumulate_grad_batches=3", "epochs=2"]

    class Stop(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, task, outputs, batch, batch_idx: int) -> None:
            keeper = next(callback for callback in trainer.callbacks if isinstance(callback, Keeper))
            keeper.reason = "here" if batch_idx >= 1 else None

    with pytest.raises(Stopped, match="here"):
        run(tmp_path / "parts", *settings, callbacks=[Stop()])
    state = torch.load(tmp_path / "parts" / "checkpoints" / LAST, weights_only=True)
    assert state["global_step"] == 1
    assert state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] == 3
    run(tmp_path / "parts", *settings, resume=True)
    run(tmp_path / "whole", *settings)
    assert summary(tmp_path / "whole")["steps"] == 2 * 7
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_limits_take_batches_and_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    limits = ["trainer.limit_train_batches=0.4", "trainer.limit_val_batches=1", "trainer.limit_test_batches=2"]
    run(tmp_path, "data.eval_batch_size=50", *limits, "epochs=2")
    content = summary(tmp_path)
    assert [(row["step"], row["images"]) for row in rows(tmp_path)] == [("2", "102"), ("4", "102")]
    assert (content["steps"], content["epochs"], content["images"]["test"]) == (4, 2, 100)
    assert content["limited"] == {"train_batches": 0.4, "val_batches": 1, "test_batches": 2}
    assert content["protocol"].startswith("limited to train_batches=0.4, val_batches=1, test_batches=2, so no score")
    assert re.search(r"limited to +train_batches=0\.4", caplog.text)


def test_limits_that_take_nothing_are_none(tmp_path: Path) -> None:
    config = as_train(
        resolve(compose_config([*TINY, "trainer.limit_train_batches=1.0", "trainer.limit_val_batches=99"]))
    )
    epoch = Epoch.of(config.trainer, make_data(config))
    assert (epoch.limited, epoch.batches, epoch.steps, epoch.val_images, epoch.test_images) == ({}, 5, 5, 180, 359)
    config.trainer.limit_val_batches = config.trainer.limit_test_batches = 0.1  # one of one batch, not none
    epoch = Epoch.of(config.trainer, make_data(config))
    assert (epoch.limited, epoch.val_batches, epoch.val_images, epoch.test_batches) == ({}, 1, 180, 1)


SIZE = ["model.embed_dim=32", "model.depth=1", "model.stem.depth=2", "model.stem.grid=8"]


def debugged(directory: Path, *settings: str) -> dict:
    """The summary of a run with `debug=`; those settings of the other tests that it sets are left to it."""
    directory.mkdir(exist_ok=True)
    train(as_train(resolve(compose_config(["data=digits", "accelerator=cpu", *SIZE, *settings]))), directory)
    return summary(directory)


def test_debug_fast(tmp_path: Path) -> None:
    content = debugged(tmp_path, "debug=fast", "data.eval_batch_size=100")
    assert (content["state"], content["steps"], content["images"]["test"]) == ("done", 2, 100)
    assert content["limited"] == {"val_batches": 1, "test_batches": 1}


def test_debug_overfit_learns_its_images(tmp_path: Path) -> None:
    assert debugged(tmp_path, "debug=overfit", "optim.lr=3e-3")["images"]["train"] == 13
    last = rows(tmp_path)[-1]
    assert float(last["train_top1"]) == 100 and float(last["train_loss"]) < 0.1
    model = json.loads((tmp_path / "model.json").read_text())["model"]
    assert {model[key] for key in model if "drop" in key} == {0.0}


def test_debug_limit(tmp_path: Path) -> None:
    content = debugged(tmp_path, "debug=limit", "epochs=1", "batch_size=32", "logger=none")
    assert content["steps"] == 4  # of 40 batches
    assert content["limited"] == {"train_batches": 0.1}  # the others have one batch


def test_debug_profiler(tmp_path: Path) -> None:
    content = debugged(tmp_path, "debug=profiler", "batch_size=16")
    assert content["steps"] == 50
    assert "optimizer_step" in (tmp_path / "fit-profile.txt").read_text()


def test_debug_wins_over_an_experiment() -> None:
    spec = resolve(compose_config(["experiment=run_192", "debug=overfit"]))
    assert spec["augment"] == resolve(compose_config(["augment=none"]))["augment"]
    assert (spec["epochs"], spec["name"]) == (60, "run_192")


def test_a_training_that_gets_no_better_ends_and_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = ["early_stopping.patience=2", "early_stopping.min_delta=9", "epochs=30"]  # no loss falls by so much
    monkeypatch.setattr("hybrid_vit.training.run.score", lambda *arguments, **options: stop())
    with pytest.raises(Stopped):
        run(tmp_path, *settings)
    monkeypatch.undo()
    run(tmp_path, *settings, resume=True)  # is only scored
    content = summary(tmp_path)
    assert (content["state"], content["steps"], content["epochs"], len(rows(tmp_path))) == ("done", 15, 3, 3)
    assert content["stopped_early"].startswith("val_loss was not better than")
    assert content["stopped_early"].endswith("for 2 epochs (early_stopping)")
    assert "training ended after 15 of 150 steps: val_loss" in caplog.text
    assert "test_top1" in content["scores"]


def test_early_stopping_needs_validation_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"early_stopping\.patience needs validation images"):
        run(tmp_path, "early_stopping.patience=2", "data.val_size=0")


def test_callbacks_by_name_and_as_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Steps(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *arguments) -> None:
            seen.append([type(callback).__name__ for callback in trainer.callbacks])

    monkeypatch.chdir(tmp_path)
    settings = dict(text.split("=") for text in [*TINY, "steps=6"])
    hybrid_vit.fit(callbacks=[Steps(), "Timer"], **settings | {"hydra.run.dir": tmp_path / "run"})
    assert len(seen) == 6 and {"Steps", "Timer"} <= {*seen[0]}


@pytest.mark.parametrize("first", ["steps=8", "epochs=2"])
def test_a_run_that_is_done_is_lengthened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """Five steps an epoch. One that ended in mid-epoch does not go back into it: the next epoch begins."""
    monkeypatch.chdir(tmp_path)
    rates: list[float] = []

    class Rates(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, task: Classification, *arguments) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])
            self.schedule, self.last = task.schedule, trainer.max_epochs

    watch = Rates()
    settings = dict(text.split("=") for text in [*(text for text in TINY if "epochs=" not in text), first])
    hybrid_vit.fit(**settings | {"hydra.run.dir": "run"})
    made = summary(tmp_path / "run")["steps"]
    if first == "epochs=2":
        for key, few in (("epochs", 2), ("steps", 9)):
            with pytest.raises(
                ValueError, match=rf"{key}={few} is not longer than .*run, which has (2 epochs|10 steps)"
            ):
                hybrid_vit.fit(resume="run", **{key: few})
        assert summary(tmp_path / "run")["state"] == "done"
    hybrid_vit.fit(callbacks=[watch], resume="run", steps=20)
    content = summary(tmp_path / "run")
    assert (content["state"], content["steps"], content["epochs"], content["lengthened"]) == ("done", 20, 4, [made])
    assert rates == pytest.approx([4e-4 * watch.schedule.factor(n / 5) for n in range(made, 20)])
    assert watch.schedule.epochs == 4
    assert (int(rows(tmp_path / "run")[-1]["step"]), watch.last) == (20, 5 if first == "steps=8" else 4)
    assert load_run_config(tmp_path / "run")["steps"] == 20


def test_tags_and_what_is_said_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run(tmp_path / "brief", "steps=6", "tags=[short,'a b']")
    assert summary(tmp_path / "brief")["tags"] == ["short", "a b"]
    parameters = summary(tmp_path / "brief")["parameters"]
    assert f"hybrid_192: {parameters:,} parameters, " in caplog.text
    assert "images: 252 train, 359 test, 180 val; 6 steps" in caplog.text
    assert "label_smoothing: 0.05" not in caplog.text
    run(tmp_path / "verbose", "steps=6", "verbose=true")
    assert "label_smoothing: 0.05" in caplog.text
    assert "net.blocks" in caplog.text and "Trainable params" in caplog.text
