"""A run that was interrupted, killed or done, and goes on: it is the run that never was interrupted."""

import json
import math
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import forked
import lightning.pytorch as pl
import pytest
import torch
from commands import main
from lightning.pytorch import Callback
from small_runs import TINY, assert_same_run, no_pictures, rows, run, summary
from stopping import OneEpoch
from torch.multiprocessing import ProcessExitedException

import hybrid_vit
from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.config.saved import load_run_config
from hybrid_vit.training.callbacks import LAST, Keeper, Stopped, latest
from hybrid_vit.training.run import train
from hybrid_vit.training.task import Classification

pytestmark = pytest.mark.usefixtures("without_pictures")


def interrupted_by(number: signal.Signals) -> Callable[[Classification], None]:
    def interrupt(task: Classification) -> None:
        if task.global_step == 7:  # the third step of the second epoch
            signal.raise_signal(number)

    return interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_and_resume_continues(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    step, interrupt = Classification.training_step, interrupted_by(number)

    def training_step(task: Classification, batch, batch_idx: int):
        interrupt(task)
        return step(task, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", training_step)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with pytest.raises(Stopped, match=number.name):
        run(tmp_path)
    monkeypatch.undo()
    assert summary(tmp_path)["state"] == "stopped"
    assert [row["epoch"] for row in rows(tmp_path)] == ["0"]
    torch.manual_seed(time.time_ns() % 1000)  # nothing may depend on what the process drew before
    run(tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def test_a_signal_in_the_last_step_stops_as_well(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Classification.training_step

    def training_step(task: Classification, batch, batch_idx: int):
        if task.global_step == 14:
            signal.raise_signal(signal.SIGTERM)
        return step(task, batch, batch_idx)

    monkeypatch.setattr(Classification, "training_step", training_step)
    with pytest.raises(Stopped, match="SIGTERM"):
        run(tmp_path)
    monkeypatch.undo()
    run(tmp_path, resume=True)  # only scores
    assert_same_run(whole, tmp_path)


def test_a_signal_that_ends_a_worker_first_stops_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def training_step(task: Classification, batch, batch_idx: int):
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

    monkeypatch.setattr(Classification, "training_step", training_step)
    with pytest.raises(Stopped, match="SIGTERM"):
        run(tmp_path)
    assert summary(tmp_path)["state"] == "stopped"


def test_a_signal_after_the_time_is_over_is_the_first_one(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, steps=1, every_minutes=1, max_seconds=None, ended=lambda: None)
    keeper.reason = "trainer.max_time of 1 s"  # in the last step of an epoch, which is saved after its validation
    keeper._on_signal(signal.SIGTERM, None)
    assert keeper.reason == "SIGTERM"


class Impatient(Callback):
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_before_the_first_step(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, callbacks=[Impatient()])
    assert signal.getsignal(signal.SIGINT) is before
    assert summary(tmp_path)["state"] == "stopped"


def test_a_run_that_continues_elsewhere_says_where_it_began(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(Stopped):
            run(tmp_path, "trainer.max_time=0.001s", resume=(tmp_path / "summary.json").exists())
        before = summary(tmp_path)
    assert "earlier" not in before  # the same machine and code
    (tmp_path / "summary.json").write_text(json.dumps(before | {"device": "another", "commit": None}))
    run(tmp_path, resume=True)
    (earlier,) = summary(tmp_path)["earlier"]
    assert (earlier["device"], earlier["commit"], earlier["versions"]) == ("another", None, before["versions"])
    assert summary(tmp_path)["device"] == before["device"]


class Pressed(Callback):
    """Ctrl-C twice within a step."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch, batch_idx: int) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)


def test_a_second_interrupt_leaves_the_process_alive(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, callbacks=[Pressed()])
    assert signal.getsignal(signal.SIGINT) is before
    assert summary(tmp_path)["state"] == "stopped"
    assert torch.load(tmp_path / "checkpoints" / LAST, weights_only=True)["global_step"] == 0  # without another one


def test_the_first_process_of_another_machine_only_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_RANK", "1")
    assert math.isnan(run(tmp_path, "steps=1", "optim.warmup_epochs=0"))
    reported = {"summary.json", "model.json", "model.safetensors"}
    assert not reported & {path.name for path in tmp_path.iterdir()}


def test_it_continues_with_the_augmentation_that_it_would_have_had(tmp_path: Path) -> None:
    run(tmp_path / "whole", "augment=document")
    with pytest.raises(Stopped):
        run(tmp_path / "run", "augment=document", "trainer.max_time=0.001s")
    run(tmp_path / "run", "augment=document", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_summary_of_the_wrong_type_is_one_sentence(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "summary.json").write_text('{"state": 5, "steps": "x"}')
    with pytest.raises(ValueError, match=r"summary\.json cannot be read .it has no number of steps.; start a new run"):
        run(tmp_path, resume=True)
    (tmp_path / "summary.json").write_text("")
    with pytest.raises(ValueError, match=r"summary\.json cannot be read .*; copy it again from the original"):
        hybrid_vit.load(tmp_path)


def test_weights_are_kept_when_scoring_fails(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def truncated(*arguments, **options):
        raise ValueError("a.png cannot be read")

    monkeypatch.setattr("hybrid_vit.training.run.score_test_set", truncated)
    with pytest.raises(ValueError, match=r"a\.png"):
        run(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    monkeypatch.undo()
    run(tmp_path, resume=True)  # only scores
    assert_same_run(whole, tmp_path)


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


CHANGES = {
    grown: r"\d+ more training images",
    swapped: "(more|fewer|other) training images",
    renamed: "other classes .without cat; with lion.",
}


def test_a_run_continues_on_its_own_data_only(picture_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(picture_root, tmp_path / "pictures")
    settings = [*FOLDER, f"data.root={root}"]
    with pytest.raises(Stopped):
        run(tmp_path / "run", *settings, "trainer.max_time=0.001s")
    before = (tmp_path / "run" / "model.json").read_bytes()
    for change, said in CHANGES.items():
        change(root)
        refused = f"the data has changed since .*run began: .*{said}.*; restore that data"
        with pytest.raises(ValueError, match=refused):
            run(tmp_path / "run", *settings, resume=True)
        assert (tmp_path / "run" / "model.json").read_bytes() == before
        shutil.rmtree(root)
        shutil.copytree(picture_root, root)
    run(tmp_path / "run", *settings, resume=True)
    assert summary(tmp_path / "run")["state"] == "done"


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


def killed_in_the_second_epoch(number: int, directory: str) -> None:
    torch.set_num_threads(1)
    step = Classification.training_step

    def training_step(task: Classification, batch, batch_idx: int):
        if task.global_step == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(task, batch, batch_idx)

    Classification.training_step = training_step  # type: ignore[method-assign]
    with no_pictures():
        main(*TINY, "checkpoint_minutes=1e-9", f"hydra.run.dir={directory}")


def test_sigkill_in_mid_epoch_and_resume_continues(whole: Path, tmp_path: Path) -> None:
    """A process that is killed has no last word: what counts is the last checkpoint by time."""
    killed = tmp_path / "killed"
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        forked.run(killed_in_the_second_epoch, str(killed))
    assert summary(killed)["state"] == "running"
    assert torch.load(killed / "checkpoints" / LAST, weights_only=True)["global_step"] == 7
    assert main(f"resume={killed}") == 0
    assert_same_run(whole, killed)


def test_a_checkpoint_of_another_model_is_one_sentence(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, callbacks=[OneEpoch()])
    with pytest.raises(ValueError, match=r"last\.ckpt holds the weights of another model"):
        run(tmp_path, "model.depth=2", resume=True)


def test_nothing_is_kept_within_a_step(tmp_path: Path) -> None:
    """7 batches in steps of 3: the run is stopped in its second batch, and stops after the first step."""
    settings = ["data.fraction=0.35", "batch_size=64", "trainer.accumulate_grad_batches=3", "epochs=2"]

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
    assert summary(tmp_path / "whole")["steps"] == 2 * 3
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("first", ["steps=8", "epochs=2"])
def test_a_run_that_is_done_is_lengthened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """Five steps an epoch. One that ended in mid-epoch does not go back into it: the next epoch begins."""
    monkeypatch.chdir(tmp_path)
    rates: list[float] = []

    class Rates(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, task: Classification, *arguments) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])
            self.schedule, self.last, self.temperature = task.schedule, trainer.max_epochs, temperature()

    def temperature() -> float:
        return json.loads((tmp_path / "run" / "model.json").read_text())["temperature"]

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
    before = temperature()
    hybrid_vit.fit(callbacks=[watch], resume="run", steps=20)
    assert watch.temperature == before != temperature()  # while it trains, that of the weights that are there
    content = summary(tmp_path / "run")
    assert (content["state"], content["steps"], content["epochs"], content["lengthened"]) == ("done", 20, 4, [made])
    assert rates == pytest.approx([4e-4 * watch.schedule.factor(n / 5) for n in range(made, 20)])
    assert watch.schedule.epochs == 4
    assert (int(rows(tmp_path / "run")[-1]["step"]), watch.last) == (20, 5 if first == "steps=8" else 4)
    assert load_run_config(tmp_path / "run")["steps"] == 20
